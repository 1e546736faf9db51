"""What init-audit finds, marked, built and booted, on the fake kernel tree."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from fakes.world import World

INIT_H = '#define __initdata __attribute__((section(".init.data")))\n'
# Only what is freed after boot writes the first; the second is one too, but by a macro.
MAIN = """
int boot_only = 1;
#define MADE(name) int name = 2
MADE(by_macro);
int __init setup(void);
int __init setup(void) { return boot_only = by_macro = 3; }
"""
MODPOST = "echo '  MODPOST Module.symvers'\n"
MISMATCH = "echo 'WARNING: modpost: vmlinux.o: section mismatch in reference: f (section: .text)'\n"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A study with a baseline, of a kernel with two values that only the boot uses."""
    world = World(tmp_path_factory.mktemp("marked") / "world")
    (world.tree / "include/linux/init.h").write_text(INIT_H)
    main = world.tree / "init/main.c"
    main.write_text(main.read_text() + MAIN)
    done = world.start("run", "small.toml", "--trials", 1).ended(600.0)
    assert done.code == 0, done.err
    yield world
    world.close()
    world.assert_nothing_left()


def audit(world: World, *arguments: object) -> subprocess.CompletedProcess[str]:
    asked = (world.database.parent, "--study", world.study, "--trial", "baseline", *arguments)
    return world.benchmark("init_marks", *asked)


def test_a_marked_kernel_is_built_booted_and_judged(searched: World) -> None:
    before = (searched.tree / "init/main.c").read_bytes()
    fault = searched.fault("vmlinux", MODPOST)
    done = audit(searched)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "boot_only" in done.stdout
    assert "1 of 2 candidates marked, 4 bytes in 1 files" in done.stdout
    assert "not marked: no plain definition" in done.stdout
    assert "section mismatches  0" in done.stdout
    assert "checks passed       3 of 3" in done.stdout
    assert "(+0 kB)" in done.stdout
    assert (searched.tree / "init/main.c").read_bytes() == before
    assert not (searched.cache / "init-marks/work").exists()
    logs = searched.folder / "results/bench/init-marks/marked"
    assert {"build.log", "console.log"} <= {one.name for one in logs.iterdir()}
    fault.unlink()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (MODPOST + MISMATCH, "section mismatches  1"),
        ("true\n", "modpost did not run"),
        (f"case $PWD in */init-marks/*) exit 1 ;; esac\n{MODPOST}", "build_failed"),
    ],
)
def test_what_is_wrong_is_said(searched: World, script: str, said: str) -> None:
    fault = searched.fault("vmlinux", script)
    done = audit(searched)
    fault.unlink()
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout
    assert "WRONG" in done.stdout


@pytest.mark.parametrize("arguments", [("--trial", "77"), ("--marks", "-1"), ("--study", "no")])
def test_bad_input_gets_one_message(searched: World, arguments: tuple[str, ...]) -> None:
    done = audit(searched, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
