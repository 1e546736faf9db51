"""Trials in and out."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_examples import any_trial, passed_trial

from optimizer.errors import MachineFault, UserError
from optimizer.records import BootResult, BootState, CheckResult, Outcome, Trial
from optimizer.store import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "study" / "trials.db", create=True) as opened:
        yield opened


def ended(trial: Trial, outcome: Outcome, **changes: object) -> Trial:
    return dataclasses.replace(trial, outcome=outcome, objective=None, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roundtrip")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_comes_out_is_what_was_put_in(module_folder: Path, data: st.DataObject) -> None:
    path = module_folder / uuid.uuid4().hex / "trials.db"
    trials = data.draw(
        st.lists(any_trial(path.parent), max_size=3, unique_by=lambda trial: trial.number)
    )
    with Database.open(path, create=True) as database:
        for trial in trials:
            database.put_trial(trial)
    with Database.read(path) as database:
        for trial in trials:
            assert database.trial(trial.number) == trial
            assert list(database.trial(trial.number).params) == list(trial.params)
            assert database.resolved(trial.number) == trial.resolved
        light = [
            dataclasses.replace(
                trial,
                resolved=dataclasses.replace(trial.resolved, text=""),
                build=trial.build and dataclasses.replace(trial.build, config_text=""),
            )
            for trial in sorted(trials, key=lambda trial: trial.number)
        ]
        assert database.trials() == light
    shutil.rmtree(path.parent)


def test_a_number_is_stored_once(database: Database) -> None:
    first = passed_trial(database.folder, 3)
    database.put_trial(first)
    with pytest.raises(MachineFault, match="trial 3 is stored already"):
        database.put_trial(passed_trial(database.folder, 3, reason="another"))
    assert [trial.reason for trial in database.trials()] == [""]
    assert database.trial(3) == first


def test_a_trial_that_cannot_be_stored_leaves_nothing_behind(database: Database) -> None:
    good = passed_trial(database.folder, 1)
    database.put_trial(good)
    with pytest.raises(MachineFault, match="does not fit"):
        database.put_trial(passed_trial(database.folder, 2, tools={"gcc": 2**70}))
    assert [trial.number for trial in database.trials()] == [1]
    configs = sqlite3.connect(database.path).execute("SELECT digest FROM configs").fetchall()
    assert configs == [("digest-1",)]


def test_broken_bytes_of_a_console_are_kept_readable(database: Database) -> None:
    trial = passed_trial(database.folder)
    assert trial.boot is not None
    log = "ok \udc80 \x00 é"
    database.put_trial(
        dataclasses.replace(trial, boot=dataclasses.replace(trial.boot, kernel_log=log))
    )
    stored = database.trial(0).boot
    assert stored is not None
    assert stored.kernel_log == "ok \\udc80 \x00 é"


def test_a_missing_trial_is_said_to_be_missing(database: Database) -> None:
    with pytest.raises(UserError, match="no trial 7"):
        database.trial(7)


def test_equal_configs_are_stored_once(database: Database) -> None:
    first = passed_trial(database.folder, 0)
    for number in range(5):
        database.put_trial(dataclasses.replace(first, number=number))
    connection = sqlite3.connect(database.path)
    assert connection.execute("SELECT count(*) FROM configs").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM config_texts").fetchone() == (2,)


def test_log_paths_follow_a_moved_folder(database: Database, tmp_path: Path) -> None:
    database.put_trial(passed_trial(database.folder, 4, log_dir=Path("/elsewhere/4")))
    connection = sqlite3.connect(database.path)
    assert connection.execute("SELECT log FROM builds").fetchone() == ("trials/0004/build.log",)
    connection.close()
    database.close()
    moved = tmp_path / "moved"
    database.folder.rename(moved)
    with Database.read(moved / "trials.db") as reader:
        trial = reader.trial(4)
        assert trial.build is not None
        assert trial.build.log == moved / "trials/0004/build.log"
        assert trial.log_dir == Path("/elsewhere/4")


def test_a_folder_reached_through_a_link_is_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Database.open(tmp_path / "link" / "trials.db", create=True) as database:
        database.put_trial(passed_trial(tmp_path / "real", 0))
        assert database.trial(0).log_dir == tmp_path / "link" / "trials" / "0000"


def test_the_best_is_the_highest_then_the_smallest_then_the_first(database: Database) -> None:
    assert database.best() is None
    base = passed_trial(database.folder)
    assert base.build is not None

    def put(number: int, objective: float | None, image: int, outcome: Outcome) -> None:
        assert base.build is not None
        build = dataclasses.replace(base.build, image_bytes=image)
        database.put_trial(
            dataclasses.replace(
                base, number=number, objective=objective, build=build, outcome=outcome
            )
        )

    put(0, None, 1, Outcome.BOOT_FAILED)
    assert database.best() is None
    put(1, 100.0, 50, Outcome.PASSED)
    assert database.best() == 1
    put(2, 100.0, 40, Outcome.PASSED)
    assert database.best() == 2
    put(3, 100.0, 40, Outcome.PASSED)
    assert database.best() == 2
    put(4, 900.0, 10, Outcome.DUPLICATE)
    assert database.best() == 2
    put(5, 101.0, 90, Outcome.PASSED)
    assert database.best() == 5


def test_a_digest_leads_to_the_first_trial_that_was_built(database: Database) -> None:
    base = passed_trial(database.folder)
    outcomes = (
        Outcome.CONFIG_REFUSED,
        Outcome.DUPLICATE,
        Outcome.BUILD_FAILED,
        Outcome.PASSED,
    )
    for number, outcome in enumerate(outcomes):
        assert database.by_digest("digest-0") is None or number == 3
        database.put_trial(dataclasses.replace(base, number=number, outcome=outcome))
    found = database.by_digest("digest-0")
    assert found == database.trial(2)
    assert database.by_digest("digest") is None


def test_views_answer_what_their_names_ask(database: Database) -> None:
    base = passed_trial(database.folder, 0)
    assert base.boot is not None
    assert base.build is not None
    panic = BootResult(
        BootState.PANIC, 2.0, database.folder / "t1" / "console.log", detail="Kernel panic: no init"
    )
    no_echo = dataclasses.replace(
        base.boot,
        transcript=database.folder / "t2.log",
        checks=(
            CheckResult("console", "prompt", True, 0.1),
            CheckResult("network", "tftp", False, 9.0, "timed out"),
        ),
    )
    failed_build = dataclasses.replace(base.build, ok=False, errors=("undefined reference", "x"))
    database.put_trial(base)
    database.put_trial(ended(passed_trial(database.folder, 1), Outcome.BOOT_FAILED, boot=panic))
    database.put_trial(ended(passed_trial(database.folder, 2), Outcome.SMOKE_FAILED, boot=no_echo))
    database.put_trial(
        ended(passed_trial(database.folder, 3), Outcome.BUILD_FAILED, build=failed_build, boot=None)
    )
    database.put_trial(passed_trial(database.folder, 4, objective=25_000.0))
    database.put_trial(passed_trial(database.folder, 5, effective={"DRM": "y"}))

    connection = sqlite3.connect(database.path)
    assert connection.execute("SELECT * FROM best").fetchall() == [
        (0, "passed", 25620.0, 25620.0),
        (1, "boot_failed", None, 25620.0),
        (2, "smoke_failed", None, 25620.0),
        (3, "build_failed", None, 25620.0),
        (4, "passed", 25000.0, 25620.0),
        (5, "passed", 25625.0, 25625.0),
    ]
    assert connection.execute("SELECT * FROM failures").fetchall() == [
        (1, "boot_failed", None, "Kernel panic: no init", "t1/console.log"),
        (2, "smoke_failed", "network/tftp", "timed out", "t2.log"),
        (3, "build_failed", None, "undefined reference", "trials/0000/build.log"),
    ]
    assert connection.execute("SELECT * FROM outcomes").fetchall()[0] == (
        "passed",
        3,
        20.25,
        25625.0,
    )
    drm = connection.execute("SELECT * FROM by_option WHERE symbol = 'DRM'").fetchall()
    assert drm == [("DRM", "n", 6, 5, 2, (25620.0 + 25000.0) / 2)]


def test_reading_all_trials_stays_cheap(database: Database) -> None:
    values = {f"OPTION_{number}": "y" for number in range(270)}
    base = passed_trial(database.folder, params=values, effective=values)
    for number in range(200):
        database.put_trial(dataclasses.replace(base, number=number))
    started = time.process_time()
    assert len(database.trials()) == 200
    # A fifth of the trials, and room for a slow machine: what it costs here is a tenth of this.
    assert time.process_time() - started < 1.0


def test_threads_share_a_database(database: Database) -> None:
    failures: list[Exception] = []

    def work(slot: int) -> None:
        try:
            for step in range(20):
                database.set_activity(slot, step, "build")
                database.put_trial(passed_trial(database.folder, slot * 100 + step))
                database.best()
        except Exception as error:  # the assertion below shows it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(database.trials()) == 80
    assert [(one.slot, one.trial) for one in database.activity()] == [(n, 19) for n in range(4)]
