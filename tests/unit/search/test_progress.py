"""What a run says while it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.cli.progress import Progress
from tests.unit.store.store_examples import passed_trial


@pytest.mark.parametrize("unlike", [(), ("kernel/fork.o", "mm/slub.o")])
def test_objects_that_came_out_otherwise_are_named(
    tmp_path: Path, unlike: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    trial = passed_trial(tmp_path, 7)
    assert trial.build is not None
    trial = replace(trial, build=replace(trial.build, unlike=unlike))
    Progress(25_000.0, None, 0, None, None).finished(trial, trial)
    said = " ".join(capsys.readouterr().out.split())
    assert ("kernel/fork.o, mm/slub.o came out otherwise" in said) == bool(unlike)
    assert ("verify them" in said) == bool(unlike)
