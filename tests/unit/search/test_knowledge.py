"""What is learnt from trials: who is suspect, who is cleared, what each change saves."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from optimizer.search.knowledge import BOOT, BUILD, Belief, Knowledge, Observation
from optimizer.search.space import Change

START = dict.fromkeys("ABCD", "y")
CHECKS = frozenset({"net/ping", "clock/rtc"})
EVERYTHING = CHECKS | {BUILD, BOOT}


def change(name: str) -> Change:
    return (name, "n")


def known(beliefs: Mapping[str, Belief] | None = None, speculative: str = "") -> Knowledge:
    believed = beliefs or {
        name: Belief({BOOT: 0.02, "net/ping": 0.02, "clock/rtc": 0.02}, 10.0, 10.0)
        for name in START
    }
    found = Knowledge(START, believed, lambda one: 10.0 if one[0] in speculative else None)
    found.read(Observation(0, START, (), EVERYTHING, 1000.0))
    return found


def observed(number: int, off: str, *broken: str, score: float | None = None) -> Observation:
    """A trial with those options off; what is not broken works, unless it did not boot."""
    effective = START | dict.fromkeys(off, "n")
    passed = frozenset({BUILD}) if BOOT in broken else EVERYTHING - set(broken)
    return Observation(number, effective, broken, passed, score)


def test_what_passes_clears_its_changes_even_when_something_else_fails() -> None:
    told = known()
    before = told.needs(change("A"))["clock/rtc"]
    told.read(observed(1, "AB", "net/ping", score=1020.0))
    needs = told.needs(change("A"))
    assert needs["clock/rtc"] < before / 10
    assert needs["net/ping"] > 10 * before


def test_one_who_is_needed_for_something_else_is_no_suspect() -> None:
    beliefs = {
        "A": Belief({"net/ping": 0.4}),
        "B": Belief({"clock/rtc": 0.4}),
        "C": Belief({"net/ping": 0.01}),
    }
    told = known(beliefs)
    told.read(observed(1, "ABC", "net/ping", score=1000.0))
    assert told.risk(change("A")) > 0.9
    assert told.risk(change("B")) < 0.01
    assert told.risk(change("C")) < 0.05


def test_each_failed_check_has_a_culprit_of_its_own() -> None:
    beliefs = {
        "A": Belief({"net/ping": 0.4}),
        "B": Belief({"clock/rtc": 0.4}),
        "C": Belief({"net/ping": 0.01, "clock/rtc": 0.01}),
    }
    told = known(beliefs)
    told.read(observed(1, "ABC", "net/ping", "clock/rtc", score=1000.0))
    assert told.risk(change("A")) > 0.9
    assert told.risk(change("B")) > 0.9
    assert told.risk(change("C")) < 0.1


def test_a_kernel_that_does_not_boot_clears_nobody_of_the_checks() -> None:
    told = known()
    told.read(observed(1, "AB", BOOT))
    needs = told.needs(change("A"))
    assert needs[BOOT] > 0.4
    # As much as before, or more: who fails once is likelier to fail elsewhere too.
    assert 0.02 <= needs["net/ping"] < 0.1


def test_who_is_left_when_the_others_work_is_certain() -> None:
    told = known()
    told.read(observed(1, "AB", "net/ping"))
    told.read(observed(2, "B", score=1010.0))
    assert told.risk(change("A")) == 1.0
    assert told.fails({change("A"), change("C")})
    assert not told.fails({change("C")})


def test_a_larger_failed_group_says_nothing_more_than_a_smaller_one_in_it() -> None:
    told = known()
    told.read(observed(1, "ABC", "net/ping"))
    told.read(observed(2, "A", "net/ping"))
    assert told.failing_groups == [frozenset({change("A")})]
    assert told.risk(change("B")) < 0.1


def test_two_that_can_stand_in_for_each_other_are_not_both_kept() -> None:
    """A works alone and B works alone, but not without both."""
    told = known()
    told.read(observed(1, "AB", "net/ping"))
    told.read(observed(2, "A", score=1010.0))
    assert told.best["A"] == "n"
    assert told.risk(change("B")) == 1.0


def test_measurements_narrow_what_a_change_saves() -> None:
    told = known()
    told.read(observed(1, "A", score=1080.0))
    assert told.saving_kb(change("A")) == pytest.approx(80.0, abs=3.0)
    told.read(observed(2, "ABC", "net/ping", score=1180.0))
    both = told.saving_kb(change("B")) + told.saving_kb(change("C"))
    assert both == pytest.approx(100.0, abs=5.0), "a figure of a variant that fails counts too"


def test_what_is_known_well_moves_least() -> None:
    told = known({"A": Belief({}, 10.0, 1.0), "B": Belief({}, 10.0, 30.0)})
    told.read(observed(1, "AB", score=1060.0))
    assert told.saving_kb(change("A")) == pytest.approx(10.0, abs=1.0)
    assert told.saving_kb(change("B")) == pytest.approx(50.0, abs=2.0)


def test_what_works_but_is_worse_is_not_wanted() -> None:
    told = known()
    told.read(observed(1, "A", score=990.0))
    assert told.best == START
    assert told.fails({change("A")})
    assert told.gains[change("A")] == (-10.0, 1)


def test_what_nobody_expects_to_save_is_kept_only_when_it_does() -> None:
    told = known(speculative="A")
    told.read(observed(1, "A", score=1000.0))
    assert told.best == START
    told.read(observed(2, "B", score=1000.0))
    assert told.best["B"] == "n"


def test_noise_is_neither_gain_nor_loss() -> None:
    told = Knowledge(START, {}, lambda _one: None, tolerance=16.0)
    told.read(Observation(0, START, (), EVERYTHING, 1000.0))
    told.read(observed(1, "A", score=990.0))
    assert told.best["A"] == "n"
    told.read(observed(2, "AB", score=970.0))
    assert told.best["B"] == "y", "small losses must not add up"


@pytest.mark.parametrize("takes_back", [True, False])
def test_a_change_that_has_others_taken_back_is_held_responsible(takes_back: bool) -> None:
    without_b = START | {"A": "n"}

    def becomes(values: Mapping[str, str]) -> Mapping[str, str]:
        return without_b if takes_back and values.get("A") == "n" else START | dict(values)

    told = Knowledge(START, {}, lambda _one: None, becomes=becomes)
    told.read(Observation(0, START, (), EVERYTHING, 1000.0))
    told.read(observed(1, "B", score=1010.0))
    # Made when B was not known to save, or Kconfig has B on again for it: only then it is to blame.
    told.read(Observation(2, without_b, (), EVERYTHING, 1002.0))
    assert told.best["B"] == "n"
    assert told.fails({change("A")}) is takes_back


def believed_alike(needed: float) -> tuple[Mapping[str, str], Knowledge]:
    """Thirty options, each thought to be needed to boot with that probability; and at the start."""
    start = {f"O{number}": "y" for number in range(30)}
    told = Knowledge(start, {name: Belief({BOOT: needed}) for name in start}, lambda _one: None)
    told.read(Observation(0, start, (), EVERYTHING, 1000.0))
    return start, told


def test_beliefs_that_prove_too_low_gain_weight_before_anyone_is_found_out() -> None:
    start, told = believed_alike(0.01)
    before = told.risk(change("O29"))
    for number in range(0, 10, 2):
        off = start | {f"O{number}": "n", f"O{number + 1}": "n"}
        told.read(Observation(number + 1, off, (BOOT,), frozenset(), None))
    # Five pairs failed, so five of these ten at least are needed: which ones is not known.
    assert told.risk(change("O29")) > 10 * before


def test_beliefs_that_prove_wrong_lose_weight() -> None:
    start, told = believed_alike(0.5)
    before = told.risk(change("O29"))
    off = dict(start)
    for number in range(20):
        off[f"O{number}"] = "n"
        told.read(Observation(number + 1, dict(off), (), EVERYTHING, 1001.0 + number))
        assert told.best[f"O{number}"] == "n"
    assert told.risk(change("O29")) < before / 2


def test_what_nobody_expected_is_told_from_the_rest() -> None:
    told = known(speculative="AB")
    told.read(observed(1, "A", score=990.0))
    told.read(observed(2, "C", score=1100.0))
    assert told.speculation.gains == {change("A"): -10.0}
    assert told.speculation.expected_kb(change("B")) < 10.0


def test_another_alternative_instead_gains_what_the_best_has_more() -> None:
    told = Knowledge(START, {}, lambda _one: 3.0)
    told.read(Observation(0, START, (), EVERYTHING, 1000.0))
    for number, (value, score) in enumerate([("few", 1012.0), ("none", 1020.0), ("odd", 1016.0)]):
        told.read(Observation(number + 1, START | {"A": value}, (), EVERYTHING, score))
    assert told.best["A"] == "none"
    # Over the start, as of any other change; of the next one a part of the last step is expected.
    assert told.gains == {
        ("A", "few"): (12.0, 1),
        ("A", "none"): (20.0, 2),
        ("A", "odd"): (16.0, 3),
    }
    assert told.speculation.gains == {("A", "few"): 12.0, ("A", "none"): 8.0, ("A", "odd"): -4.0}
    assert told.fails({("A", "odd")})


def test_over_the_start_nothing_is_known_of_what_was_measured_over_the_unmeasured() -> None:
    told = Knowledge(START, {}, lambda _one: 3.0)
    told.read(Observation(0, START, (), EVERYTHING, 1000.0))
    told.read(Observation(1, START | {"A": "few", "B": "n"}, (), EVERYTHING, 1100.0))
    told.read(Observation(2, START | {"A": "none", "B": "n"}, (), EVERYTHING, 1104.0))
    assert told.best["A"] == "none"
    assert told.gains == {}
    assert told.speculation.gains == {("A", "none"): 4.0}


def test_what_is_certain_stays_so_when_a_choice_goes_on() -> None:
    told = Knowledge(START, {}, lambda one: 3.0 if one[0] == "A" else None)
    told.read(Observation(0, START, (), EVERYTHING, 1000.0))
    few = START | {"A": "few"}
    told.read(Observation(1, few, (), EVERYTHING, 1012.0))
    told.read(Observation(2, few | {"B": "n"}, (BOOT,), frozenset({BUILD}), None))
    assert told.risk(change("B")) == 1.0
    told.read(Observation(3, START | {"A": "none"}, (), EVERYTHING, 1020.0))
    assert told.risk(change("B")) == 1.0
    assert told.fails({change("B")})


def test_what_is_certain_stays_so_when_something_is_switched_off_again() -> None:
    start = START | {"X": "n"}
    told = Knowledge(start, {}, lambda _one: None)
    told.read(Observation(0, start, (), EVERYTHING, 1000.0))
    on = start | {"X": "y", "D": "n"}
    told.read(Observation(1, on, (), EVERYTHING, 1010.0))
    told.read(Observation(2, on | {"A": "n"}, (BOOT,), frozenset({BUILD}), None))
    told.read(Observation(3, on | {"B": "n"}, ("net/ping",), EVERYTHING - {"net/ping"}, 1014.0))
    told.read(Observation(4, on | {"X": "n"}, (), EVERYTHING, 1012.0))
    assert told.best["X"] == "n"
    assert told.risk(change("A")) == told.risk(change("B")) == 1.0


def test_one_who_may_have_stood_in_for_another_is_no_more_certain_when_that_is_back() -> None:
    told = known()
    told.read(observed(1, "AD", score=1010.0))
    told.read(observed(2, "ABD", BOOT))
    assert told.risk(change("B")) == 1.0
    told.read(observed(3, "D", score=1012.0))
    assert told.risk(change("B")) < 1.0
    assert told.fails({change("A"), change("B")})


@pytest.mark.parametrize(
    ("saving_kb", "doubt_kb", "expected"),
    [(0.0, 8.0, 8.0 / math.sqrt(2.0 * math.pi)), (-20.0, 0.001, 20.0), (64.0, 2.0, 0.0)],
)
def test_what_is_gained_without_a_change_is_its_expected_improvement(
    saving_kb: float, doubt_kb: float, expected: float
) -> None:
    told = known({"A": Belief({BOOT: 0.02}, saving_kb, doubt_kb)})
    assert told.expected_without_kb(change("A")) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("speculative", ["A", ""])
@pytest.mark.parametrize(("broken", "score"), [((), 1006.0), ((BOOT,), None)])
def test_an_alternative_that_is_no_use_is_done_with_when_something_is_taken_back(
    broken: tuple[str, ...], score: float | None, speculative: str
) -> None:
    told = known(speculative=speculative)
    told.read(observed(1, "B", score=1010.0))
    told.read(observed(2, "AB", *broken, score=score))
    assert told.fails({change("A")})
    told.read(observed(3, "", score=1012.0))
    assert told.best == START
    # Only of what nobody expected to save: another option may save now that B is there again.
    assert told.fails({change("A")}) is bool(speculative)


@pytest.mark.parametrize(("image_bytes", "wanted"), [(900, True), (1000, True), (1001, False)])
def test_of_equals_the_smaller_image_is_the_better_one(image_bytes: int, wanted: bool) -> None:
    told = Knowledge(START, {}, lambda _one: None)
    told.read(Observation(0, START, (), EVERYTHING, 1000.0, 1000))
    told.read(Observation(1, START | {"A": "n"}, (), EVERYTHING, 1000.0, image_bytes))
    assert (told.best["A"] == "n") is wanted
    assert told.fails({change("A")}) is not wanted
    # And of those the next must not be larger than the last.
    told.read(Observation(2, START | {"B": "n"}, (), EVERYTHING, 1004.0, 800))
    told.read(Observation(3, START | {"B": "n", "C": "n"}, (), EVERYTHING, 1004.0, 801))
    assert told.best["C"] == "y"


def test_within_the_noise_the_image_does_not_count() -> None:
    told = Knowledge(START, {}, lambda _one: None, tolerance=16.0)
    told.read(Observation(0, START, (), EVERYTHING, 1000.0, 1000))
    told.read(Observation(1, START | {"A": "n"}, (), EVERYTHING, 1012.0, 1001))
    assert told.best["A"] == "n"
