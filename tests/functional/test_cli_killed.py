"""Runs that end before their time: killed in every phase, interrupted once and twice."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.world import Run, World, wait_until

TRIALS = 3
RUN = ("run", "small.toml", "--sampler", "random", "--trials", TRIALS)

# A disk that takes its time: SQLite's commits wait where a power cut would hurt most.
SLOW_DISK = """
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int slowly(long call, int fd)
{
    const char *mark = getenv("SLOW_DISK");
    if (mark && access(mark, F_OK) == 0) {
        close(open(getenv("SLOW_DISK_SEEN"), O_CREAT | O_WRONLY, 0644));
        usleep(300000);
    }
    return syscall(call, fd);
}
int fsync(int fd) { return slowly(SYS_fsync, fd); }
int fdatasync(int fd) { return slowly(SYS_fdatasync, fd); }
"""


def phase(world: World, name: str, trial: int) -> Callable[[], bool]:
    """Whether a trial is in a phase, as the database says that anybody may read."""
    return lambda: (trial, name) in world.query("SELECT trial, phase FROM activity")


def stopped_at(world: World, where: str) -> Run:
    """A run that does not come beyond a phase of its trial 1; nothing else is changed for it."""
    world.memtotal("run", "small.toml", "--trials", 1)
    if where == "configure":
        world.fault("olddefconfig", "exec sleep 1000")
    elif where == "build":
        world.fault("vmlinux", "sleep 1000 & wait")
    else:
        world.behave({"boot": "delay boot 1000", "smoke": "delay INET 1000"}[where])
    run = world.start(*RUN)
    wait_until(phase(world, where, 1), lambda: run.said)
    if where == "smoke":
        wait_until(lambda: any("sleep 1000" in line for line in world.left_over().values()))
    return run


def mended(world: World, tree: Path) -> None:
    """Undo what stopped_at() did, by the tree as it was."""
    for path in world.knobs.glob("faults/*"):
        path.unlink()
    (world.knobs / "behaviour").write_text(tree.read_text())


def undisturbed(world: World, folder: str = "undisturbed") -> list[tuple[object, ...]]:
    """The trials of a run that nobody disturbs."""
    world.memtotal(*RUN, "--results", world.folder / folder)
    database, world.database = world.database, world.folder / folder / "small" / "trials.db"
    try:
        return world.trials()
    finally:
        world.database = database


@pytest.mark.parametrize("where", ["configure", "build", "boot", "smoke"])
def test_a_killed_run_leaves_nothing_behind_and_is_resumed(
    world: World, tmp_path: Path, where: str
) -> None:
    tree = tmp_path / "behaviour"
    tree.write_text((world.knobs / "behaviour").read_text())
    run = stopped_at(world, where)
    assert world.left_over()
    run.kill()
    world.assert_nothing_left()
    world.assert_sound()
    assert [number for number, _ in world.outcomes()] == [0]
    assert "was killed" in world.memtotal("status", "small.toml").out

    mended(world, tree)
    world.memtotal(*RUN)
    world.assert_sound()
    assert len(world.outcomes()) == TRIALS
    assert world.trials() == undisturbed(world)


def test_a_job_that_waits_for_the_tree_ends_with_the_run(world: World) -> None:
    world.memtotal("run", "small.toml", "--trials", 1)
    fault = world.fault("vmlinux", "sleep 1000 & wait")
    run = world.start(*RUN, "--jobs", 2)
    for what in ("build", "wait"):
        wait_until(
            lambda what=what: (what,) in world.query("SELECT phase FROM activity"), lambda: run.said
        )
    run.signal(signal.SIGINT)
    assert "Stopped: interrupted." in run.ended().out
    world.assert_nothing_left()
    fault.unlink()
    world.memtotal(*RUN, "--jobs", 2)
    world.assert_sound()
    assert len(world.outcomes()) == TRIALS


def test_a_run_killed_at_its_first_trial_is_resumed(world: World) -> None:
    fault = world.fault("vmlinux", "exec sleep 1000")
    run = world.start(*RUN)
    wait_until(phase(world, "build", 0), lambda: run.said)
    run.kill()
    world.assert_nothing_left()
    fault.unlink()
    world.memtotal(*RUN)
    world.assert_sound()
    assert len(world.outcomes()) == TRIALS


def test_an_object_that_a_killed_build_left_half_written_is_made_again(world: World) -> None:
    world.fault("vmlinux", "printf half >drivers/sound.o; printf half >vmlinux; exec sleep 1000")
    run = world.start(*RUN)
    wait_until(phase(world, "build", 0), lambda: run.said)
    (half,) = world.cache.glob("slots/*/0")
    wait_until(lambda: (half / "vmlinux").exists())
    run.kill()
    (world.knobs / "faults" / "vmlinux").unlink()
    world.memtotal("run", "small.toml", "--trials", 1)
    assert world.outcomes() == [(0, "passed")]


def test_a_run_killed_while_it_stores_loses_no_trial_and_has_none_twice(world: World) -> None:
    source, library = world.folder / "slow.c", world.folder / "slow.so"
    source.write_text(SLOW_DISK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    mark, seen = world.folder / "slow", world.folder / "seen"
    world.extra = {
        "LD_PRELOAD": str(library), "SLOW_DISK": str(mark), "SLOW_DISK_SEEN": str(seen),
    }  # fmt: skip
    for trial in range(TRIALS):
        run = world.start(*RUN, fresh=True)
        wait_until(lambda trial=trial: (trial,) in world.query("SELECT trial FROM activity"))
        before = world.outcomes()
        mark.touch()
        wait_until(seen.exists, lambda run=run: run.said)
        run.kill()
        seen.unlink()
        mark.unlink()
        world.assert_nothing_left()
        world.assert_sound()
        # It was being stored: it is there as a whole, or it is not there.
        assert len(world.outcomes()) - len(before) in (0, 1)
        world.memtotal("run", "small.toml", "--sampler", "random", "--trials", trial + 1)
    world.extra = {}
    world.memtotal(*RUN)
    world.assert_sound()
    assert world.trials() == undisturbed(world)


@pytest.mark.parametrize("where", ["configure", "build", "boot", "smoke"])
def test_an_interrupt_ends_the_run_and_says_how_to_go_on(world: World, where: str) -> None:
    run = stopped_at(world, where)
    run.signal(signal.SIGINT)
    done = run.ended()
    assert (done.code, done.err) == (130, "")
    assert "Stopped: interrupted." in done.out
    assert "Go on:   memtotal run small.toml" in done.out
    assert re.search(r"^Export:  memtotal export small\.toml ", done.out, re.M)
    world.assert_nothing_left()
    world.assert_sound()
    assert [number for number, _ in world.outcomes()] == [0]
    assert "interrupted" in world.memtotal("status", "small.toml").out


def test_a_terminate_signal_is_an_interrupt_too(world: World) -> None:
    run = stopped_at(world, "boot")
    run.signal(signal.SIGTERM)
    assert run.ended().code == 130


def test_two_interrupts_end_it_at_once(world: World) -> None:
    """The child does not mind being asked to stop, so the first one has to wait for it."""
    world.memtotal("run", "small.toml", "--trials", 1)
    world.fault("vmlinux", "trap '' TERM; while :; do sleep 0.1; done")
    run = world.start(*RUN)
    wait_until(phase(world, "build", 1), lambda: run.said)
    # Signals of one kind that are pending become one, so a person's second Ctrl-C comes later.
    while run.code is None:
        with contextlib.suppress(ProcessLookupError):
            run.signal(signal.SIGINT)
        time.sleep(0.05)
    done = run.ended()
    assert done.code == 130
    assert "Stopped" not in done.out
    world.assert_nothing_left()
    world.assert_sound()


def test_an_interrupt_before_the_first_trial(world: World) -> None:
    """While the kernel tree is read there is nothing yet that could be ended cleanly."""
    gcc = world.bin / "fake-gcc"
    before = gcc.read_text()
    world.program("fake-gcc", "#!/bin/sh\nexec sleep 1000\n")
    run = world.start(*RUN)
    wait_until(lambda: "reading" in run.said and world.left_over())
    run.signal(signal.SIGINT)
    done = run.ended()
    assert done.code == 130
    assert "Traceback" not in done.err
    world.assert_nothing_left()
    world.program("fake-gcc", before)
    world.memtotal("run", "small.toml", "--trials", 1)


def test_a_budget_ends_the_run_after_the_trial_under_way(world: World) -> None:
    done = world.memtotal("run", "small.toml", "--budget", "1s")
    assert "Stopped: the budget is used up." in done.out
    world.assert_sound()
    assert world.outcomes()[0] == (0, "passed")
