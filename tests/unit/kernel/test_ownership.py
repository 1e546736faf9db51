"""Which option brings which object, from Makefiles as kernels write them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from optimizer.kernel.ownership import ObjectFile, flag_options, objects
from optimizer.settings import environment

MAKEFILES = {
    "": "obj-y += drivers/\nobj-$(CONFIG_NET) += net/\nobj-y += kernel/ lib/\n",
    "drivers": "obj-$(CONFIG_MTD)\t\t+= mtd/\nobj-y += base.o\n",
    "drivers/mtd": (
        "# the core\nobj-$(CONFIG_MTD) += mtd.o\n"
        "mtd-y := core.o\n"
        "mtd-$(CONFIG_MTD_PARTS) += \\\n\tparts.o more.o\n"
    ),
    "net": "obj-y := ipv4/\n",
    "net/ipv4": (
        "obj-y := tcp.o\n"
        "ifeq ($(CONFIG_PROC_FS),y)\nobj-y += proc.o\nendif\n"
        "ifneq ($(CONFIG_INET),)\nobj-$(CONFIG_PING) += ping.o\nelse\nobj-y += stub.o\nendif\n"
    ),
    "kernel": "obj-$(CONFIG_A) += twice.o\nobj-$(CONFIG_B) += twice.o\nobj-y += sched/core.o\n",
    "lib": "lib-y := string.o\nlib-$(CONFIG_CRC) += crc.o\n",
}
BUILT = {
    "drivers/base.o",
    "drivers/mtd/core.o",
    "drivers/mtd/parts.o",
    "drivers/mtd/more.o",
    "net/ipv4/tcp.o",
    "net/ipv4/proc.o",
    "net/ipv4/ping.o",
    "net/ipv4/stub.o",
    "kernel/twice.o",
    "kernel/sched/core.o",
    "lib/string.o",
    "lib/crc.o",
}
SOURCE = """
int {name}_run(int x) {{ return x + 1; }}
static int quiet(int x) {{ return x * 3; }}
int (*{name}_table[])(int) = {{ quiet }};
__attribute__((section(".init.text"))) int {name}_init(void) {{ return 0; }}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ObjectFile]:
    tree = tmp_path_factory.mktemp("tree")
    output = tmp_path_factory.mktemp("output")
    for folder, text in MAKEFILES.items():
        (tree / folder).mkdir(parents=True, exist_ok=True)
        (tree / folder / ("Makefile" if folder else "Kbuild")).write_text(text)
    (tree / "Makefile").write_text("obj-$(CONFIG_WRONG) += net/\n")
    for path in BUILT | {"scripts/tool.o", "drivers/mtd/mtd.o"}:
        source = tree / Path(path).with_suffix(".c")
        target = output / path
        source.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(SOURCE.format(name=target.stem))
        subprocess.run(["gcc", "-c", "-O1", "-o", target, source], check=True)
        if target.name != "mtd.o":  # linked from others: its command has no source
            record = f"cmd_x := gcc\n\nsource_{path} := {source}\n"
            target.with_name(f".{target.name}.cmd").write_text(record)
    return {one.path: one for one in objects(tree, output, "", environment())}


def test_compiled_objects_of_the_image_are_found_and_no_others(
    found: dict[str, ObjectFile],
) -> None:
    assert found.keys() == BUILT


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("drivers/base.o", set()),
        ("drivers/mtd/core.o", {"MTD"}),
        ("drivers/mtd/parts.o", {"MTD", "MTD_PARTS"}),
        ("drivers/mtd/more.o", {"MTD", "MTD_PARTS"}),
        ("net/ipv4/tcp.o", {"NET"}),
        ("net/ipv4/proc.o", {"NET", "PROC_FS"}),
        ("net/ipv4/ping.o", {"NET", "INET", "PING"}),
        ("net/ipv4/stub.o", {"NET"}),
        ("kernel/twice.o", set()),
        ("kernel/sched/core.o", set()),
        ("lib/string.o", set()),
        ("lib/crc.o", {"CRC"}),
    ],
)
def test_the_chain_of_conditions(
    found: dict[str, ObjectFile], path: str, options: set[str]
) -> None:
    assert found[path].options == options


def test_functions_are_named_static_ones_too(found: dict[str, ObjectFile]) -> None:
    assert found["lib/crc.o"].functions == {"crc_run", "crc_init", "quiet"}


def test_what_is_freed_after_boot_takes_no_memory(found: dict[str, ObjectFile]) -> None:
    assert 0 < found["lib/crc.o"].bytes < 400


def test_options_of_the_compiler_are_found_in_the_top_makefiles(tmp_path: Path) -> None:
    (tmp_path / "arch" / "arm").mkdir(parents=True)
    (tmp_path / "Makefile").write_text(
        "ifdef CONFIG_SMALL\nKBUILD_CFLAGS += -Os\nendif\n"
        "KBUILD_CFLAGS-$(CONFIG_WERROR) += -Werror\n"
        "ifdef CONFIG_MODULES\nall: modules\nMODLIB = x\nendif\n"
    )
    (tmp_path / "arch" / "arm" / "Makefile").write_text("arch-$(CONFIG_CPU_V5) := -march=armv5\n")
    assert flag_options(tmp_path, "arm") == {"SMALL", "WERROR", "CPU_V5"}
