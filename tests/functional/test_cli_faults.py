"""What a person can get wrong: one clear message, exit code 2, nothing lost, and then it works."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.world import SUITE, Done, World, wait_until

RUN = ("run", "small.toml", "--trials", 1)


def refused(world: World, *arguments: object) -> str:
    """The message of a command that cannot do what it is asked."""
    done: Done = world.memtotal(*arguments, code=2)
    assert done.err.count("memtotal: ") == 1
    assert done.err.startswith("memtotal: ")
    return done.err


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world for what fails before anything is written."""
    world = World(tmp_path_factory.mktemp("faults") / "world")
    yield world
    assert world.outcomes() == []
    world.assert_nothing_left()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A study with its baseline, never changed."""
    world = World(tmp_path_factory.mktemp("begun") / "world")
    world.memtotal(*RUN)
    yield world
    world.assert_nothing_left()


# -- the study file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('arch = "arm"', 'arch = "arm', r"small\.toml is not valid TOML: .*line 7"),
        ('arch = "arm"', 'arhc = "arm"', r"small\.toml:7: kernel\.arhc: unknown key; .*arch"),
        ('board = "fake"', "board = 7", r"small\.toml:2: board: expected the name of a board file"),
        ('board = "fake"', 'board = "other"', r"there is no boards/other\.toml\.\nKnown: fake"),
        ('smoke = ["board"]', "smoke = []", r"small\.toml(:\d+)?: suites: "),
        ("build_timeout_seconds = 60", 'build_timeout_seconds = "soon"',
         r"small\.toml:12: kernel\.build_timeout_seconds: .*not 'soon'"),
        ('leave = ["LOCALVERSION"]', 'leave = ["PRINTK"]',
         r"small\.toml:14: options: PRINTK: in 'keep' and in 'leave'"),
        ('"LOCALVERSION"', '"IKCONFIX"',
         r"options\.leave names IKCONFIX, which linux does not have\.\nDid you mean IKCONFIG"),
        ('tree = "linux"', 'tree = "boards"', r"kernel tree.*boards(.|\n)*Run: make setup"),
        ('arch = "arm"', 'arch = "mips"', r"linux has no architecture 'mips'\.\nIt has: arm\."),
        ('defconfig = "test_defconfig"', 'defconfig = "nowhere_defconfig"',
         r"kernel\.defconfig: there is no nowhere_defconfig\.\nLooked for .*configs/nowhere"),
        ('initramfs = "initramfs.gz"', 'initramfs = "absent.gz"', r"initramfs.*absent\.gz"),
        ('cross_compile = "fake-"', 'cross_compile = "absent-"', r"absent-gcc.*\nRun: "),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_run(shared: World, before: str, after: str, message: str) -> None:
    original = shared.study.read_text()
    shared.edit(shared.study, before, after)
    try:
        assert re.search(message, refused(shared, *RUN))
    finally:
        shared.study.write_text(original)


def test_a_study_that_is_not_there(shared: World) -> None:
    assert "There is no study file none.toml.\nShipped studies: versatilepb" in refused(
        shared, "run", "none.toml"
    )


@pytest.mark.parametrize("command", ["status", "review", "export", "verify"])
def test_looking_at_a_study_that_was_never_run(shared: World, tmp_path: Path, command: str) -> None:
    assert f"There are no trials yet in {tmp_path}" in refused(
        shared, command, "small.toml", "--results", tmp_path
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "small.toml", "--budget", "soon"),
        ("run", "small.toml", "--jobs", "0"),
        ("run", "small.toml", "--sampler", "best"),
        ("verify", "small.toml", "--trial", "1", "--defconfig", "small.toml"),
        ("show", "small.toml", "first"),
        ("dance",),
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense(shared: World, arguments: tuple[str, ...]) -> None:
    done = shared.memtotal(*arguments, code=2)
    assert "Error: " in done.err
    assert done.out == ""


def test_a_trial_that_is_not_there(begun: World) -> None:
    assert "There is no trial 77" in refused(begun, "show", "small.toml", 77)


def test_an_output_that_cannot_be_written(begun: World) -> None:
    message = refused(begun, "export", "small.toml", "-o", "no/such/folder/file")
    assert "no/such/folder/file cannot be written: No such file or directory." in message


# -- programs and the tree: after the cause is gone the same command works -------------------------


def works_after(world: World, mend: Callable[[], object]) -> None:
    mend()
    world.memtotal(*RUN)
    assert world.outcomes() == [(0, "passed")]


def test_a_missing_emulator(world: World) -> None:
    hidden = world.folder / "hidden"
    (world.bin / "fake-emulator").rename(hidden)
    assert re.search(r"fake-emulator(.|\n)*Run: sudo apt install qemu-system", refused(world, *RUN))
    works_after(world, lambda: hidden.rename(world.bin / "fake-emulator"))


def test_a_tree_that_was_built_in(world: World) -> None:
    (world.tree / ".config").touch()
    message = refused(world, *RUN)
    assert f"{world.tree} cannot be built out of tree: make ran in it once." in message
    remedy = re.search(r"^Run: (make .*)$", message, re.M)
    assert remedy is not None
    works_after(world, lambda: subprocess.run(remedy[1].split(), check=True, env=world.environment))


def test_a_defconfig_with_a_line_that_is_no_setting(world: World) -> None:
    defconfig = world.tree / "arch/arm/configs/test_defconfig"
    world.edit(defconfig, "CONFIG_AEABI=y", "CONFIG_AEABI is on")
    assert f"{defconfig}:6: 'CONFIG_AEABI is on' is not a setting." in refused(world, *RUN)
    works_after(world, lambda: world.edit(defconfig, "CONFIG_AEABI is on", "CONFIG_AEABI=y"))


@pytest.mark.parametrize(
    ("symbol", "message"),
    [
        ("LEDS", r"does not build: .*undefined reference to `led_register'"),
        ("TIMER", r"does not boot: hang: silent after: .*Calibrating delay loop"),
        ("INET", r"fails a smoke check: board/network: expected /\^INET works\$/"),
        ("MTD", r"fails a smoke check: kernel/no_oops: Unable to handle kernel NULL pointer"),
    ],
)
def test_a_baseline_that_does_not_work(world: World, symbol: str, message: str) -> None:
    world.edit(world.board, "silence_timeout_seconds = 4", "silence_timeout_seconds = 1.5")
    defconfig = world.tree / "arch/arm/configs/test_defconfig"
    # A study may change as long as no trial is stored that it would have to agree with.
    world.edit(defconfig, f"CONFIG_{symbol}=y\n", f"# CONFIG_{symbol} is not set\n")
    said = refused(world, *RUN)
    assert re.search(rf"The unmodified defconfig {message}", said)
    assert str(world.results / "small/logs/trial-0000") in said
    assert world.outcomes() == []
    works_after(
        world,
        lambda: world.edit(defconfig, f"# CONFIG_{symbol} is not set\n", f"CONFIG_{symbol}=y\n"),
    )


def test_every_failed_check_of_a_baseline_is_named(world: World) -> None:
    world.suite.write_text(SUITE.replace("^42$", "^43$").replace("^INET works$", "^no$"))
    assert "Failed checks: board/arithmetic, board/network." in refused(world, *RUN)


def test_a_board_that_the_emulator_does_not_know(world: World) -> None:
    world.edit(world.board, '"fakeboard"', '"otherboard"')
    assert "unsupported machine type" in refused(world, *RUN)
    works_after(world, lambda: world.edit(world.board, '"otherboard"', '"fakeboard"'))


def test_a_device_tree_that_the_tree_does_not_have(world: World) -> None:
    world.edit(world.study, '"test.dtb"', '"other.dtb"')
    assert "other.dtb cannot be built: " in refused(world, *RUN)
    works_after(world, lambda: world.edit(world.study, '"other.dtb"', '"test.dtb"'))


def test_a_whole_configuration_is_completed_only_once_a_tree(world: World) -> None:
    asked = world.folder / "asked"
    world.fault("olddefconfig", f"echo asked >>{asked}")
    world.memtotal("run", "small.toml", "--trials", 4)
    assert len(world.built()) > 2
    assert asked.read_text() == "asked\n"


def test_a_configuration_that_the_kernels_tools_have_a_question_about(world: World) -> None:
    asked = world.folder / "asked"
    world.fault("olddefconfig", f"echo asked >>{asked}")
    # From the second build on, once each: what conf says when it has nobody to ask.
    world.fault(
        "vmlinux",
        "[ -e vmlinux ] || exit 0\n"
        f"[ -e {world.folder}/told ] && rm {world.folder}/told && exit 0\n"
        f"touch {world.folder}/told\necho '* Restart config...'\nexit 1",
    )
    done = world.memtotal("run", "small.toml", "--trials", 4)
    assert done.code == 0, done.err
    assert asked.read_text().count("asked") >= len(world.built()) > 2
    assert not (world.folder / "told").exists()


def test_a_full_disk_under_the_compiler(world: World) -> None:
    fault = world.fault(
        "kernel/bug.o",
        "echo 'fatal error: error writing to /tmp/x.s: No space left on device'; exit 1",
    )
    done = world.memtotal(*RUN, code=2)
    assert "Trying again." in done.out
    assert done.err.startswith("memtotal: The build failed for the machine's reasons: fatal error")
    assert world.outcomes() == []
    works_after(world, fault.unlink)


def test_a_machine_fault_that_passes_costs_nothing_but_a_second_try(world: World) -> None:
    once = world.folder / "once"
    world.fault(
        "kernel/bug.o",
        f"[ ! -e {once} ] || exit 0; touch {once}; echo 'x: Cannot allocate memory'; exit 1",
    )
    done = world.memtotal(*RUN)
    assert done.out.count("Trying again.") == 1
    assert world.outcomes() == [(0, "passed")]


def test_a_build_that_never_ends(world: World) -> None:
    world.edit(world.study, "build_timeout_seconds = 60", "build_timeout_seconds = 5")
    fault = world.fault("vmlinux", "sleep 1000")
    assert re.search(r"does not build: no image after \d+ s", refused(world, *RUN))
    world.assert_nothing_left()
    works_after(world, fault.unlink)


# -- the results -----------------------------------------------------------------------------------


def copied(world: World, folder: Path) -> Path:
    """A copy of the study's results that may be spoiled; its database."""
    shutil.copytree(world.results / "small", folder / "small")
    return folder / "small" / "trials.db"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:6000]),
        lambda path: path.write_bytes(b"garbage " * 2000),
        lambda path: path.write_bytes(path.read_bytes()[:200] + bytes(path.stat().st_size - 200)),
    ],
    ids=["truncated", "garbage", "zeros"],
)
@pytest.mark.parametrize("command", ["run", "status"])
def test_a_damaged_database_is_left_as_it_is(
    begun: World, tmp_path: Path, spoil: Callable[[Path], object], command: str
) -> None:
    database = copied(begun, tmp_path)
    spoil(database)
    before = database.read_bytes()
    message = refused(begun, command, "small.toml", "--results", tmp_path)
    assert f"{database} is damaged or not a database" in message
    assert "Move it away together with its -wal and -shm files." in message
    assert database.read_bytes() == before
    # What the message says to do is enough.
    for path in database.parent.glob("trials.db*"):
        path.unlink()
    begun.memtotal(*RUN, "--results", tmp_path)


def test_a_database_of_no_bytes_is_a_new_one(begun: World, tmp_path: Path) -> None:
    database = tmp_path / "small" / "trials.db"
    database.parent.mkdir()
    database.touch()
    assert "is damaged" in refused(begun, "status", "small.toml", "--results", tmp_path)
    begun.memtotal(*RUN, "--results", tmp_path)


def test_a_results_folder_that_is_a_file(begun: World, tmp_path: Path) -> None:
    (tmp_path / "small").touch()
    message = refused(begun, *RUN, "--results", tmp_path)
    assert f"{tmp_path / 'small'} cannot be written" in message


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB; only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_full_and_then_is_not(begun: World, tiny_disk: Path) -> None:
    begun.memtotal(*RUN, "--results", tiny_disk)
    ballast = tiny_disk / "ballast"
    free = shutil.disk_usage(tiny_disk).free
    ballast.write_bytes(bytes(free))
    message = refused(begun, "run", "small.toml", "--trials", 2, "--results", tiny_disk)
    assert re.search("space|written|disk", message)
    ballast.unlink()
    begun.memtotal(
        "run", "small.toml", "--trials", 2, "--sampler", "random", "--results", tiny_disk
    )
    status = begun.memtotal("status", "small.toml", "--json", "--results", tiny_disk).json
    assert status["trials"] == 2


def test_a_disk_that_is_too_small_to_begin_with(begun: World, tiny_disk: Path) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(shutil.disk_usage(tiny_disk).free - 300_000))
    message = refused(begun, *RUN, "--results", tiny_disk)
    assert "no space left to write in" in message
    assert not list(tiny_disk.rglob("trials.db*")), "half a file is worse than none"


def test_a_folder_that_is_read_only(begun: World, tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    assert "cannot be written" in refused(begun, *RUN, "--results", tiny_disk)
    subprocess.run(["mount", "-o", "remount,rw", str(tiny_disk)], check=True)
    begun.memtotal(*RUN, "--results", tiny_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    status = begun.memtotal("status", "small.toml", "--json", "--results", tiny_disk)
    assert status.json["trials"] == 1


def test_a_second_run_of_the_same_study(world: World) -> None:
    fault = world.fault("vmlinux", "sleep 1000")
    first = world.start(*RUN)
    wait_until(world.left_over)
    wait_until(lambda: world.query("SELECT 1 FROM activity WHERE phase = 'build'"))
    said = refused(world, *RUN)
    assert f"Study small is being run by process {first.pid}.\nLook at it with: " in said
    status = world.memtotal("status", "small.toml", "--json").json
    assert (status["running"], status["activity"][0]["pid"]) == (True, first.pid)
    first.signal(signal.SIGINT)
    assert first.ended().code == 130
    works_after(world, fault.unlink)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        (
            "the board, the defconfig, the smoke suites or the objective",
            lambda world: world.edit(world.board, "memory_mb = 32", "memory_mb = 64"),
        ),
        (
            "the board, the defconfig, the smoke suites or the objective",
            lambda world: world.edit(world.suite, "6 * 7", "7 * 6"),
        ),
        (
            "the kernel tree",
            lambda world: world.edit(world.tree / "Makefile", "SUBLEVEL = 7", "SUBLEVEL = 8"),
        ),
        (
            "the emulator",
            lambda world: world.edit(
                world.bin / "fake-emulator", "version 7.2.22", "version 9.0.0"
            ),
        ),
    ],
    ids=["board", "suite", "tree", "emulator"],
)
def test_a_study_that_changed_under_its_trials(
    begun: World, tmp_path: Path, what: str, change: Callable[[World], object]
) -> None:
    copied(begun, tmp_path)
    world = World(tmp_path / "world")
    shutil.copy(begun.study, world.study)
    world.edit(world.study, 'tree = "linux"', f'tree = "{world.tree}"')
    change(world)
    said = refused(world, "run", "small.toml", "--trials", 2, "--results", tmp_path)
    assert "cannot be compared with new ones; changed:" in said
    assert what in said
    assert f"Give the study another name, or remove {tmp_path / 'small'} to start over." in said
    assert (
        world.memtotal("status", "small.toml", "--json", "--results", tmp_path).json["trials"] == 1
    )


def test_a_reader_that_has_seen_enough(begun: World) -> None:
    """As in ``memtotal review | head -1``: no complaint about the pipe that was closed."""
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", "from optimizer.cli import main; main()", "review", "small.toml"],
        env=begun.environment, cwd=begun.folder, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    os.close(reading)
    assert child.communicate(timeout=60)[1] == b""
