"""Reuse of compiled objects between variants.

A stand-in with the compiler's own name (``native/``, compiled here by the host's compiler) comes
first in ``PATH`` while kbuild runs. It reduces each preprocessed unit to what its own code can
depend on and takes the object from a store when it was compiled from the same before. kbuild sees
the compiler's own name, so its records of commands are the same with and without reuse.

What identifies an entry: the reduced text, the options that are not the preprocessor's, the
object's path, and the compiler (its version and the files it consists of). A unit that the stand-in
does not understand is taken whole; a damaged entry is removed and its object compiled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import MachineFault
from optimizer.process import Deadline, FolderLock

NATIVE = Path(__file__).resolve().parent / "native"
HOST_COMPILER = "cc"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wno-deprecated-declarations")
# OpenSSL's SHA-256 alone is wanted; linked in, it costs no start-up time.
_LIBRARIES = (("-Wl,-Bstatic", "-lcrypto", "-Wl,-Bdynamic"), ("-lcrypto",))
BUILD_SECONDS = 300.0


@dataclass(frozen=True)
class ObjectCounts:
    """How the C objects of one build came about."""

    reused: int = 0
    compiled: int = 0


class ObjectStore:
    """A folder of compiled objects and the stand-in that fills and uses it. Made by :meth:`open`.

    Any number of builds and processes may use one folder at the same time.
    """

    def __init__(self, folder: Path, programs: Path, compiler: Path, identity: str) -> None:
        self._folder = folder
        self._programs = programs
        self._compiler = compiler
        self._identity = identity

    @classmethod
    def open(cls, cache: Path, cross_compile: str, env: Mapping[str, str]) -> ObjectStore | None:
        """Prepare reuse for one cross compiler.

        Args:
            cache: folder for the store (``objects``) and the compiled stand-in (``programs``).
            cross_compile: prefix of the compiler's name, as given to make.
            env: environment that make will have.

        Returns:
            None when the stand-in cannot come first: the compiler is not there, or it is given by
            a path (then ``PATH`` does not decide).

        Raises:
            MachineFault: the stand-in cannot be compiled, or the cache cannot be written.
        """
        name = f"{cross_compile}gcc"
        found = shutil.which(name, path=env.get("PATH"))
        if found is None or "/" in name:
            return None
        try:
            programs = _programs(cache / "programs", name, env)
            store = cache / "objects"
            store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineFault(f"{cache} cannot be written: {error}.", "Check the disk.") from error
        compiler = Path(found).absolute()
        return cls(store, programs, compiler, _identity(compiler, env))

    def environment(self, env: Mapping[str, str], log: Path) -> dict[str, str]:
        """The environment for make in which objects are reused.

        Args:
            env: the environment without reuse.
            log: file that gets one line an object, for :meth:`counts`.
        """
        return dict(env) | {
            "PATH": f"{self._programs}{os.pathsep}{env.get('PATH', os.defpath)}",
            "MEMTOTAL_OBJECTS": str(self._folder),
            "MEMTOTAL_COMPILER": str(self._compiler),
            "MEMTOTAL_IDENTITY": self._identity,
            "MEMTOTAL_OBJECTS_LOG": str(log),
        }

    @staticmethod
    def counts(log: Path) -> ObjectCounts:
        """What the log of one build says; all zero when there is none."""
        try:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ObjectCounts()
        done = Counter(line.partition(" ")[0] for line in lines)
        return ObjectCounts(done["reused"], done["compiled"] + done["compiled-whole"])


def _identity(compiler: Path, env: Mapping[str, str]) -> str:
    """What tells this compiler from another: its version and the files that do the work.

    Raises:
        MachineFault: the compiler does not run.
    """

    def ask(*options: str) -> str:
        try:
            said = subprocess.run(
                [str(compiler), *options], env=dict(env), capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise MachineFault(
                f"{compiler} does not run: {error}.", "Run: memtotal doctor"
            ) from error
        return said.stdout.strip()

    digest = hashlib.sha256(ask("-v", "--version").encode())
    for program in (str(compiler), *(ask(f"-print-prog-name={name}") for name in ("cc1", "as"))):
        path = Path(shutil.which(program, path=env.get("PATH")) or program)
        try:
            about = path.stat()
        except OSError as error:
            raise MachineFault(f"{path} cannot be read: {error}.") from error
        digest.update(f"{path.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _programs(folder: Path, name: str, env: Mapping[str, str]) -> Path:
    """The folder with the stand-in under the compiler's name, compiled when its source is new.

    Raises:
        MachineFault: it cannot be compiled.
    """
    sources = sorted(NATIVE.glob("*.[ch]"))
    digest = hashlib.sha256("\0".join(_FLAGS).encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    home = folder / digest.hexdigest()[:16]
    program, links = home / "memtotal-cc", home / "bin"
    if not (links / name).exists():
        lock = FolderLock(home)
        if not lock.acquire(Deadline(BUILD_SECONDS)):
            raise MachineFault(f"Another process has been compiling in {home} for too long.")
        try:
            if not program.exists():
                _compile([source for source in sources if source.suffix == ".c"], program, env)
            links.mkdir(exist_ok=True)
            if not (links / name).exists():
                (links / name).symlink_to(program)
        finally:
            lock.release()
    return links


def _compile(sources: list[Path], program: Path, env: Mapping[str, str]) -> None:
    half = program.with_suffix(".part")
    said = ""
    for libraries in _LIBRARIES:
        argv = [HOST_COMPILER, *_FLAGS, "-o", str(half), *map(str, sources), *libraries]
        try:
            done = subprocess.run(argv, env=dict(env), capture_output=True, text=True, check=False)
        except OSError as error:
            raise MachineFault(
                f"{HOST_COMPILER} does not run: {error}.", "Run `make setup`, or install gcc."
            ) from error
        if done.returncode == 0:
            half.replace(program)
            return
        said = said or done.stderr.strip()
    raise MachineFault(
        f"The compiler's stand-in cannot be compiled: {said.splitlines()[-1] if said else argv}.",
        "Install libssl-dev, or set reuse_objects = false under [kernel] in the study.",
    )
