"""What the figures belong to, runs, and what is going on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from store_examples import passed_trial

from optimizer.errors import UserError
from optimizer.store import Database

BOUND: dict[str, Any] = {
    "study_digest": "digest",
    "settings_text": 'board = "versatilepb"\n',
    "tree_identity": "linux-6.1.192 0123abcd",
    "compiler": "gcc 12.2.0",
    "emulator": "QEMU 7.2.1",
    "candidates": {"DRM": {"type": "bool", "values": ["n", "y"]}, "LOG_BUF_SHIFT": [12, 14]},
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "trials.db", create=True) as opened:
        yield opened


def start(database: Database, **changes: object) -> int:
    told: dict[str, Any] = {"sampler": "groups", "seed": 1, "jobs": 2, "cores": 4, "memory_gb": 7.5}
    return database.start_run(**(told | changes))


def test_a_study_is_bound_once_and_found_again(database: Database) -> None:
    assert database.study() is None
    database.bind_study("versatilepb", **BOUND)
    database.bind_study("versatilepb", **BOUND)
    study = database.study()
    assert study is not None
    assert study.name == "versatilepb"
    for key, value in BOUND.items():
        assert getattr(study, key) == value


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("tree_identity", r"the kernel tree \(was linux-6.1.192 0123abcd, is other\)"),
        ("compiler", r"the compiler \(was gcc 12.2.0, is other\)"),
        ("emulator", r"the emulator \(was QEMU 7.2.1, is other\)"),
        ("study_digest", "the board, the defconfig, the smoke suites or the objective"),
    ],
)
def test_what_makes_figures_incomparable_is_refused(
    key: str, words: str, database: Database
) -> None:
    database.bind_study("versatilepb", **BOUND)
    database.put_trial(passed_trial(database.folder))
    with pytest.raises(UserError, match=words) as caught:
        database.bind_study("versatilepb", **(BOUND | {key: "other"}))
    assert "another name" in caught.value.remedy
    assert str(database.folder) in caught.value.remedy
    study = database.study()
    assert study is not None
    assert getattr(study, key) == BOUND[key]
    with pytest.raises(UserError, match="the study's name"):
        database.bind_study("other", **BOUND)


def test_before_the_first_trial_everything_may_change(database: Database) -> None:
    database.bind_study("versatilepb", **BOUND)
    database.bind_study("versatilepb", **(BOUND | {"study_digest": "a mended suite"}))
    study = database.study()
    assert study is not None
    assert study.study_digest == "a mended suite"


def test_options_of_a_study_may_change_and_are_all_kept(database: Database) -> None:
    database.bind_study("versatilepb", **BOUND)
    database.bind_study("versatilepb", **(BOUND | {"candidates": {"BUG": None}}))
    study = database.study()
    assert study is not None
    assert study.candidates == {"BUG": None}
    kept = sqlite3.connect(database.path).execute("SELECT count(*) FROM study_settings").fetchone()
    assert kept == (2,)


def test_a_run_has_an_end_only_when_it_ended(database: Database) -> None:
    first = start(database, budget_seconds=60.0)
    second = start(database, budget_trials=5)
    database.end_run(second, "budget used up")
    third = start(database)
    runs = database.runs()
    assert [run.id for run in runs] == [first, second, third]
    assert [run.state for run in runs] == ["killed", "ended", "running or killed"]
    assert [run.ended_at is None for run in runs] == [True, False, True]
    assert [run.stop_reason for run in runs] == [None, "budget used up", None]
    assert runs[0].budget_seconds == 60.0
    assert runs[1].budget_trials == 5
    assert runs[2].pid == os.getpid()
    assert runs[2].memory_gb == 7.5


def test_activity_is_what_is_going_on_now(database: Database) -> None:
    start(database)
    database.set_activity(1, 7, "build", "120 objects")
    database.set_activity(0, 6, "build")
    database.set_activity(0, 6, "boot", "login:")
    found = database.activity()
    assert [(one.slot, one.trial, one.phase, one.detail) for one in found] == [
        (0, 6, "boot", "login:"),
        (1, 7, "build", "120 objects"),
    ]
    assert found[0].pid == os.getpid()
    updated = datetime.fromisoformat(found[0].updated_at)
    assert timedelta() <= datetime.now(UTC) - updated < timedelta(minutes=1)
    database.clear_activity(0)
    assert [one.slot for one in database.activity()] == [1]
    database.clear_activity()
    assert database.activity() == []


@pytest.mark.parametrize("how", ["start", "end"])
def test_a_run_begins_and_ends_without_activity(how: str, database: Database) -> None:
    run = start(database)
    database.set_activity(0, 6, "build")
    if how == "start":
        start(database)
    else:
        database.end_run(run, "stopped")
    assert database.activity() == []
