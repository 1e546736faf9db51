"""A folder in which ``memtotal`` finds all it needs: a kernel tree, programs, a study, a cache."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.server import REPOSITORY, Server
from tests.standin import put_stand_in

FAKES = Path(__file__).resolve().parent
PATIENCE_SECONDS = 60.0
SERVER = Server()

BOARD = """\
emulator = "fake-emulator"
machine = "fakeboard"
memory_mb = 32
command_line = "console=ttyAMA0 rdinit=/init panic=-1 printk.time=1"
arguments = ["-drive", "if=pflash,format=raw,file={flash}"]
flash_bytes = 4096
prompt = "^# $"
boot_timeout_seconds = 20
silence_timeout_seconds = 4
"""

SUITE = """\
description = "What the fake board is for."

[[check]]
name = "arithmetic"
command = "echo $((6 * 7))"
expect = "^42$"

[[check]]
name = "network"
command = "feature INET"
expect = "^INET works$"
"""

STUDY = """\
initramfs = "initramfs.gz"
board = "fake"
smoke = ["board"]

[kernel]
tree = "linux"
arch = "arm"
cross_compile = "fake-"
defconfig = "test_defconfig"
image = "arch/arm/boot/zImage"
device_tree = "test.dtb"
build_timeout_seconds = 60

[options]
gate = ["EXPERT"]
keep = ["PRINTK", "PROC_FS", "BINFMT_ELF", "SERIAL_CONSOLE", "TIMER", "AEABI"]
leave = ["LOCALVERSION"]
turn_on = ["SLOB", "CC_OPTIMIZE_FOR_SIZE", "SLUB_TINY"]

[options.ranges]
LOG_BUF_SHIFT = [12, 14]
"""

# A compiler that never gives the same object twice.
UNSTEADY = """\
#!/bin/sh
gcc "$@" || exit
case "$*" in
*"-c -o kernel/printk.o "*)
    head -c 8 /dev/urandom >kernel/noise
    objcopy --add-section .noise=kernel/noise kernel/printk.o
    rm kernel/noise
    ;;
esac
"""


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - a document is what it is
        """Standard output as JSON."""
        return json.loads(self.out)


class Run:
    """A ``memtotal`` that is under way; its output goes to files in ``folder``."""

    def __init__(
        self, pid: int, folder: Path, child: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.pid = pid
        self._folder = folder
        self._child = child

    @property
    def said(self) -> str:
        """What it has printed so far, on both streams."""
        return self._read("out") + self._read("err")

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._child is not None:
            return self._child.poll()
        path = self._folder / "status"
        return int(path.read_text()) if path.exists() else None

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, and none to its children."""
        os.kill(self.pid, number)

    def ended(self, seconds: float = PATIENCE_SECONDS) -> Done:
        """Wait for its end, so long at most."""
        wait_until(
            lambda: self.code is not None, lambda: f"it still runs and said {self.said}", seconds
        )
        return Done(self.code or 0, self._read("out"), self._read("err"))

    def kill(self) -> None:
        """End it the hard way (kill -9) and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.ended()


class World:
    """All files of a study in one folder, and the command run on them.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.tree = folder / "linux"
        self.bin = folder / "bin"
        self.study = folder / "small.toml"
        self.board = folder / "boards" / "fake.toml"
        self.suite = folder / "smoke" / "board.toml"
        self.initramfs = folder / "initramfs.gz"
        self.cache = folder / "cache"
        self.results = folder / "results"
        self.database = self.results / "small" / "trials.db"
        self.extra: dict[str, str] = {}
        self._runs: list[Run] = []
        put_stand_in(self.cache)
        shutil.copytree(FAKES / "linux", self.tree)
        self.knobs = folder / "knobs"
        (self.knobs / "faults").mkdir(parents=True)
        shutil.copy(FAKES / "behaviour", self.knobs)
        for path, text in ((self.board, BOARD), (self.suite, SUITE), (self.study, STUDY)):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.initramfs.write_bytes(gzip.compress(b"070701 no files", mtime=0))
        self.bin.mkdir()
        for name in ("gcc", "ld", "nm", "objcopy", "ar"):
            self.program(f"fake-{name}", f'#!/bin/sh\nexec {name} "$@"\n')
        self._python("fake-kconf", "kconf.py", "")
        self._python("fake-emulator", "emulator.py", " -IS")

    def program(self, name: str, text: str) -> Path:
        """Put a program on the world's PATH, in place of one of that name."""
        path = self.bin / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    def _python(self, name: str, source: str, options: str) -> None:
        text = (FAKES / source).read_text(encoding="utf-8")
        self.program(name, f"#!{sys.executable}{options}\n{text}")
        shutil.copy(FAKES / "guest.sh", self.bin)

    # -- changing what is there --------------------------------------------------------------------

    def edit(self, path: Path, before: str, after: str) -> None:
        """Replace a text that the file has exactly once."""
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{path} has {before!r} {text.count(before)} times"
        path.write_text(text.replace(before, after), encoding="utf-8")

    def behave(self, line: str) -> None:
        """Add a line to what the emulator makes of an image."""
        with (self.knobs / "behaviour").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def fault(self, goal: str, script: str) -> Path:
        """A shell script that runs before make makes a goal; when it fails, so does the goal."""
        path = self.knobs / "faults" / goal
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script, encoding="utf-8")
        return path

    # -- the command -------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """Only this world: nothing of the user's cache or results can be reached."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONPATH": str(REPOSITORY),
            "MEMTOTAL_CACHE": str(self.cache),
            "MEMTOTAL_RESULTS": str(self.results),
        } | self.extra

    def memtotal(self, *arguments: object, code: int | None = 0) -> Done:
        """Run the command to its end.

        Args:
            arguments: its own.
            code: the exit code that it must end with; None when any will do.
        """
        done = self.start(*arguments).ended()
        assert code is None or done.code == code, f"exit code {done.code}\n{done.out}\n{done.err}"
        assert "Traceback" not in done.err, done.err
        return done

    def benchmark(self, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run one of the programs in tests/benchmarks to its end."""
        paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
        return subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
            env=self.environment | {"PYTHONPATH": paths, "COLUMNS": "140"},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def start(self, *arguments: object, fresh: bool = False) -> Run:
        """Run the command in the background.

        Args:
            arguments: its own.
            fresh: by an interpreter of its own, as a person's shell does.
        """
        folder = self.folder / f"command-{len(self._runs)}"
        folder.mkdir()
        out, err, status = folder / "out", folder / "err", folder / "status"
        argv = list(map(str, arguments))
        if fresh:
            with out.open("wb") as sink, err.open("wb") as errors:
                child = subprocess.Popen(
                    [sys.executable, "-c", "from optimizer.cli import main; main()", *argv],
                    env=self.environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=errors,
                )
            run = Run(child.pid, folder, child)
        else:
            pid = SERVER.start(argv, self.environment, self.folder, out, err, status)
            run = Run(pid, folder)
        self._runs.append(run)
        return run

    def close(self) -> None:
        """End what a test left running."""
        for run in self._runs:
            if run.code is None:
                run.kill()

    # -- what came of it ---------------------------------------------------------------------------

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the study's database; none as long as there is no such table."""
        if not self.database.exists():
            return []
        uri = f"{self.database.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error) or "unable to open" in str(error):
                    return []
                raise

    def outcomes(self) -> list[tuple[int, str]]:
        """(number, outcome) of every trial stored."""
        return [
            (row[0], row[1])
            for row in self.query("SELECT number, outcome FROM trials ORDER BY number")
        ]

    def trials(self) -> list[tuple[Any, ...]]:
        """What must repeat of every trial: all but times and paths."""
        return self.query(
            "SELECT t.number, t.outcome, t.sampler, t.objective, t.duplicate_of, t.reason, c.digest"
            " FROM trials t JOIN configs c ON c.id = t.config ORDER BY t.number"
        )

    def built(self) -> list[int]:
        """The trials whose log shows that make built an image."""
        logs = self.results.glob("*/logs/trial-*/build.log")
        return sorted(
            int(log.parent.name.removeprefix("trial-"))
            for log in logs
            if re.search(r"^\$ make .* zImage$", log.read_text(encoding="utf-8"), re.M)
        )

    def assert_sound(self) -> None:
        """The database is whole, and its trials are numbered without a gap or a repetition."""
        assert self.query("PRAGMA integrity_check") == [("ok",)]
        numbers = [number for number, _ in self.outcomes()]
        assert numbers == list(range(len(numbers)))

    def left_over(self) -> dict[int, str]:
        """Processes that have this world's programs on their PATH: pid -> command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if str(self.bin).encode() in (entry / "environ").read_bytes():
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(entry.name)] = line.decode(errors="replace")
        return found

    def assert_nothing_left(self) -> None:
        """No child of any run lives on."""
        wait_until(lambda: not self.left_over(), lambda: f"still there: {self.left_over()}")


def wait_until(
    holds: Callable[[], object],
    otherwise: Callable[[], str] = lambda: "it did not come to that",
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Poll until something holds; fail with a message when it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.02)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write into the folder, root excepted."""
    before = stat.S_IMODE(folder.stat().st_mode)
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(before)
