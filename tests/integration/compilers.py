"""The stand-in for the cross compiler, and the compiler itself, on sources of a few lines."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from optimizer.kernel.objects import ObjectStore
from optimizer.settings import environment
from tests.standin import put_stand_in

PREFIX = "arm-linux-gnueabi-"
# What of the kernel's own options decides how much the compiler may assume.
OPTIONS = (
    *("-nostdinc", "-std=gnu11", "-O2", "-fno-strict-aliasing", "-fno-common", "-marm"),
    "-march=armv5te",
)


@dataclass(frozen=True)
class Compiled:
    """An object, and whether the stand-in says that it was in the store."""

    reused: bool
    bytes: bytes
    log: str


class Bench:
    """A folder with a store of its own, in which one source is compiled again and again."""

    def __init__(self, folder: Path, cache: Path, compares: bool | None = None) -> None:
        """``compares``: every unit is compared with what the compiler reads, or none; None: as in a
        build, each once and then some.
        """
        self.folder = folder
        self._compares = (
            {} if compares is None else {"MEMTOTAL_OBJECTS_COMPARE": str(int(compares))}
        )
        if not cache.exists():
            put_stand_in(cache)
        store = ObjectStore.open(cache, PREFIX, environment())
        assert store is not None
        self.objects = store
        self.server = ""  # the name of one that the stand-in may ask
        self._log = folder / "objects.log"
        (folder / "head.h").write_text("")

    @property
    def environment(self) -> dict[str, str]:
        """In which the stand-in comes first."""
        made = self.objects.environment(environment(), self._log)
        return made | self._compares | {"MEMTOTAL_SERVER": self.server}

    def compile(self, source: str, *options: str) -> Compiled:
        """Compile with reuse, as kbuild calls the compiler: with a list of headers asked for."""
        self._log.unlink(missing_ok=True)
        self._write(source)
        subprocess.run(self._command("unit.o", "-Wp,-MMD,.unit.o.d", *options), cwd=self.folder,
                       env=self.environment, check=True)  # fmt: skip
        log = self._log.read_text() if self._log.exists() else ""
        return Compiled(log.startswith("reused "), (self.folder / "unit.o").read_bytes(), log)

    def really_compile(self, source: str, *options: str) -> bytes:
        """What the compiler alone makes of it."""
        self._write(source)
        subprocess.run(self._command("real.o", *options), cwd=self.folder, env=environment(),
                       check=True)  # fmt: skip
        return (self.folder / "real.o").read_bytes()

    def _write(self, source: str) -> None:
        (self.folder / "unit.c").write_text(source)

    @staticmethod
    def _command(target: str, *options: str) -> list[str]:
        return [f"{PREFIX}gcc", *OPTIONS, *options, "-c", "-o", target, "unit.c"]


class Server:
    """The server of a build, with a program that just waits in make's place."""

    def __init__(self, bench: Bench, jobs: int = 1) -> None:
        waits = ["sh", "-c", 'echo "$MEMTOTAL_SERVER"; exec cat', "make", f"-j{jobs}"]
        self.process = subprocess.Popen([*bench.objects.launcher, *waits], cwd=bench.folder,
                                        env=bench.environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert self.process.stdout is not None
        bench.server = self.process.stdout.readline().strip()
        assert bench.server

    def reader(self) -> int:
        """The process that preprocesses."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for child in children.split():
            if b"--serve" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        raise AssertionError("there is no reader")

    def end(self) -> int:
        """What the whole ended with, after the program beside it did."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout=20)
