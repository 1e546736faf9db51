"""kbuild's walk through the folders: which it need not enter, and that nothing is missed for it.

The kernel's own rules build a source tree of a few lines.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from optimizer.kernel.objects import ObjectStore
from optimizer.settings import environment
from tests.integration.compilers import OPTIONS, PREFIX
from tests.standin import put_stand_in

pytestmark = pytest.mark.integration

MAKEFILE = f"""\
export srctree objtree := .
export ARCH := arm
export SRCARCH := arm
export VPATH := $(srctree)
export CC := {PREFIX}gcc
export LD := {PREFIX}ld
export AR := {PREFIX}ar
export NM := {PREFIX}nm
export OBJCOPY := {PREFIX}objcopy
export AWK := awk
export CONFIG_SHELL := sh
export KBUILD_BUILTIN := 1
export LINUXINCLUDE := -I$(srctree)/include -I./include -include ./include/generated/autoconf.h
export KBUILD_CFLAGS := {" ".join(OPTIONS)} $(FLAGS)
MAKEFLAGS += -rR --no-print-directory
include $(srctree)/scripts/Kbuild.include
all:
	$(MAKE) $(build)=. need-builtin=1 need-modorder=1
"""
SOURCES = {
    "Makefile": MAKEFILE,
    "Kbuild": "obj-y += fs/ net/\nmade-by-a-rule:\n",
    "fs/Makefile": "# two kinds\nobj-y += inode.o \\\n\tsuper.o\nobj-$(CONFIG_EXT) += ext/\n"
    "ccflags-$(CONFIG_BIG) += -DBIG\nsubdir-ccflags-$(CONFIG_LARGE) += -DLARGE\n",
    "fs/inode.c": "int inode;\n",
    "fs/super.c": '#include "size.h"\nint super[SIZE];\n#ifdef CONFIG_HUGE\nint huge;\n#endif\n'
    "#ifdef BIG\nint big;\n#endif\n#ifdef CONFIG_UNUSED\nextern int unused;\n#endif\n",
    "fs/ext/Makefile": "obj-y += ext.o\nobj-$(CONFIG_JOURNAL) += journal.o\n",
    "fs/ext/ext.c": "#ifdef LARGE\nint large;\n#endif\nint ext;\n",
    "fs/ext/journal.c": "int journal;\n",
    "net/Makefile": "obj-y += core.o\nifdef CONFIG_INET\nobj-y += inet.o\nendif\nobj-y += ipv4/\n",
    "net/core.c": "int core;\n",
    "net/inet.c": "int inet;\n",
    "net/ipv4/Makefile": "obj-y += tcp.o\n",
    "net/ipv4/tcp.c": "#ifdef CONFIG_HUGE\nint huge_tcp;\n#endif\nint tcp;\n",
    "include/size.h": "#define SIZE 3\n",
    "include/linux/compiler_types.h": "",
}
EVERYTHING = [".", "fs", "fs/ext", "net", "net/ipv4"]
OPTIONS_ON = ("EXT", "INET")


class Tree:
    """A source tree, and an output folder in which it is built with the walk's stand-in."""

    def __init__(self, folder: Path, scripts: Path) -> None:
        self.source = folder / "linux"
        self.output = folder / "out"
        self.seen = folder / "made"
        self.conf = folder / "conf"  # run within the next build
        for path, text in SOURCES.items():
            self.write(path, text)
        (self.source / "scripts").mkdir()
        for one in scripts.iterdir():
            if one.is_file():
                shutil.copy(one, self.source / "scripts")
        self._fixdep = scripts.parent / "fixdep"
        put_stand_in(folder / "cache")
        store = ObjectStore.open(folder / "cache", PREFIX, environment())
        assert store is not None
        self.store = store
        self.spy = folder / "spy"
        make = shutil.which("make")
        # By that name make calls itself again, so the stand-in goes before it again.
        self.spy.write_text(
            f'#!/bin/bash\necho "$@" >> {self.seen}\n'
            f"if [ -e {self.conf} ]; then . {self.conf}; rm {self.conf}; fi\n"
            f'exec -a make {make} "$@"\n'
        )
        self.spy.chmod(0o755)
        self.values: tuple[str, ...] = ()
        self.prepare(self.output)
        self.set(*OPTIONS_ON)
        # What is written from now on is newer than all of it.
        for path in [self.source, *self.source.rglob("*")]:
            os.utime(path, ns=(0, time.time_ns() - 10**10))

    def write(self, path: str, text: str) -> None:
        (self.source / path).parent.mkdir(parents=True, exist_ok=True)
        (self.source / path).write_text(text)

    def prepare(self, output: Path) -> None:
        """What kbuild has made before it begins with the objects."""
        for path in ("scripts/basic", "include/config", "include/generated"):
            (output / path).mkdir(parents=True)
        shutil.copy(self._fixdep, output / "scripts/basic/fixdep")

    def set(self, *options: str, output: Path | None = None) -> None:
        """Switch these on and all others off, as conf's syncconfig does, which kbuild runs when it
        begins: what is older is taken to be another build's."""
        target = self.output if output is None else output
        for path, line in (
            ("include/config/auto.conf", "CONFIG_{}=y\n"),
            ("include/generated/autoconf.h", "#define CONFIG_{} 1\n"),
        ):
            (target / path).write_text("".join(map(line.format, options)))
        if target == self.output:
            changed = [self.output / "include/config" / one for one in {*self.values} ^ {*options}]
            with self.conf.open("a") as commands:
                commands.writelines(f"touch {one}\n" for one in changed)
            self.values = options

    def make(self, output: Path, env: Mapping[str, str], *flags: str) -> int:
        command = ["make", "-f", str(self.source / "Makefile"), f"srctree={self.source}", "-j2"]
        launcher = self.store.launcher if "MEMTOTAL_WALK" in env else ()
        if not launcher and output == self.output:  # no spy does it
            subprocess.run(["sh", "-e", self.conf], check=True)
            self.conf.unlink()
        done = subprocess.run([*launcher, *command, *flags], cwd=output, env=dict(env), check=False,
                              stdout=subprocess.DEVNULL)  # fmt: skip
        return done.returncode

    def build(self, *flags: str, ok: bool = True) -> list[str]:
        """Build with the stand-ins; the folders that a make was started for."""
        self.seen.write_text("")
        env = self.store.environment(environment(), self.output / "objects.log")
        code = self.make(self.output, env | {"MEMTOTAL_MAKE": str(self.spy)}, *flags)
        assert (code == 0) == ok
        calls = self.seen.read_text().splitlines()
        return sorted(
            word.removeprefix("obj=") for line in calls for word in line.split() if "obj=" in word
        )

    def check(self, *flags: str) -> None:
        """What is there is what a clean build with make alone gives."""
        clean = self.output.parent / "clean"
        self.prepare(clean)
        self.set(*self.values, output=clean)
        assert self.make(clean, environment(), *flags) == 0
        assert members(self.output) == members(clean)
        for path in members(clean):
            assert (self.output / path).read_bytes() == (clean / path).read_bytes(), path
        shutil.rmtree(clean)


def members(output: Path) -> list[str]:
    """The objects of the whole archive, in its order."""
    said = subprocess.run([f"{PREFIX}ar", "t", "built-in.a"], cwd=output, capture_output=True,
                          text=True, check=True)  # fmt: skip
    return said.stdout.split()


@pytest.fixture(scope="session")
def scripts(kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kbuild's own rules, and beside them its tool that makes descriptions."""
    folder = tmp_path_factory.mktemp("kbuild")
    source = kernel_tree / "scripts" / "basic" / "fixdep.c"
    subprocess.run(["cc", "-o", folder / "fixdep", source], check=True)
    (folder / "scripts").mkdir()
    for one in (kernel_tree / "scripts").iterdir():
        if one.is_file():
            shutil.copy(one, folder / "scripts")
    return folder / "scripts"


@pytest.fixture
def tree(tmp_path: Path, scripts: Path) -> Tree:
    """Built once."""
    made = Tree(tmp_path, scripts)
    assert made.build() == EVERYTHING
    made.check()
    return made


def test_nothing_changed(tree: Tree) -> None:
    assert tree.build() == ["."]
    assert tree.build() == ["."]
    tree.check()


def test_an_option_that_one_makefile_names(tree: Tree) -> None:
    tree.set("EXT")
    assert tree.build() == [".", "net"]
    tree.check()
    assert tree.build() == ["."]
    tree.set("EXT", "INET", "JOURNAL")
    assert tree.build() == [".", "fs", "fs/ext", "net"]
    tree.check()


def test_a_folder_that_is_off_for_a_while(tree: Tree) -> None:
    tree.set("INET")
    assert tree.build() == [".", "fs"]
    tree.check()
    tree.write("fs/ext/ext.c", "int another;\n")
    assert tree.build() == ["."]
    tree.set("INET", "EXT")
    assert tree.build() == [".", "fs", "fs/ext"]
    tree.check()


def test_an_option_that_sources_name(tree: Tree) -> None:
    tree.set(*OPTIONS_ON, "HUGE")
    assert tree.build() == [".", "fs", "net", "net/ipv4"]
    tree.check()


def test_an_option_that_changes_no_object(tree: Tree) -> None:
    tree.set(*OPTIONS_ON, "UNUSED")
    assert tree.build() == ["."]
    tree.check()
    # It is newer than the archive that it is in, which is as it was.
    tree.set(*OPTIONS_ON, "UNUSED", "HUGE")
    assert tree.build() == [".", "fs", "net", "net/ipv4"]
    tree.check()


def test_a_header_more_that_names_a_newer_option(tree: Tree) -> None:
    """The object is kept, described anew, and older than what the new description names."""
    later_or_told = "#ifdef CONFIG_{}\n{}int {};\n#endif\n"
    tree.write("include/extra.h", later_or_told.format("LATER", "extern ", "later")
               + later_or_told.format("TELL", "", "told"))  # fmt: skip
    tree.write("net/ipv4/tcp.c", '#ifdef CONFIG_MORE\n#include "extra.h"\n#endif\nint tcp;\n')
    assert tree.build() == [".", "net", "net/ipv4"]
    tree.set(*OPTIONS_ON, "MORE", "LATER")
    more, later = (tree.output / "include/config" / one for one in ("MORE", "LATER"))
    with tree.conf.open("a") as commands:
        commands.write(f"touch -r {more} -d '+0.01 seconds' {later}\nsleep 0.02\n")
    tree.build()
    tree.check()
    tree.build()
    tree.set(*OPTIONS_ON, "MORE", "LATER", "TELL")
    assert tree.build() == [".", "net", "net/ipv4"]
    tree.check()


@pytest.mark.parametrize("path", ["include/size.h", "net/Makefile", "fs/super.c"])
def test_a_file_that_is_put_there_with_an_older_date(tree: Tree, path: str) -> None:
    there = tree.source / path
    text = {"include/size.h": "#define SIZE 5\n", "net/Makefile": "obj-y += inet.o ipv4/\n"}
    tree.write(path, text.get(path, "int super = 7;\n"))
    made = (tree.output / "fs/super.o").stat().st_mtime_ns
    os.utime(there, ns=(0, made + 1 if path != "net/Makefile" else 10**9))
    assert tree.build() == ([".", "net"] if path == "net/Makefile" else [".", "fs"])
    tree.check()


def test_what_a_build_left_out_is_not_seen_for_it_next_time(tree: Tree) -> None:
    tree.set(*OPTIONS_ON, "HUGE", "JOURNAL")
    tree.build()
    tree.set("INET", "HUGE")
    tree.build()
    tree.set("INET")
    assert tree.build() == [".", "fs", "net", "net/ipv4"]
    tree.check()
    assert tree.build() == ["."]


@pytest.mark.parametrize("option", ["BIG", "LARGE"])
def test_flags_of_a_folder_and_of_those_below(tree: Tree, option: str) -> None:
    tree.set(*OPTIONS_ON, option)
    assert tree.build() == ([".", "fs"] if option == "BIG" else [".", "fs", "fs/ext"])
    tree.check()


def test_flags_that_come_from_above(tree: Tree) -> None:
    assert tree.build("FLAGS=-DBIG") == EVERYTHING
    tree.check("FLAGS=-DBIG")
    assert tree.build("FLAGS=-DBIG") == ["."]


def test_more_jobs_are_no_other_flags(tree: Tree) -> None:
    assert tree.build("-j5") == ["."]


@pytest.mark.parametrize(
    ("path", "text", "made"),
    [
        ("net/ipv4/tcp.c", "int other;\n", [".", "net", "net/ipv4"]),
        ("include/size.h", "#define SIZE 4\n", [".", "fs"]),
        ("net/Makefile", "obj-y += inet.o\n", [".", "net"]),
        ("net/Kbuild", "obj-y += inet.o\n", [".", "net"]),
        # Goes before core.c where it is there.
        ("net/core.S", ".globl core\n", [".", "net"]),
        ("scripts/Makefile.lib", None, EVERYTHING),
        ("scripts/recordmcount.h", "/* a tool's */\n", EVERYTHING),
    ],
)
def test_a_source_that_changed(tree: Tree, path: str, text: str | None, made: list[str]) -> None:
    there = tree.source / path
    tree.write(path, there.read_text() if text is None else text)
    assert tree.build() == made
    tree.check()


@pytest.mark.parametrize("path", ["net/core.o", "net/.core.o.cmd", "fs/ext/built-in.a"])
def test_a_file_of_the_output_is_gone(tree: Tree, path: str) -> None:
    (tree.output / path).unlink()
    assert str(Path(path).parent) in tree.build()
    tree.check()


@pytest.mark.parametrize(
    "line",
    [
        "$(obj)/tcp.o: $(src)/tcp.h",
        "include $(srctree)/net/more",
        "extra-y += more.o",
        "DATE := $(shell cat $(srctree)/net/ipv4/tcp.h)",
        "obj-y += ../more.o",
        "obj-y += sub/more.o",
        "obj-$(CONFIG_$(NAME)) += more.o",
        "obj-$(CONFIG_NET_$(NAME)) += more.o",
        "obj-y += $(addprefix sub/, more.o)",
        "always-y += more.o",
        "hostprogs := more",
        "DATE != cat $(srctree)/net/ipv4/tcp.h",
        "X := $(subst #,a,$(shell cat $(srctree)/net/ipv4/tcp.h))",
        "export extra-y := more.o",
        "-include $(srctree)/net/more",
    ],
)
def test_a_makefile_that_says_more(tmp_path: Path, scripts: Path, line: str) -> None:
    new = Tree(tmp_path, scripts)
    for path in ("net/ipv4/more.c", "net/more.c", "net/ipv4/sub/more.c"):
        new.write(path, "int main(void) { return 0; }\n")
    new.write("net/more", "")
    new.write("net/ipv4/tcp.h", "")
    new.write("net/ipv4/Makefile", f"obj-y += tcp.o\n{line}\n")
    for path in [new.source, *new.source.rglob("*")]:
        os.utime(path, ns=(0, time.time_ns() - 10**10))
    assert new.build() == EVERYTHING
    assert new.build() == [".", "net", "net/ipv4"]


def test_a_build_that_failed_says_nothing(tree: Tree) -> None:
    tree.write("net/core.c", "int core\n")
    tree.build(ok=False)
    tree.write("net/core.c", "int core;\n")
    assert tree.build() == EVERYTHING
    tree.check()
    assert tree.build() == ["."]


@pytest.mark.parametrize("harm", ["cut short", "nonsense", "gone"])
def test_a_damaged_record(tree: Tree, harm: str) -> None:
    record = tree.output / ".walk"
    if harm == "cut short":
        record.write_bytes(record.read_bytes()[:200])
    elif harm == "nonsense":
        record.write_bytes(b"\0\xff\nnonsense\n")
    else:
        record.unlink()
    assert tree.build() == EVERYTHING
    tree.check()
    assert tree.build() == ["."]


def test_without_a_server_every_folder_is_makes(tree: Tree) -> None:
    env = tree.store.environment(environment(), tree.output / "objects.log")
    tree.seen.write_text("")
    subprocess.run(
        ["make", "-f", tree.source / "Makefile", f"srctree={tree.source}"], cwd=tree.output,
        env=env | {"MEMTOTAL_MAKE": str(tree.spy)}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert all(f"obj={one} " in tree.seen.read_text() for one in EVERYTHING)


def test_a_make_by_hand_in_between(tree: Tree) -> None:
    """Its objects are others, and the record is not its own."""
    tree.set(*OPTIONS_ON, "HUGE")
    assert tree.make(tree.output, environment()) == 0
    tree.set(*OPTIONS_ON)
    assert {"net", "net/ipv4", "fs"} <= set(tree.build())
    tree.check()


@pytest.mark.parametrize("flag", ["-i", "-B"])
def test_flags_by_which_make_takes_things_for_made(tree: Tree, flag: str) -> None:
    assert tree.build(flag) == EVERYTHING
    assert tree.build(flag) == EVERYTHING


def test_source_files_that_stand_for_made_ones(tree: Tree) -> None:
    tree.write("net/ipv4/table.c_shipped", "int table;\n")
    tree.build()
    assert tree.build() == [".", "net", "net/ipv4"]


def test_modules_are_in_no_archive(tree: Tree) -> None:
    assert tree.build("KBUILD_MODULES=1") == EVERYTHING
    assert tree.build("KBUILD_MODULES=1") == EVERYTHING
