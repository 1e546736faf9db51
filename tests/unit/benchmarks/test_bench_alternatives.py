"""What real trials tell of choices' alternatives, and what the landscapes make of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from benchmarks import alternatives
from benchmarks.alternatives import MeasuredChoice, measured
from benchmarks.landscape import SPECS, Ground, Landscape
from small_ground import RECORDING, space_of, write_tree

from optimizer.records import STEPS_SAMPLER, Assignment, Outcome, ResolvedConfig, Trial

SHIPPED = Path(alternatives.__file__).parent / "data" / "alternatives.json"
TICK, SIZE = "SLOW|QUICK", "BIG|SMALL|NONE"
START = {TICK: "SLOW", SIZE: "BIG", "NET": "y"}


def trial(number: int, objective: float | None, sampler: str = "", **changes: str) -> Trial:
    names = {"tick": TICK, "size": SIZE, "net": "NET"}
    params = START | {names[name]: value for name, value in changes.items()}
    return Trial(
        number,
        Outcome.PASSED if objective is not None else Outcome.SMOKE_FAILED,
        sampler,
        params,
        Assignment(),
        params,
        ResolvedConfig("", "", ""),
        objective=objective,
    )


def told(*trials: Trial) -> dict[str, dict[str, float | None]]:
    return {one.choice: dict(one.effects) for one in measured("study", [trial(0, 1000.0), *trials])}


def test_two_trials_that_differ_in_one_choice_tell_what_it_does() -> None:
    assert told(trial(1, 1012.0, size="SMALL")) == {SIZE: {"SMALL": 12.0}}
    assert told(trial(1, 1100.0, net="n"), trial(2, 1096.0, net="n", tick="QUICK")) == {
        TICK: {"QUICK": -4.0}
    }


def test_one_alternative_after_another_is_told_from_the_baselines() -> None:
    assert told(trial(1, 1012.0, size="SMALL"), trial(2, 1020.0, size="NONE")) == {
        SIZE: {"SMALL": 12.0, "NONE": 20.0}
    }


def test_what_changes_with_others_tells_nothing() -> None:
    assert told(trial(1, 1100.0, size="SMALL", net="n")) == {}


def test_what_breaks_is_known_when_the_rest_works() -> None:
    assert told(trial(1, None, size="SMALL")) == {SIZE: {"SMALL": None}}
    assert told(trial(1, None, net="n"), trial(2, None, net="n", size="SMALL")) == {}


def test_trials_that_do_not_say_all_they_changed_are_left_out() -> None:
    assert told(trial(1, 400.0, STEPS_SAMPLER, size="SMALL")) == {}


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = [MeasuredChoice("s", SIZE, {"SMALL": 12.0, "NONE": None})]
    alternatives.write(found, tmp_path / "a.json")
    assert list(alternatives.read(tmp_path / "a.json")) == found


def test_the_shipped_ones_are_those_of_three_studies() -> None:
    shipped = alternatives.read(SHIPPED)
    assert len({one.study for one in shipped}) == 3
    known = {name: kb for one in shipped for name, kb in one.effects.items()}
    assert known["CRC32_SLICEBY4"] == 12.0
    assert (known["PREEMPT"] or 0.0) < -100


# --- the landscapes


def ground(folder: Path, *effects: float | None, choice: str = "SLOW|QUICK") -> Ground:
    """The small ground, where one object mentions the tick."""
    first, *rest = RECORDING.objects
    first = dataclasses.replace(first, mentions=(*first.mentions, "QUICK", "SLOW"))
    recorded = dataclasses.replace(
        RECORDING, symbols=(*RECORDING.symbols, "QUICK", "SLOW"), objects=(first, *rest)
    )
    values = dict(zip(("QUICK", "SECOND"), effects, strict=False))
    return Ground(space_of(write_tree(folder)), recorded, [MeasuredChoice("s", choice, values)])


@pytest.mark.parametrize("spec", ["measured", "needs-3"])
def test_a_choice_does_what_was_measured(tmp_path: Path, spec: str) -> None:
    landscape = Landscape(ground(tmp_path / "tree", 12.0), SPECS[spec], 1)
    landscape.needs = ()
    before = landscape.judge({}).mem_total_kb
    assert landscape.judge({TICK: "QUICK"}).mem_total_kb == before + 12


def test_what_broke_something_breaks_something(tmp_path: Path) -> None:
    landscape = Landscape(ground(tmp_path / "tree", None), SPECS["measured"], 1)
    assert [one.value for one in landscape.needs if one.value] == [(TICK, "QUICK")]
    assert not landscape.judge({TICK: "QUICK"}).passed


def test_what_was_measured_of_a_choice_that_reaches_farther_is_not_drawn(tmp_path: Path) -> None:
    land = ground(tmp_path / "tree", 12.0)
    assert land.reaches[TICK] == "few"
    assert land.effects == {"few": [(12.0,)]}
    unknown = ground(tmp_path / "other", 12.0, choice="ELSEWHERE")
    assert unknown.effects == {}
    landscape = Landscape(unknown, SPECS["needs-3"], 1)
    assert landscape.worth(TICK, "QUICK") == 0.0
