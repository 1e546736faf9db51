"""One output tree of kbuild: configure it, build the image, say what came of it.

A tree is kept warm between variants. It is locked while in use, and the lock is shared with every
process that make starts, so a tree is never used while something left over still writes to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from optimizer.errors import MachineFault, UserError
from optimizer.kernel import elf
from optimizer.kernel.binutils import symbol_lister
from optimizer.kernel.kconfig import config_digest
from optimizer.kernel.objects import ObjectCounts, ObjectStore
from optimizer.process import LOCK_NAME, Completed, Deadline, FolderLock, run_logged
from optimizer.records import BuildResult
from optimizer.settings import KernelSettings

# Whatever kbuild would stamp into the image, fixed, so that one configuration is one image.
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "2011-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "memtotal",
    "KBUILD_BUILD_HOST": "memtotal",
    "KBUILD_BUILD_VERSION": "1",
}
_COMPILED = re.compile(r"^  (?:CC|AS|HOSTCC)(?: \[M\])?\s+(\S+\.o)")
_TELLING = re.compile(
    r"error:|undefined reference|will not fit|overflowed|\bError \d|No rule to make|not clean|"
    r"Restart config|Console input/output",
    re.I,
)
_MACHINE = re.compile(
    r"No space left on device|Cannot allocate memory|virtual memory exhausted|"
    r"Killed signal terminated program|Disk quota exceeded|Input/output error|"
    r"Read-only file system|\bKilled\b|[Cc]annot fork|Resource temporarily unavailable"
)
# conf has a question, and nobody answers.
_INCOMPLETE = re.compile(r"Restart config|Console input/output is redirected")
_UNCLEAN = re.compile(r"source tree is not clean|please run '?make.* mrproper")
_MARKER = ".building"
_OBJECTS_LOG = ".objects.log"
LEFT_OVER_SECONDS = 5.0


class BuildTree:
    """An output folder of kbuild (``make O=``), locked until it is closed. Made by :meth:`open`."""

    def __init__(
        self,
        settings: KernelSettings,
        lock: FolderLock,
        env: Mapping[str, str],
        jobs: int,
        objects: ObjectStore | None = None,
    ) -> None:
        self.folder = lock.folder
        self._objects = objects
        self._settings = settings
        self._env = dict(env) | REPRODUCIBLE
        self._jobs = jobs
        self._lock = lock
        # What the kernel's tools put above a .config, once olddefconfig was seen to change nothing
        # else. Then it is not run again, a second a build: make itself has conf look the .config
        # over (syncconfig) when it is newer than what was made of it.
        self._heading: str | None = None
        self._variables = dict(settings.make_variables)
        if "LLVM" not in self._variables:
            self._variables.setdefault("NM", symbol_lister(settings.cross_compile, env))
        self._recover()

    @classmethod
    def open(
        cls,
        settings: KernelSettings,
        folder: Path,
        env: Mapping[str, str],
        jobs: int,
        objects: ObjectStore | None = None,
    ) -> BuildTree | None:
        """Lock an output folder.

        Args:
            settings: the kernel's part of the study.
            folder: the output folder; made when missing.
            env: environment for make.
            jobs: parallel compilers (``make -j``).
            objects: where compiled objects are taken from; None: everything is compiled.

        Returns:
            None when another process uses it. What a killed run left over goes on for a moment,
            so a tree is given up only after some seconds.

        Raises:
            MachineFault: the folder cannot be written.
        """
        lock = FolderLock(folder)
        if not lock.acquire(Deadline(LEFT_OVER_SECONDS)):
            return None
        return cls(settings, lock, env, jobs, objects)

    def close(self) -> None:
        """Give the tree back."""
        self._lock.release()

    def empty(self) -> None:
        """Remove everything but the lock.

        Raises:
            MachineFault: something cannot be removed.
        """
        try:
            for path in self.folder.iterdir():
                if path.name == LOCK_NAME:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        except OSError as error:
            raise MachineFault(f"{self.folder} cannot be emptied: {error}.") from error

    @property
    def device_tree(self) -> Path:
        """Where the compiled device tree is, once :meth:`build_device_tree` made it."""
        # The kernel moved device trees into folders by vendor in 6.5.
        boot = self.folder / "arch" / self._settings.arch / "boot" / "dts"
        return next(iter(sorted(boot.rglob(Path(self._settings.device_tree).name))), boot)

    def configure(
        self, config: str, log: Path, deadline: Deadline, cancel: threading.Event | None = None
    ) -> str:
        """Write the .config and have the kernel's own ``olddefconfig`` complete it.

        Returns:
            The .config as the kernel's tools left it.

        Raises:
            UserError: the source tree cannot be built out of tree.
            MachineFault: make failed for the machine's reasons.
        """
        self._put_config(config)
        done, seen = self._make("olddefconfig", log, deadline, cancel, None)
        if done.returncode != 0:
            raise MachineFault(
                f"make olddefconfig failed in {self.folder}: {' / '.join(seen[-3:])}", f"See {log}."
            )
        return self._text(self.folder / ".config") or ""

    def _put_config(self, config: str) -> None:
        """Write the .config, unless one with the same settings is there: make looks at its time."""
        target = self.folder / ".config"
        there = self._text(target)
        if there is None or config_digest(there) != config_digest(config):
            self._write(target, config)

    def build(
        self,
        config: str,
        log: Path,
        *,
        on_object: Callable[[int], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> BuildResult:
        """Configure and build the image.

        Args:
            config: a whole .config.
            log: file that everything make prints is appended to.
            on_object: called with the number of objects compiled so far.
            cancel: set to give up.

        Returns:
            The result; a variant that does not compile or link is a result with ``ok`` False.

        Raises:
            UserError: the source tree cannot be built out of tree.
            MachineFault: disk full, out of memory and the like.
        """
        started = time.monotonic()
        deadline = Deadline(self._settings.build_timeout_seconds)
        # A build that ended in a fault of the machine (disk full) left its marker too.
        self._recover()
        marker = self.folder / _MARKER
        self._write(marker, "")
        if self._heading is None:
            used = self.configure(config, log, deadline, cancel)
            if used.endswith(config):
                self._heading = used.removesuffix(config)
        else:
            self._put_config(self._heading + config)
        compiled: set[str] = set()

        def look(line: str) -> None:
            if (match := _COMPILED.match(line)) and match.group(1) not in compiled:
                compiled.add(match.group(1))
                if on_object is not None:
                    on_object(len(compiled))

        image = self.folder / self._settings.image
        objects_log = self.folder / _OBJECTS_LOG
        objects_log.unlink(missing_ok=True)
        done, seen = self._make(self._settings.target, log, deadline, cancel, look)
        if done.returncode != 0 and any(map(_INCOMPLETE.search, seen)):
            self.configure(config, log, deadline, cancel)
            done, seen = self._make(self._settings.target, log, deadline, cancel, look)
        ok = done.returncode == 0 and image.is_file() and not done.cancelled
        if not done.cancelled and not done.timed_out:
            marker.unlink(missing_ok=True)
        else:
            self._recover()
        vmlinux = self.folder / "vmlinux"
        counts = ObjectCounts() if self._objects is None else self._objects.finish(objects_log)
        return BuildResult(
            ok=ok,
            seconds=time.monotonic() - started,
            objects=len(compiled) + counts.kept,
            log=log,
            config_text=self._text(self.folder / ".config") or "",
            image=image if ok else None,
            image_bytes=image.stat().st_size if ok else 0,
            image_sha256=hashlib.sha256(image.read_bytes()).hexdigest() if ok else "",
            vmlinux_bytes=vmlinux.stat().st_size if ok else 0,
            sections=elf.section_sizes(vmlinux) if ok else {},
            errors=() if ok else tuple(seen[-12:]),
            timed_out=done.timed_out,
            reused=counts.reused,
            unlike=ObjectStore.unlike(objects_log),
        )

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of what the last build left: path in this folder -> hexadecimal digest.

        vmlinux, the image and every object, those of options that are off now included. What kbuild
        makes for itself (scripts, tools) is left out.

        Raises:
            MachineFault: a file cannot be read.
        """
        found: dict[str, str] = {}
        try:
            for path in _files(self.folder):
                inside = path.relative_to(self.folder)
                if inside.parts[0] in ("scripts", "tools") or inside.name.startswith("."):
                    continue
                name = str(inside)
                if path.suffix == ".o" or name in ("vmlinux", self._settings.image):
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise MachineFault(f"{self.folder} cannot be read: {error}.") from error
        return found

    def build_device_tree(self, log: Path) -> Path | None:
        """Compile the board's device tree; it does not depend on the variant.

        Returns:
            The .dtb; None when the study names no device tree.

        Raises:
            UserError: the tree has no such device tree.
        """
        if not self._settings.device_tree:
            return None
        deadline = Deadline(self._settings.build_timeout_seconds)
        target = device_tree_target(self._settings)
        done, seen = self._make(target, log, deadline, None, None)
        if done.returncode != 0:
            raise UserError(
                f"{self._settings.device_tree} cannot be built: {' / '.join(seen[-3:])}",
                f"Correct 'device_tree' in the study; see {log}.",
            )
        return self.device_tree

    def _make(
        self,
        target: str,
        log: Path,
        deadline: Deadline,
        cancel: threading.Event | None,
        on_line: Callable[[str], None] | None,
    ) -> tuple[Completed, list[str]]:
        """Run make; returns how it ended and the telling lines of what it printed."""
        seen: list[str] = []

        def look(line: str) -> None:
            if _TELLING.search(line) or _MACHINE.search(line):
                seen.append(self._short(line))
            if on_line is not None:
                on_line(line)

        argv = [
            "make",
            "-C",
            str(self._settings.tree),
            f"O={self.folder}",
            f"ARCH={self._settings.arch}",
            f"CROSS_COMPILE={self._settings.cross_compile}",
            *(f"{name}={value}" for name, value in self._variables.items()),
            f"-j{self._jobs}",
            target,
        ]
        env = self._env
        launcher: tuple[str, ...] = ()
        if self._objects is not None:
            env = self._objects.environment(env, self.folder / _OBJECTS_LOG)
            launcher = self._objects.launcher
        done = run_logged(
            argv,
            log=log,
            env=env,
            cwd=self.folder,
            deadline=deadline,
            on_line=look,
            cancel=cancel,
            keep_open=(self._lock.fd,),
            launcher=launcher,
        )
        if done.returncode < 0 and not done.timed_out and not done.cancelled:
            raise MachineFault(f"make was killed by signal {-done.returncode}.", f"See {log}.")
        if done.returncode != 0 and not done.timed_out and not done.cancelled:
            for line in seen:
                if _MACHINE.search(line):
                    raise MachineFault(
                        f"The build failed for the machine's reasons: {line}", f"See {log}."
                    )
                if _UNCLEAN.search(line):
                    raise UserError(
                        f"{self._settings.tree} cannot be built out of tree: make ran in it once.",
                        f"Run: make -C {self._settings.tree} ARCH={self._settings.arch} mrproper",
                    )
        return done, seen

    def _short(self, line: str) -> str:
        """A line of make's output with paths as kernel people write them: from the tree's top."""
        for folder in (self._settings.tree, self.folder):
            line = line.replace(f"{folder}/", "")
        return line.strip()[:500]

    def _recover(self) -> None:
        """Remove what a build that was cut short may have left half written.

        An object that the assembler had not finished is newer than its sources, and the command
        recorded beside it is that of the build before, so make would believe it.
        """
        marker = self.folder / _MARKER
        if not marker.exists():
            return
        since = marker.stat().st_mtime_ns
        for path in _files(self.folder):
            inside = path.relative_to(self.folder)
            if inside.parts[0] in ("include", ".config", LOCK_NAME, _MARKER):
                continue
            if path.lstat().st_mtime_ns >= since:
                path.unlink(missing_ok=True)
        marker.unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise MachineFault(f"{path} cannot be written: {error}.", "Check the disk.") from error

    @staticmethod
    def _text(path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8")
        except OSError:
            return None


def device_tree_target(settings: KernelSettings) -> str:
    """The study's device tree as make knows it in this tree: ``versatile-pb.dtb`` lies in a folder
    by its vendor since Linux 6.5, ``arm/versatile-pb.dtb``.

    Where the tree has no source of it, or several, the name is what the study says.
    """
    name = settings.device_tree
    sources = settings.tree / "arch" / settings.arch / "boot" / "dts"
    source = Path(name).with_suffix(".dts")
    if (sources / source).is_file():
        return name
    found = list(sources.rglob(source.name))
    return str(found[0].relative_to(sources).with_suffix(".dtb")) if len(found) == 1 else name


def _files(folder: Path) -> Iterator[Path]:
    for root, _folders, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if not path.is_symlink():
                yield path
