"""Which of the planned steps are steps of their own, by what their trials gave."""

from __future__ import annotations

from collections.abc import Mapping

from optimizer.records import Assignment, Outcome, ResolvedConfig, Trial
from optimizer.search.series import Prepared, Request
from optimizer.search.steps import PlannedStep, measured

NOTHING = Prepared(Request({}), Assignment(), {}, ResolvedConfig("", "", ""))
PLANNED = [
    PlannedStep("opening", (), NOTHING),
    PlannedStep("drivers", (("USB", "n"),), NOTHING),
    PlannedStep("hash tables", (("dhash_entries=", "512"),), NOTHING),
]


def trial(
    number: int, digest: str, kb: float | None, parameters: Mapping[str, str] | None = None
) -> Trial:
    return Trial(
        number=number,
        outcome=Outcome.BOOT_FAILED if kb is None else Outcome.PASSED,
        sampler="steps",
        params={},
        assignment=Assignment({}, parameters or {}),
        effective={},
        resolved=ResolvedConfig(digest, "", ""),
        objective=kb,
    )


def test_a_step_that_changes_the_command_line_alone_is_a_step() -> None:
    trials = {
        0: trial(1, "gate", 1000),
        1: trial(2, "drivers", 1100),
        2: trial(3, "drivers", 1108, {"dhash_entries": "512"}),
    }
    found = measured(PLANNED, trials)
    assert [one.trial for one in found] == [1, 2, 3]
    assert found[-1].changes == (("dhash_entries=", "512"),)


def test_what_fails_or_comes_to_nothing_is_part_of_the_next() -> None:
    failed = {0: trial(1, "gate", 1000), 1: trial(2, "drivers", None), 2: trial(3, "all", 1108)}
    found = measured(PLANNED, failed)
    assert [(one.title, one.trial) for one in found] == [
        ("opening", 1),
        ("drivers; hash tables", 3),
    ]
    same = {0: trial(1, "gate", 1000), 1: trial(2, "gate", 1000), 2: trial(3, "all", 1108)}
    assert [one.trial for one in measured(PLANNED, same)] == [1, 3]
