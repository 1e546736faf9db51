"""Reuse of compiled objects between variants.

A stand-in with the compiler's own name (``native/``, compiled here by the host's compiler) comes
first in ``PATH`` while kbuild runs. It preprocesses each unit, reduces it to what its own code can
depend on, and takes the object from a store when it was compiled from the same before. kbuild sees
the compiler's own name, so its records of commands are the same with and without reuse.

What has to be compiled is compiled from what the unit was reduced to, written as C. So what is
stored under a name was compiled from what the name stands for.

Most of the time that reuse costs is preprocessing, so the stand-in does it itself, for what kernels
use of C; all else is the compiler's. The first time that a unit is compiled, and one time in 64
from then on, the compiler preprocesses it too, and the tokens are compared; one time in 64 it
compiles the whole unit too, and the objects are compared. An object whose tokens were others once
(``preprocessed``) is preprocessed by the compiler for good; one that was another itself is
``distrusted``, and compiled as it is written.

Of a structure in which members are used, what comes before them counts only by its size. So where
the members are is computed (``layouts.c``), as the compiler says that it places them; and what it
compiles has assertions of every offset that stands in the entry's name. (Whoever finds the entry
later has only computed its own.) When that does not compile without a word, nothing is stored, and
the object is ``unplaced``: from then on the text of the members counts, and it is compiled as it is
written.

A unit's headers are a thousand others' too. So a server runs beside make (``server.c``): it keeps
what each stretch of a header gave and gives it again to the next unit, where all macros that the
stretch asks for are what they were (``stretches.c``). Whoever gets no answer works alone. Before
make asks for the first object, the server looks for those in the tree that would come out as they
are, and marks them as made since (``lookahead.c``): for these make starts nothing at all. Of the
five hundred folders that kbuild starts a make for, those in which nothing changes are left out:
another stand-in comes before make (``walk.c``, ``settled.c``).

What identifies an entry: the reduced text, the options that are not the preprocessor's, the
object's path, the stand-in's own source, and the compiler (its version and its files). A unit that
the stand-in does not understand is taken and compiled whole; a damaged entry is removed and its
object compiled.

Before it compiles, a build asks the compiler a hundred times whether it takes an option. The
stand-in keeps these answers too (``probe.c``).

What reuse does not see: a fault in code that no unit uses. A clean build stops at it, a build that
reuses everything else does not; ``verify`` and audits build clean.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from optimizer.errors import MachineFault
from optimizer.process import Deadline, FolderLock

NATIVE = Path(__file__).resolve().parent / "native"
HOST_COMPILER = "cc"
MAKE = "make"
_PROGRAM = "memtotal-cc"
_WALK = ".walk"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wno-deprecated-declarations")
# It is started for each object: without a library to look for, a reused one takes a tenth less
# time. Of OpenSSL, SHA-256 alone is wanted. A host without static libraries, or whose compiler has
# no such optimization, gets the plain one.
_LINKING = (("-flto", "-static", "-lcrypto"), ("-lcrypto",))
BUILD_SECONDS = 300.0
DEFAULT_GB = 5.0
# A store that is full is emptied to this part of its limit, so that it is not full again at once.
_KEPT_PART = 0.9
_BUILDS_BETWEEN_LOOKS = 20
_STALE_SECONDS = 3600.0
_STATISTICS = "statistics.json"
_DISTRUSTED = "distrusted"
_UNLIKE = "preprocessed"
_UNPLACED = "unplaced"
# Entries that are no objects: what the compiler said of itself and of options, and what was
# compiled before.
_NOTE = ".note"


@dataclass(frozen=True)
class ObjectCounts:
    """How the C objects of one build, or of many, came about.

    ``kept`` of the ``reused`` ones were in the tree already: make did not even ask for them.
    """

    reused: int = 0
    compiled: int = 0
    builds: int = 0
    kept: int = 0


@dataclass(frozen=True)
class StoreUsage:
    """What a store holds, and what it was good for since it was last cleared."""

    folder: Path
    entries: int
    bytes: int
    counts: ObjectCounts
    distrusted: tuple[str, ...]


class ObjectStore:
    """A folder of compiled objects and the stand-in that fills and uses it. Made by :meth:`open`.

    Any number of builds and processes may use one folder at the same time.
    """

    def __init__(
        self, folder: Path, programs: Path, compiler: Path, identity: str, limit_gb: float
    ) -> None:
        self._limit_bytes = int(limit_gb * 1e9)
        self._since_look = 0
        self._folder = folder
        self._programs = programs
        self._compiler = compiler
        self._identity = identity

    @classmethod
    def open(
        cls,
        cache: Path,
        cross_compile: str,
        env: Mapping[str, str],
        limit_gb: float = DEFAULT_GB,
    ) -> ObjectStore | None:
        """Prepare reuse for one cross compiler.

        Args:
            cache: folder for the store (``objects``) and the compiled stand-in (``programs``).
            cross_compile: prefix of the compiler's name, as given to make.
            env: environment that make will have.
            limit_gb: size of the store in 10^9 bytes; least recently used entries go first.

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
            programs = _links(stand_in(cache / "programs", env), name)
            store = cache / "objects"
            store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineFault(f"{cache} cannot be written: {error}.", "Check the disk.") from error
        compiler = Path(found).absolute()
        # A stand-in of other source might reduce otherwise: what it finds must be its own.
        identity = f"{_identity(compiler, env)}-{_source_digest()}"
        opened = cls(store, programs, compiler, identity, limit_gb)
        trim(store, opened._limit_bytes)
        return opened

    def environment(self, env: Mapping[str, str], log: Path) -> dict[str, str]:
        """The environment for make in which objects are reused.

        Args:
            env: the environment without reuse.
            log: file that gets one line an object, for :meth:`counts`; in the output folder, where
                what is known of kbuild's walk is kept too.
        """
        make = shutil.which(MAKE, path=env.get("PATH")) or MAKE
        return dict(env) | {
            "MEMTOTAL_MAKE": str(Path(make).absolute()),
            "MEMTOTAL_WALK": str(log.with_name(_WALK)),
            "PATH": f"{self._programs}{os.pathsep}{env.get('PATH', os.defpath)}",
            "MEMTOTAL_OBJECTS": str(self._folder),
            "MEMTOTAL_COMPILER": str(self._compiler),
            "MEMTOTAL_IDENTITY": self._identity,
            "MEMTOTAL_OBJECTS_LOG": str(log),
        }

    @property
    def launcher(self) -> tuple[str, ...]:
        """What starts a build's make, in :meth:`environment`, with a server beside it that reads
        headers once for all units."""
        return (str(self._programs.parent.parent / _PROGRAM), "--serve")

    @staticmethod
    def counts(log: Path) -> ObjectCounts:
        """What the log of one build says; all zero when there is none."""
        logged = _logged(log)
        if not logged:
            return ObjectCounts()
        # What make asked for all the same, as its command was another, came about last.
        done = Counter({name: how for how, name in logged}.values())
        compiled = sum(done[one] for one in ("rewritten", "compiled", "compiled-whole", "unlike"))
        return ObjectCounts(done["reused"] + done["kept"], compiled, 1, done["kept"])

    @staticmethod
    def unlike(log: Path) -> tuple[str, ...]:
        """The objects of one build that came out otherwise when compiled from what their units were
        reduced to: from now on they are compiled as they are written."""
        return tuple(sorted({name for how, name in _logged(log) if how == "unlike"}))

    def finish(self, log: Path) -> ObjectCounts:
        """After a build: add what its log says to the statistics, and keep the store in its limit.

        Returns:
            What the log says.
        """
        counts = self.counts(log)
        if counts.reused + counts.compiled:
            _add(self._folder, counts)
        self._since_look += counts.compiled > 0
        if self._since_look >= _BUILDS_BETWEEN_LOOKS:
            self._since_look = 0
            trim(self._folder, self._limit_bytes)
        return counts

    def distrust(self, objects: Iterable[str]) -> None:
        """Never reuse these objects again: one of each was not what a clean build gives.

        Args:
            objects: paths in the output folder, such as ``kernel/fork.o``.

        Raises:
            MachineFault: it cannot be written down.
        """
        known = set(_distrusted(self._folder))
        try:
            with (self._folder / _DISTRUSTED).open("a", encoding="utf-8") as file:
                file.writelines(f"{one}\n" for one in sorted(set(objects) - known))
        except OSError as error:
            raise MachineFault(f"{self._folder} cannot be written: {error}.") from error


def _logged(log: Path) -> list[tuple[str, str]]:
    """How each object of a build came about, and its path; empty when there is no log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    words = (line.split(" ", 2) for line in lines)
    return [(each[0], each[1]) for each in words if len(each) > 1]


def stand_in(folder: Path, env: Mapping[str, str]) -> Path:
    """The stand-in's program, compiled when its source is new.

    Args:
        folder: of all stand-ins, each by the digest of its source.
        env: environment in which the host's compiler is found.

    Raises:
        MachineFault: it cannot be compiled.
    """
    home = folder / _source_digest()
    program = home / _PROGRAM
    if not program.exists():
        lock = FolderLock(home)
        if not lock.acquire(Deadline(BUILD_SECONDS)):
            raise MachineFault(f"Another process has been compiling in {home} for too long.")
        try:
            if not program.exists():
                _compile(sorted(NATIVE.glob("*.c")), program, env)
        finally:
            lock.release()
    return program


def _links(program: Path, compiler: str) -> Path:
    """The folder with the stand-in under the compiler's name and make's, and under no other: it
    comes first in ``PATH``, where the host's compiler must stay itself."""
    links = program.parent / "bin" / compiler
    for name in (compiler, MAKE):
        link = links / name
        if not link.exists():
            links.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process made it
                link.symlink_to(program)
    return links


def usage(cache: Path) -> StoreUsage:
    """What the store in a cache folder holds; nothing when there is none yet."""
    store = cache / "objects"
    entries = list(_entries(store))
    return StoreUsage(
        store,
        sum(path.suffix != _NOTE for path, _size, _used in entries),
        sum(size for _path, size, _used in entries),
        _statistics(store),
        _distrusted(store),
    )


def clear(cache: Path) -> int:
    """Remove every entry, the statistics and what was distrusted; returns the bytes freed.

    Builds under way go on: they find less to reuse.
    """
    store = cache / "objects"
    freed = 0
    for path, size, _used in list(_entries(store)):
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    for name in (_STATISTICS, _DISTRUSTED, _UNLIKE, _UNPLACED):
        (store / name).unlink(missing_ok=True)
    return freed


def trim(store: Path, limit_bytes: int) -> int:
    """Remove the least recently used entries of a store that is larger than its limit.

    Several processes may do it at once. Halves that killed writers left go too.

    Returns:
        The bytes removed.
    """
    entries = sorted(_entries(store), key=lambda one: one[2])
    stale = time.time() - _STALE_SECONDS
    total, removed = sum(size for _path, size, _used in entries), 0
    target = limit_bytes if total <= limit_bytes else int(limit_bytes * _KEPT_PART)
    for path, size, used in entries:
        is_half = path.suffix == ".part" and used < stale
        if total - removed > target or is_half:
            with contextlib.suppress(OSError):
                path.unlink()
                removed += size
    return removed


def _entries(store: Path) -> Iterator[tuple[Path, int, float]]:
    """(path, bytes, when last used) of everything in the store's folders."""
    try:
        folders = [one for one in os.scandir(store) if len(one.name) == 2]
    except OSError:
        return
    for folder in folders:
        with contextlib.suppress(OSError):  # somebody clears it
            for one in os.scandir(folder.path):
                with contextlib.suppress(OSError):
                    about = one.stat(follow_symlinks=False)
                    yield Path(one.path), about.st_size, about.st_mtime


def _distrusted(store: Path) -> tuple[str, ...]:
    try:
        return tuple((store / _DISTRUSTED).read_text(encoding="utf-8").split("\n")[:-1])
    except OSError:
        return ()


def _statistics(store: Path) -> ObjectCounts:
    try:
        read = json.loads((store / _STATISTICS).read_text(encoding="utf-8"))
        return ObjectCounts(**{name: int(read.get(name, 0)) for name in asdict(ObjectCounts())})
    except (OSError, ValueError, TypeError, AttributeError):
        return ObjectCounts()


def _add(store: Path, counts: ObjectCounts) -> None:
    """Statistics are for people to look at: when they cannot be written, nothing else fails."""
    lock = FolderLock(store)
    with contextlib.suppress(OSError, MachineFault):
        if lock.acquire(Deadline(2.0)):
            try:
                before = _statistics(store)
                total = ObjectCounts(
                    before.reused + counts.reused,
                    before.compiled + counts.compiled,
                    before.builds + counts.builds,
                    before.kept + counts.kept,
                )
                half = store / f"{_STATISTICS}.part"
                half.write_text(json.dumps(asdict(total)), encoding="utf-8")
                half.replace(store / _STATISTICS)
            finally:
                lock.release()


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


def _source_digest() -> str:
    digest = hashlib.sha256(repr((_FLAGS, _LINKING)).encode())
    for source in sorted(NATIVE.glob("*.[ch]")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _compile(sources: list[Path], program: Path, env: Mapping[str, str]) -> None:
    half = program.with_suffix(".part")
    said = ""
    for linking in _LINKING:
        argv = [HOST_COMPILER, *_FLAGS, "-o", str(half), *map(str, sources), *linking]
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
