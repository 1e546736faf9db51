"""The look at a tree before make looks: which objects are left as they are, and which are not."""

from __future__ import annotations

import os
import subprocess
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

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.folder = bench.folder
        self.object = self.folder / "kernel" / "unit.o"
        self.option = self.folder / "include" / "config" / "SIZE"
        for path, text in {
            "kernel/unit.c": SOURCE,
            "kernel/first.c": "int first;\n",
            "kernel/other.h": "extern int other;\n",
            "include/kept.h": "#define KEPT 1\n",
            "include/config/SIZE": "",
            "include/generated/autoconf.h": "#define CONFIG_SIZE 1\n",
        }.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        self.compile("unit", NAME.replace("$(pound)", "#"))
        self.describe()

    @staticmethod
    def command(name: str, *options: str) -> str:
        return " ".join(
            (f"{PREFIX}gcc -Wp,-MMD,kernel/.{name}.o.d", *OPTIONS, "-I./include",
             "-include ./include/generated/autoconf.h", *options,
             f"-c -o kernel/{name}.o kernel/{name}.c")
        )  # fmt: skip

    def compile(self, name: str, *options: str) -> None:
        """Have the shell run what a recipe runs."""
        subprocess.run(["sh", "-c", self.command(name, *options)], cwd=self.folder,
                       env=self.bench.environment, check=True)  # fmt: skip

    def describe(self, options: str = NAME, more: str = "") -> None:
        """Write down what kbuild does, by the kernel's scripts/basic/fixdep."""
        (self.folder / "kernel" / ".unit.o.cmd").write_text(
            f"cmd_kernel/unit.o := {self.command('unit', options)}{more}\n\n"
            "source_kernel/unit.o := kernel/unit.c\n\n"
            "deps_kernel/unit.o := \\\n"
            "    $(wildcard include/config/SIZE) \\\n"
            "    $(wildcard include/config/GONE) \\\n"
            "  include/kept.h \\\n\n"
            "kernel/unit.o: $(deps_kernel/unit.o)\n\n$(deps_kernel/unit.o):\n"
        )

    def set(self, *options: str) -> None:
        """Change the options, as kbuild does when its make begins."""
        lines = [f"#define CONFIG_{one}\n" for one in options]
        (self.folder / "include" / "generated" / "autoconf.h").write_text("".join(lines))
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
        # Of the same moment is new enough for make.
        assert not is_touched or made < self.option.stat().st_mtime_ns
        assert not is_touched or self.object.stat().st_mtime_ns >= self.option.stat().st_mtime_ns
        return is_touched


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    bench = Bench(tmp_path, tmp_path / "cache")
    made = Tree(bench)
    server = Server(bench)
    yield made
    server.end()


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
    tree.set("SIZE 2")
    (tree.folder / "kernel" / "unit.c").write_text("int unit(void) { return 1; }\n")
    os.utime(tree.folder / "kernel" / "unit.c", ns=(0, 1))
    (tree.folder / "include" / "kept.h").unlink()
    assert not tree.is_kept()


def test_a_header_more(tree: Tree) -> None:
    tree.set("SIZE 1", "INCLUDING")
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
    with (tree.folder / "kernel" / ".unit.o.cmd").open("a") as record:
        record.write("\n#SYMVER unit 0x12345678\n")
    tree.set("SIZE 2")
    assert not tree.is_kept()


@pytest.mark.parametrize("where", ["gcc", "-c", "kernel/unit.c\n", "deps_", "include/config/GONE"])
def test_what_was_written_down_by_halves(tree: Tree, where: str) -> None:
    record = tree.folder / "kernel" / ".unit.o.cmd"
    record.write_text(record.read_text().partition(where)[0])
    tree.set("SIZE 2")
    assert not tree.is_kept()
