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

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        if not cache.exists():
            put_stand_in(cache)
        store = ObjectStore.open(cache, PREFIX, environment())
        assert store is not None
        self.objects = store
        self._log = folder / "objects.log"
        (folder / "head.h").write_text("")

    def compile(self, source: str, *options: str) -> Compiled:
        """Compile with reuse, as kbuild calls the compiler: with a list of headers asked for."""
        env = self.objects.environment(environment(), self._log)
        self._log.unlink(missing_ok=True)
        self._write(source)
        subprocess.run(self._command("unit.o", "-Wp,-MMD,.unit.o.d", *options), cwd=self.folder,
                       env=env, check=True)  # fmt: skip
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
