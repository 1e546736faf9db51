"""The look at a tree before make looks: which objects are left as they are, and which are not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.compilers import OPTIONS, PREFIX, Bench, Server

pytestmark = pytest.mark.integration

SOURCE = """\
#include "kept.h"
#ifdef CONFIG_TELLING
int unit(void) { return KEPT + 1; }
#else
int unit(void) { return KEPT; }
#endif
#ifdef CONFIG_INCLUDING
#include "other.h"
#endif
extern int config[CONFIG_SIZE];
"""
NAME = """-DNAME='"unit"' -D"text(s)=$(pound)s" """.strip()


class Tree:
    """An output folder with one object in it, as kbuild left it."""

    def __init__(self, bench: Bench, fixdep: Path) -> None:
        self.bench = bench
        self.fixdep = fixdep
        self.folder = bench.folder
        self.server: Server | None = None
        self.object = self.folder / "kernel" / "unit.o"
        self.option = self.folder / "include" / "config" / "SIZE"
        for path, text in {
            "kernel/built-in.a": "!<thin>\n//  16  `\nother.o/\nunit.o/\n",
            "kernel/unit.c": SOURCE,
            "kernel/first.c": "int first;\n",
            "kernel/other.h": "extern int other;\n",
            "include/kept.h": "#define KEPT 1\n",
            "include/config/SIZE": "",
            "include/generated/autoconf.h": "#define CONFIG_SIZE 1\n",
        }.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        self.record = self.folder / "kernel" / ".unit.o.cmd"
        self.describe()

    @staticmethod
    def command(name: str, *options: str) -> str:
        return " ".join(
            (f"{PREFIX}gcc -Wp,-MMD,kernel/.{name}.o.d", *OPTIONS, "-I./include",
             "-include ./include/generated/autoconf.h", *options,
             f"-c -o kernel/{name}.o kernel/{name}.c")
        )  # fmt: skip

    def compile(self, name: str, *options: str, **env: str) -> None:
        """Have the shell run what a recipe runs."""
        subprocess.run(["sh", "-c", self.command(name, *options)], cwd=self.folder,
                       env=self.bench.environment | env, check=True)  # fmt: skip

    def describe(self, options: str = NAME, more: str = "", name: str = "unit") -> None:
        """Write down what kbuild does, by the kernel's own tool."""
        self.compile(name, NAME.replace("$(pound)", "#"), MEMTOTAL_SERVER="")
        command = self.command(name, options) + more
        said = subprocess.run(
            (self.fixdep, f"kernel/.{name}.o.d", f"kernel/{name}.o", command),
            cwd=self.folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        (self.folder / "kernel" / f".{name}.o.d").unlink()
        (self.folder / "kernel" / f".{name}.o.cmd").write_text(said.stdout)

    def add_many(self, count: int) -> set[str]:
        """More objects, of which CONFIG_TELLING changes every third; the names of the others."""
        names = [f"other{number}" for number in range(count)]
        for number, name in enumerate(names):
            text = SOURCE if number % 3 == 0 else SOURCE.replace("TELLING", f"NEVER_{name}")
            (self.folder / "kernel" / f"{name}.c").write_text(text.replace("unit", name))
            self.describe(name=name)
        members = "".join(f"{name}.o/\n" for name in ("unit", *names))
        (self.folder / "kernel" / "built-in.a").write_text(f"!<thin>\n//  16  `\n{members}")
        return {name for number, name in enumerate(names) if number % 3 != 0}

    def kept(self) -> set[str]:
        """The objects that the look has kept, by name."""
        lines = (self.folder / "objects.log").read_text().splitlines()
        found = [line.split(" ")[1] for line in lines if line.startswith("kept ")]
        assert len(found) == len(set(found))
        for one in found:
            assert (self.folder / one).stat().st_mtime_ns == self.option.stat().st_mtime_ns
        return {Path(one).stem for one in found}

    def has_fixdep(self) -> None:
        """Put the kernel's tool where kbuild has it."""
        program = self.folder / "scripts" / "basic" / "fixdep"
        program.parent.mkdir(parents=True)
        shutil.copy(self.fixdep, program)

    def set(self, *options: str) -> None:
        """Change the options, as kbuild does when its make begins."""
        lines = [f"#define CONFIG_{one}\n" for one in options]
        (self.folder / "include" / "generated" / "autoconf.h").write_text("".join(lines))
        os.utime(self.option)

    def again(self) -> None:
        """Another build begins."""
        assert self.server is not None
        self.server.end()
        self.server = Server(self.bench)
        os.utime(self.option)

    def is_kept(self) -> bool:
        """Whether the object counts as made anew once make has begun with the objects."""
        bytes_before = self.object.read_bytes()
        made = self.object.stat().st_mtime_ns
        log = self.folder / "objects.log"
        log.unlink(missing_ok=True)
        self.compile("first")
        assert self.object.read_bytes() == bytes_before
        is_touched = self.object.stat().st_mtime_ns != made
        assert is_touched == ("kept kernel/unit.o " in log.read_text())
        if is_touched:
            # Of the same moment is new enough for make, and older than what is written meanwhile.
            assert self.object.stat().st_mtime_ns == self.option.stat().st_mtime_ns > made
        return is_touched


@pytest.fixture(scope="session")
def fixdep(kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel's own tool that makes descriptions."""
    program = tmp_path_factory.mktemp("fixdep") / "fixdep"
    source = kernel_tree / "scripts" / "basic" / "fixdep.c"
    subprocess.run(["cc", "-o", program, source], check=True)
    return program


@pytest.fixture
def tree(tmp_path: Path, fixdep: Path) -> Iterator[Tree]:
    bench = Bench(tmp_path, tmp_path / "cache")
    made = Tree(bench, fixdep)
    made.server = Server(bench)
    yield made
    made.server.end()


def test_an_object_that_comes_out_the_same_is_kept(tree: Tree) -> None:
    tree.set("SIZE 2")
    assert tree.is_kept()


def test_one_that_comes_out_otherwise_is_not(tree: Tree) -> None:
    tree.set("SIZE 1", "TELLING")
    assert not tree.is_kept()


def test_no_option_has_changed(tree: Tree) -> None:
    assert not tree.is_kept()


@pytest.mark.parametrize("path", ["kernel/unit.c", "include/kept.h"])
def test_a_file_that_changed_is_makes_to_look_at(tree: Tree, path: str) -> None:
    tree.set("SIZE 2")
    os.utime(tree.folder / path)
    assert not tree.is_kept()


def test_a_header_that_is_gone(tree: Tree) -> None:
    tree.has_fixdep()  # or the description could not be written anew anyway
    tree.set("SIZE 2")
    (tree.folder / "kernel" / "unit.c").write_text("int unit(void) { return 1; }\n")
    os.utime(tree.folder / "kernel" / "unit.c", ns=(0, 1))
    (tree.folder / "include" / "kept.h").unlink()
    assert not tree.is_kept()


def test_with_a_header_more_it_is_kept_and_described_anew(tree: Tree) -> None:
    tree.has_fixdep()
    before = tree.record.read_text().split("\n")
    tree.set("SIZE 1", "INCLUDING")
    assert tree.is_kept()
    after = tree.record.read_text().split("\n")
    assert set(after) - set(before) == {"  kernel/other.h \\"}
    assert after[0] == before[0]
    assert {path.name for path in tree.record.parent.iterdir()} == {
        *("unit.c", "unit.o", ".unit.o.cmd", "first.c", "first.o", ".first.o.d", "other.h"),
        "built-in.a",
    }
    # Now the header counts.
    tree.set("SIZE 2", "INCLUDING")
    os.utime(tree.folder / "kernel" / "other.h")
    tree.again()
    assert not tree.is_kept()


def test_with_a_header_more_and_nobody_to_describe_it_is_makes(tree: Tree) -> None:
    tree.set("SIZE 1", "INCLUDING")
    assert not tree.is_kept()
    assert not list(tree.folder.rglob("*.part"))


def test_a_description_with_more_in_it_is_not_written_anew(tree: Tree) -> None:
    """Linux 6.1 has what symbols a module asks for behind it (scripts/gen_ksymdeps.sh)."""
    tree.has_fixdep()
    with tree.record.open("a") as file:
        file.write("ksymdeps_kernel/unit.o := \\\n    $(wildcard include/ksym/unit)\n")
    before = tree.record.read_text()
    tree.set("SIZE 1", "INCLUDING")
    assert not tree.is_kept()
    tree.set("SIZE 2")
    tree.again()
    assert tree.is_kept()
    assert tree.record.read_text() == before


@pytest.mark.parametrize("option", ["MODVERSIONS", "TRIM_UNUSED_KSYMS"])
def test_an_option_for_which_a_rule_does_more(tree: Tree, option: str) -> None:
    tree.record.write_text(tree.record.read_text().replace("config/INCLUDING", f"config/{option}"))
    tree.set("SIZE 2")
    (tree.folder / "include" / "config" / option).touch()
    assert not tree.is_kept()


def test_what_the_last_build_did_not_use_is_left_alone(tree: Tree) -> None:
    (tree.folder / "kernel" / "built-in.a").write_text("!<thin>\n//  16  `\nanother_unit.o/\n")
    tree.set("SIZE 2")
    assert not tree.is_kept()


def test_an_object_that_a_tool_has_edited(tree: Tree) -> None:
    with tree.object.open("ab") as file:
        file.write(b"more")
    tree.set("SIZE 2")
    assert not tree.is_kept()


def test_what_changed_before_this_build_is_another_ones(tree: Tree) -> None:
    tree.set("SIZE 2")
    os.utime(tree.object, ns=(0, 1))
    for path in ("kernel/unit.c", "include/kept.h"):
        os.utime(tree.folder / path, ns=(0, 1))
    os.utime(tree.option, ns=(0, 2))
    assert not tree.is_kept()


def test_another_command_is_makes_to_see(tree: Tree) -> None:
    tree.describe(f"{NAME} -Os")
    tree.set("SIZE 2")
    assert not tree.is_kept()


@pytest.mark.parametrize("more", ["; touch kernel/unit.o", " $(anything)", " -D'a", ""])
def test_a_command_that_is_not_understood(tree: Tree, more: str) -> None:
    tree.describe(more=more)
    tree.set("SIZE 2")
    assert tree.is_kept() == (not more)


def test_versions_of_symbols_are_made_with_the_object(tree: Tree) -> None:
    with tree.record.open("a") as record:
        record.write("\n#SYMVER unit 0x12345678\n")
    tree.set("SIZE 2")
    assert not tree.is_kept()


@pytest.mark.parametrize("where", ["gcc", "-c", "kernel/unit.c\n", "deps_", "include/config/SIZE"])
def test_what_was_written_down_by_halves(tree: Tree, where: str) -> None:
    tree.record.write_text(tree.record.read_text().partition(where)[0])
    tree.set("SIZE 2")
    assert not tree.is_kept()


MANY = 150  # more than one process looks at alone


@pytest.fixture
def many(tree: Tree) -> tuple[Tree, set[str]]:
    same = tree.add_many(MANY)
    assert tree.server is not None
    tree.server.end()
    tree.server = Server(tree.bench, jobs=2)
    (tree.folder / "objects.log").unlink()
    return tree, same


def test_two_look_at_many(many: tuple[Tree, set[str]]) -> None:
    tree, same = many
    tree.set("SIZE 2", "TELLING")
    tree.compile("first")
    assert tree.kept() == same


def test_one_of_two_that_look_is_killed(many: tuple[Tree, set[str]]) -> None:
    tree, same = many
    assert tree.server is not None
    reader = tree.server.reader()
    tree.set("SIZE 2", "TELLING")
    asks = threading.Thread(target=tree.compile, args=("first",))
    asks.start()
    killed = 0
    while asks.is_alive() and not killed:
        for child in children(reader):
            # It has objects looked at itself; one that compiles has the compiler.
            if any(program(one) == program(reader) for one in children(child)):
                os.kill(child, signal.SIGKILL)
                killed = child
    asks.join()
    assert killed
    assert (tree.folder / "kernel" / "first.o").is_file()
    kept = tree.kept()
    assert kept <= same
    assert len(same - kept) <= 4  # what it was at; the other one looks at all the rest
    tree.compile(min(same), NAME.replace("$(pound)", "#"))  # the reader is there


def children(process: int) -> list[int]:
    """A process's children; none when it is gone."""
    try:
        return [
            int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()
        ]
    except OSError:
        return []


def program(process: int) -> str:
    """What a process runs; nothing when it is gone."""
    try:
        return Path(f"/proc/{process}/comm").read_text()
    except OSError:
        return ""
