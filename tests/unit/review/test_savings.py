"""Estimated savings against trials whose savings are known."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from optimizer.records import Assignment, Outcome, ResolvedConfig, Trial
from optimizer.review.savings import Expectation, differences, option_savings

BASE = {"DRM": "y", "BUG": "y", "KALLSYMS": "y", "LOG_BUF_SHIFT": "17"}
SAVES = {("DRM", "n"): 900.0, ("BUG", "n"): 24.0, ("KALLSYMS", "n"): -40.0} | {
    ("LOG_BUF_SHIFT", "12"): 124.0,
    ("LOG_BUF_SHIFT", "14"): 112.0,
}


def trial(
    number: int,
    changed: Mapping[str, str] | None = None,
    outcome: Outcome = Outcome.PASSED,
    objective: float | None = None,
) -> Trial:
    effective = BASE | dict(changed or {})
    if objective is None and outcome in (Outcome.PASSED, Outcome.DUPLICATE):
        objective = 25_000.0 + sum(SAVES.get(change, 0.0) for change in effective.items())
    return Trial(
        number=number,
        outcome=outcome,
        sampler="test",
        params={},
        assignment=Assignment(),
        effective=effective,
        resolved=ResolvedConfig("", "", ""),
        objective=objective,
    )


def random_trials(count: int, seed: int = 1) -> list[Trial]:
    chance = random.Random(seed)
    trials = [trial(0)]
    for number in range(1, count):
        changed = {name: "n" for name in ("DRM", "BUG", "KALLSYMS") if chance.random() < 0.5}
        changed["LOG_BUF_SHIFT"] = chance.choice(["12", "14", "17"])
        trials.append(trial(number, changed))
    return trials


def test_known_savings_are_found_and_sorted() -> None:
    found = option_savings(random_trials(60))
    assert [(one.option, one.value) for one in found] == [
        ("DRM", "n"),
        ("LOG_BUF_SHIFT", "12"),
        ("LOG_BUF_SHIFT", "14"),
        ("BUG", "n"),
        ("KALLSYMS", "n"),
    ]
    for one in found:
        # An estimate is drawn towards what was expected, 0: by about 1/64 of a trial in all.
        assert one.saving_kb == pytest.approx(SAVES[one.option, one.value], abs=2.0)
        assert one.together_with == ()


def test_the_order_of_the_trials_does_not_matter() -> None:
    trials = random_trials(20)
    shuffled = random.Random(2).sample(trials, len(trials))
    assert option_savings(shuffled) == option_savings(trials)


def test_trials_are_counted_by_how_they_ended() -> None:
    trials = [
        trial(0),
        trial(1, {"DRM": "n"}),
        trial(2, {"DRM": "n"}, Outcome.BOOT_FAILED),
        trial(3, {"DRM": "n"}, Outcome.BOOT_FAILED),
        trial(4, {"DRM": "n"}, Outcome.BUILD_FAILED),
        trial(5, {"DRM": "n"}, Outcome.DUPLICATE),
        trial(6, {"BUG": "n"}),
    ]
    found = {one.option: one for one in option_savings(trials)}
    assert (found["DRM"].trials, found["DRM"].passed) == (4, 1)
    assert found["DRM"].failed == {Outcome.BOOT_FAILED: 2, Outcome.BUILD_FAILED: 1}
    assert (found["BUG"].trials, found["BUG"].passed, found["BUG"].failed) == (1, 1, {})


def test_without_evidence_there_is_no_estimate() -> None:
    trials = [
        trial(0),
        trial(1, {"DRM": "n"}),
        trial(2, {"BUG": "n", "KALLSYMS": "n"}, Outcome.BOOT_FAILED),
    ]
    drm, bug, kallsyms = option_savings(trials)
    assert drm.saving_kb is not None
    # Nothing passed with either: that they failed together does not make them one.
    assert (bug.option, bug.saving_kb, bug.together_with) == ("BUG", None, ())
    assert (kallsyms.option, kallsyms.saving_kb, kallsyms.passed) == ("KALLSYMS", None, 0)


def test_no_saving_is_not_the_same_as_no_evidence() -> None:
    nothing = option_savings([trial(0), trial(1, {"OTHER": "n", "BUG": "n"}, objective=25_000.0)])
    assert [(one.option, one.saving_kb) for one in nothing] == [("BUG", 0.0)]


BOTH = {"DRM": "n", "BUG": "n"}
TOGETHER = [
    trial(0),
    trial(1, BOTH),
    trial(2, BOTH | {"KALLSYMS": "n"}),
    trial(3, BOTH),
    trial(4, {"BUG": "n"}, Outcome.SMOKE_FAILED),
]


def test_of_changes_always_made_together_only_the_sum_is_known() -> None:
    found = {one.option: one for one in option_savings(TOGETHER)}
    bug, drm = found["BUG"], found["DRM"]
    assert (bug.together_with, drm.together_with) == ((("DRM", "n"),), (("BUG", "n"),))
    assert (bug.trials, bug.passed, drm.trials, drm.passed) == (4, 3, 3, 3)
    assert found["KALLSYMS"].together_with == ()
    assert bug.saving_kb == drm.saving_kb == pytest.approx(462.0, abs=5.0)
    for one, truth in ((bug, 24.0), (drm, 900.0)):
        assert one.low_kb is not None
        assert one.high_kb is not None
        assert one.low_kb < truth < one.high_kb


def test_what_was_expected_tells_them_apart() -> None:
    expected = {"BUG": Expectation(20.0, 9.0), "DRM": Expectation(1000.0, 250.0)}
    found = {one.option: one for one in option_savings(TOGETHER, expected)}
    for name, truth, width in (("BUG", 24.0, 40.0), ("DRM", 900.0, 50.0)):
        one = found[name]
        assert one.saving_kb == pytest.approx(truth, abs=8.0)
        assert one.low_kb is not None
        assert one.high_kb is not None
        assert one.low_kb < truth < one.high_kb < one.low_kb + width


def test_expectations_far_off_are_not_trusted() -> None:
    wrong = dict.fromkeys(("DRM", "KALLSYMS"), Expectation(0.0, 4.0))
    trials = [trial(0), trial(1, {"DRM": "n", "KALLSYMS": "n"})]
    for one in option_savings(trials, wrong):
        assert one.low_kb is not None
        assert one.high_kb is not None
        assert one.low_kb < SAVES[one.option, one.value] < one.high_kb


def test_an_option_that_only_lost_its_value_saved_nothing_itself() -> None:
    trials = [trial(0), trial(1, {"DRM": "n", "LOG_BUF_SHIFT": ""})]
    drm, shift = option_savings(trials)
    assert drm.saving_kb == pytest.approx(900.0, abs=5.0)
    assert (shift.option, shift.saving_kb, shift.low_kb) == ("LOG_BUF_SHIFT", 0.0, 0.0)


def test_fewer_trials_than_options_still_give_finite_estimates() -> None:
    names = {f"OPTION_{number}": "n" for number in range(200)}
    trials = [trial(0)]
    chance = random.Random(3)
    trials[0] = Trial(**(vars(trials[0]) | {"effective": dict.fromkeys(names, "y")}))
    for number in range(1, 10):
        off = {name: chance.choice("ny") for name in names}
        trials.append(Trial(**(vars(trial(number)) | {"effective": off, "objective": 25_100.0})))
    estimates = [one.saving_kb for one in option_savings(trials)]
    assert all(one is not None and abs(one) < 200 for one in estimates)


def test_there_is_nothing_to_compare_with_without_a_passed_baseline() -> None:
    assert option_savings([]) == []
    assert option_savings([trial(1, {"DRM": "n"})]) == []
    found = option_savings([trial(0, outcome=Outcome.BOOT_FAILED), trial(1, {"DRM": "n"})])
    assert [(one.option, one.saving_kb, one.passed) for one in found] == [("DRM", None, 1)]
    assert option_savings([trial(0)]) == []


def test_differences_are_of_what_both_know() -> None:
    other = trial(1, {"DRM": "n", "LOG_BUF_SHIFT": "12", "NEW": "y"})
    assert differences(other, trial(0)) == [("DRM", "y", "n"), ("LOG_BUF_SHIFT", "17", "12")]
    assert differences(trial(0), trial(0)) == []
