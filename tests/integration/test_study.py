"""The main job on a real kernel: search, kill, resume, verify, export."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optimizer.settings import cache_folder
from tests.integration.kernels import STUDIES

pytestmark = [pytest.mark.integration, pytest.mark.kernels]

STUDY = str(STUDIES / "small.toml")
MEMTOTAL = [sys.executable, "-c", "from optimizer.cli import main; main()"]
PATIENCE_SECONDS = 600.0


# A cache of the tests' own, so that what is left running can be told from other runs by its path.
CACHE = cache_folder() / "tests" / "cache"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder that the module's tests share, as a user's evening would."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("linux-source-6.1", "rootfs-armel.cpio.gz"):
        link = CACHE / name
        if not link.is_symlink():
            link.symlink_to(cache_folder() / name)
    return tmp_path_factory.mktemp("results")


def environment() -> dict[str, str]:
    return {**os.environ, "MEMTOTAL_CACHE": str(CACHE)}


def memtotal(results: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MEMTOTAL, *arguments, "--results", str(results)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=environment(),
        check=False,
    )


def document(results: Path, *arguments: str) -> dict:  # type: ignore[type-arg]
    done = memtotal(results, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(results: Path, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{results}/small/trials.db?mode=ro", uri=True) as connection:
        return connection.execute(sql).fetchall()


def left_over() -> list[str]:
    """Command lines of processes that work in the tests' cache: makes, compilers, emulators."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(CACHE) in line:
            found.append(line)
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_1_a_run_finds_something_better(results: Path) -> None:
    done = memtotal(results, "run", STUDY, "--trials", "3")
    assert done.returncode == 0, done.stderr
    assert "Export:" in done.stdout
    status = document(results, "status", STUDY)
    assert status["trials"] == 3
    assert status["best_kb"] > status["baseline_kb"]
    assert not status["running"]


SEEDS = 12


@contextlib.contextmanager
def running(results: Path, *phases: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A run that is alive and in one of those phases of its next trial, and its arguments.

    A random variant may have been tried before, and then nothing is built: so seeds are tried until
    one leads there.
    """
    for seed in range(SEEDS):
        trials = document(results, "status", STUDY)["trials"]
        arguments = ["run", STUDY, "--trials", str(trials + 1), "--sampler", "random"]
        arguments += ["--seed", str(seed)]
        child = subprocess.Popen(
            [*MEMTOTAL, *arguments, "--results", str(results)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_for(lambda child=child: _phase(results) in phases or child.poll() is not None)
            if child.poll() is None:
                yield child, arguments
                return
        finally:
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
    pytest.fail(f"no seed up to {SEEDS} led to {phases}")


def _phase(results: Path) -> object:
    return next(iter(rows(results, "SELECT phase FROM activity")), (None,))[0]


@pytest.mark.parametrize("phase", ["configure", "build", "boot", "smoke"])
def test_2_killed_in_any_phase_it_resumes(phase: str, results: Path) -> None:
    with running(results, phase) as (run, arguments):
        before = rows(results, "SELECT number, outcome FROM trials ORDER BY number")
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert run.returncode == -signal.SIGKILL
    wait_for(lambda: not left_over())
    assert rows(results, "PRAGMA integrity_check") == [("ok",)]
    assert rows(results, "SELECT number, outcome FROM trials ORDER BY number") == before
    again = memtotal(results, *arguments)
    assert again.returncode == 0, again.stderr
    after = rows(results, "SELECT number, outcome FROM trials ORDER BY number")
    assert after[:-1] == before
    assert [number for number, _ in after] == list(range(len(before) + 1))


def test_3_interrupted_it_says_how_to_go_on(results: Path) -> None:
    with running(results, "build", "boot") as (run, _arguments):
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == 130, said
    assert "memtotal run" in said
    assert "memtotal export" in said
    assert not left_over()


def test_4_the_winner_repeats(results: Path) -> None:
    status = document(results, "status", STUDY)
    verified = document(results, "verify", STUDY)
    assert verified["repeats"]
    assert [one["mem_total_kb"] for one in verified["boots"]] == [status["best_kb"]] * 3


def test_5_the_exported_defconfig_repeats_too(results: Path, tmp_path: Path) -> None:
    winner = tmp_path / "winner_defconfig"
    assert memtotal(results, "export", STUDY, "-o", str(winner)).returncode == 0
    status = document(results, "status", STUDY)
    verified = document(results, "verify", STUDY, "--defconfig", str(winner))
    shown = document(results, "show", STUDY, str(status["best_trial"]))
    assert verified["config_sha256"] == shown["config_sha256"]
    assert {one["mem_total_kb"] for one in verified["boots"]} == {status["best_kb"]}


def test_6_a_defconfig_that_does_not_pass_is_not_called_good(results: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken_defconfig"
    base = Path(STUDIES / "small_defconfig").read_text()
    broken.write_text(base.replace("CONFIG_BLK_DEV_INITRD=y", "# CONFIG_BLK_DEV_INITRD is not set"))
    done = memtotal(results, "verify", STUDY, "--defconfig", str(broken))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "does not repeat" in done.stdout


def test_7_what_a_change_saves_is_measured(results: Path) -> None:
    """Against the figures of the trials themselves, and again from the winner's verified build."""
    status = document(results, "status", STUDY)
    shown = document(results, "show", STUDY, str(status["best_trial"]))
    (option, before, after) = next(
        one
        for one in shown["differences"]
        if one[0] in ("LOG_BUF_SHIFT", "DEVMEM", "MAGIC_SYSRQ", "BINFMT_SCRIPT")
    )
    measured = document(results, "attribute", STUDY, "--option", option)["measured"]
    (price,) = [one for one in measured if one["option"] == option]
    assert (price["before"], price["value"], price["basis"]) == (before, after, "measured")
    ((having, lacking),) = rows(
        results,
        "SELECT with_trial, without_trial FROM attributions WHERE kind = 'winner'",
    )
    assert having == status["best_trial"]
    without = document(results, "show", STUDY, str(lacking))
    assert [one for one in without["differences"] if one[0] == option] == []
    assert price["mem_total_kb"] == status["best_kb"] - without["meminfo_kb"]["MemTotal"]
    assert price["mem_total_kb"] % 4 == 0
    if option == "LOG_BUF_SHIFT":
        assert price["mem_total_kb"] >= (1 << int(before)) - (1 << int(after)) >> 10
