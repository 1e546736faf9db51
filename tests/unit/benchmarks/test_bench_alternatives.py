"""What real trials tell of choices' alternatives, and what the landscapes make of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from benchmarks import alternatives
from benchmarks.alternatives import MeasuredChoice, measured
from benchmarks.landscape import SPECS, Ground, Landscape
from small_ground import RECORDING, space_of, write_tree

from optimizer.records import MEASURING_SAMPLERS, Assignment, Outcome, ResolvedConfig, Trial

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


@pytest.mark.parametrize("sampler", sorted(MEASURING_SAMPLERS))
def test_trials_that_do_not_say_all_they_changed_are_left_out(sampler: str) -> None:
    assert told(trial(1, 400.0, sampler, size="SMALL")) == {}


def test_the_first_measurement_counts_and_only_what_kconfig_made() -> None:
    again = trial(3, 1040.0, net="n", size="SMALL")
    assert told(trial(1, 1012.0, size="SMALL"), trial(2, 1000.0, net="n"), again) == {
        SIZE: {"SMALL": 12.0}
    }
    refused = dataclasses.replace(trial(1, 1012.0, size="SMALL"), effective=START)
    assert told(refused) == {}
    repeated = dataclasses.replace(trial(1, 1012.0, size="SMALL"), outcome=Outcome.DUPLICATE)
    assert told(repeated) == {}


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

# By how far they reach: choices of few objects, of many, of all (a compiler's flag), of none.
FEW, OTHER, MANY, FLAG, NONE = "F0|F1|F2|F3", "E0|E1", "M0|M1", "G0|G1", "N0|N1"


def ground(folder: Path, *measured_choices: MeasuredChoice) -> Ground:
    """The small ground with such choices beside its own."""
    tree = write_tree(folder)
    with (tree / "Kconfig").open("a") as kconfig:
        for choice in (FEW, OTHER, MANY, FLAG, NONE):
            members = choice.split("|")
            kconfig.write(f'choice\n\tprompt "{choice}"\n\tdefault {members[0]}\n')
            kconfig.writelines(f'config {one}\n\tbool "{one}"\n' for one in members)
            kconfig.write("endchoice\n")
    narrow, wide = (*FEW.split("|"), *OTHER.split("|")), tuple(MANY.split("|"))
    objects = [
        dataclasses.replace(one, mentions=(*one.mentions, *(narrow if number == 0 else ()), *wide))
        for number, one in enumerate(RECORDING.objects)
    ]
    recorded = dataclasses.replace(
        RECORDING,
        symbols=(*RECORDING.symbols, *narrow, *wide, "G1"),
        objects=tuple(objects),
        flags=("G1",),
    )
    return Ground(space_of(tree), recorded, measured_choices)


def did(choice: str, *effects: float | None) -> MeasuredChoice:
    return MeasuredChoice("s", choice, dict(zip(choice.split("|")[1:], effects, strict=False)))


def gain(landscape: Landscape, choice: str, value: str) -> int:
    landscape.needs = ()
    return landscape.judge({choice: value}).mem_total_kb - landscape.judge({}).mem_total_kb


def test_how_far_a_choice_reaches(tmp_path: Path) -> None:
    reaches = ground(tmp_path / "tree").reaches
    assert {one: reaches[one] for one in (FEW, OTHER, MANY, FLAG, NONE)} == {
        FEW: "few", OTHER: "few", MANY: "many", FLAG: "flags", NONE: "none"
    }  # fmt: skip


def test_each_choice_does_what_one_did_that_reaches_as_far(tmp_path: Path) -> None:
    land = ground(
        tmp_path / "tree", did(FEW, 12.0, 20.0), did(MANY, -4.0), did(FLAG, 28.0), did(NONE, 40.0),
        did("ELSE|WHERE", 400.0),
    )  # fmt: skip
    landscape = Landscape(land, SPECS["needs-3"], 1)
    assert [gain(landscape, FEW, value) for value in ("F1", "F2", "F3")] == [12, 20, 0]
    assert gain(landscape, OTHER, "E1") == 12
    assert gain(landscape, MANY, "M1") == -4
    assert gain(landscape, FLAG, "G1") == 28
    assert gain(landscape, NONE, "N1") == 0


def test_what_was_tried_does_in_the_measured_landscape_what_it_did(tmp_path: Path) -> None:
    land = ground(
        tmp_path / "tree", did(FEW, 12.0), did(FEW, 12.0, 20.0), did(OTHER, -8.0), did(NONE, None)
    )
    for seed in range(5):
        landscape = Landscape(land, SPECS["measured"], seed)
        broken = [one.value for one in landscape.needs if one.value]
        assert broken == [(NONE, "N1")]
        assert [gain(landscape, FEW, value) for value in ("F1", "F2", "F3")] == [12, 20, 0]
        assert gain(landscape, OTHER, "E1") == -8


@pytest.mark.parametrize("spec", ["measured", "needs-3"])
def test_what_broke_something_breaks_something(tmp_path: Path, spec: str) -> None:
    land = ground(tmp_path / "tree", did(FEW, 0.0, None))
    landscape = Landscape(land, SPECS[spec], 1)
    values = {one.value for one in landscape.needs if one.value}
    assert (FEW, "F2") in values
    assert not {(FEW, "F1"), (FEW, "F3"), (MANY, "M1")} & values
    assert not landscape.judge({FEW: "F2"}).passed


def test_what_goes_with_an_alternative_is_part_of_what_it_saves(tmp_path: Path) -> None:
    land = ground(tmp_path / "tree", did(FEW, 12.0))
    # As if the first object went with it.
    land._gone[FEW, "F1"] = land.gone(land.look({})[1]) | (land.sizes == land.sizes[0])
    landscape = Landscape(land, SPECS["measured"], 1)
    assert landscape.worth(FEW, "F1") == pytest.approx(12 * 1024 - landscape._sizes[0])
