"""What a build asks the compiler before it compiles: the store has the compiler's own answers."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from optimizer.kernel.objects import ObjectStore
from optimizer.settings import environment
from tests.integration.compilers import PREFIX
from tests.standin import put_stand_in

pytestmark = pytest.mark.integration

NOTHING = ("-c", "-x", "c", "/dev/null", "-o", "tmp.o")
COMPILER = shutil.which(f"{PREFIX}gcc", path=environment()["PATH"])

TAKEN = [
    "-Wall",
    "-fno-common",
    "-marm",
    "-fmacro-prefix-map=/some/where/=",
    "-DA=/b",
    "-std=gnu11",
]
REFUSED = ["-fno-such-thing", "-mno-such-thing", "-fsanitize=nonsense"]


@dataclass(frozen=True)
class Answer:
    code: int
    said: bytes
    object: bytes | None
    asked: bool


class Builder:
    """Calls the stand-in, and knows whether it called the compiler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        put_stand_in(folder / "cache")
        store = ObjectStore.open(folder / "cache", PREFIX, environment())
        assert store is not None
        self._env = store.environment(environment(), folder / "log")
        self.use(f'exec {COMPILER} "$@"\n')

    def use(self, script: str) -> None:
        """From now on the compiler is this."""
        compiler = self.folder / "compiler"
        compiler.write_text(f'#!/bin/sh\necho "$@" >>{self.calls}\n{script}')
        compiler.chmod(0o755)
        self._env |= {"MEMTOTAL_COMPILER": str(compiler)}

    def ask(self, *arguments: str, text: str = "") -> Answer:
        made = self.folder / "tmp.o"
        for left in (made, self.calls):
            left.unlink(missing_ok=True)
        done = subprocess.run([f"{PREFIX}gcc", *arguments], cwd=self.folder, env=self._env,
                              input=text.encode(), capture_output=True, check=False)  # fmt: skip
        assert not done.stdout
        content = made.read_bytes() if made.exists() else None
        return Answer(done.returncode, done.stderr, content, self.calls.exists())


def really(folder: Path, *arguments: str) -> Answer:
    """What the compiler says when it is asked by itself."""
    made = folder / "tmp.o"
    made.unlink(missing_ok=True)
    done = subprocess.run([f"{PREFIX}gcc", *arguments], cwd=folder, env=environment(),
                          capture_output=True, check=False)  # fmt: skip
    content = made.read_bytes() if made.exists() else None
    return Answer(done.returncode, done.stderr, content, True)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


@pytest.mark.parametrize("option", [*TAKEN, *REFUSED])
def test_what_was_answered_once_is_not_asked_again(builder: Builder, option: str) -> None:
    call = ("-Werror", option, *NOTHING)
    first, second = builder.ask(*call), builder.ask(*call)
    wanted = really(builder.folder, *call)
    assert (wanted.code == 0) is (option in TAKEN)
    assert (first.asked, second.asked) == (True, False)
    for one in (first, second):
        assert (one.code, one.said, one.object) == (wanted.code, wanted.said, wanted.object)


def test_the_name_of_what_is_written_does_not_count_and_all_else_does(builder: Builder) -> None:
    builder.ask("-Wall", *NOTHING)
    (builder.folder / "other").mkdir()
    assert not builder.ask("-Wall", *NOTHING[:-1], "other/x.o").asked
    assert (builder.folder / "other" / "x.o").read_bytes() == builder.ask("-Wall", *NOTHING).object
    assert builder.ask("-Wextra", *NOTHING).asked
    assert builder.ask("-Wall", "-Wall", *NOTHING).asked


@pytest.mark.parametrize(
    "call",
    [
        ("-Wall", "-c", "-x", "c", "-", "-o", "tmp.o"),
        ("-Wall", "-E", "-x", "c", "/dev/null", "-o", "tmp.o"),
        ("-include", "head.h", *NOTHING),
        ("-Wp,-MMD,list.d", *NOTHING),
        ("-g", *NOTHING),
        ("-fdump-tree-all", *NOTHING),
        ("-fstack-usage", *NOTHING),
        ("@options", *NOTHING),
        ("-specs=other", *NOTHING),
        ("-Wa,-mfpu=vfp,--MD,list.d", *NOTHING),
        ("-fsyntax-only", *NOTHING),
        ("--param", "@options", *NOTHING),
        ("-march=native", *NOTHING),
    ],
)
def test_what_reads_or_writes_files_is_asked_each_time(
    builder: Builder, call: tuple[str, ...]
) -> None:
    for name in ("head.h", "options"):
        (builder.folder / name).write_text("")
    (builder.folder / "other").write_text("%rename cpp old_cpp\n")
    wanted = really(builder.folder, *call) if "-" not in call else None
    for _time in range(2):
        found = builder.ask(*call, text="int x;")
        assert found.asked
        if wanted:
            assert (found.code, found.object) == (wanted.code, wanted.object)


def test_a_fault_of_the_machine_is_no_answer(builder: Builder) -> None:
    builder.use('echo "fatal error: error writing to tmp.o: No space left on device" >&2; exit 1\n')
    assert builder.ask("-Wall", *NOTHING).code == 1
    builder.use(f'exec {COMPILER} "$@"\n')
    found = builder.ask("-Wall", *NOTHING)
    assert found.asked
    assert found.code == 0


def test_a_compiler_that_is_killed_gives_no_answer(builder: Builder) -> None:
    builder.use('echo "unrecognized option" >&2; kill -KILL $$\n')
    assert builder.ask("-Wall", *NOTHING).code != 0
    builder.use(f'exec {COMPILER} "$@"\n')
    assert builder.ask("-Wall", *NOTHING).code == 0


def test_a_damaged_answer_is_asked_for_again(builder: Builder) -> None:
    first = builder.ask("-Wall", *NOTHING)
    entries = list((builder.folder / "cache" / "objects").glob("??/*.note"))
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-1])
    again = builder.ask("-Wall", *NOTHING)
    assert again.asked
    assert again.object == first.object
    assert not builder.ask("-Wall", *NOTHING).asked
