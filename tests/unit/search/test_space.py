"""Which options become candidates, and which do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.errors import UserError
from optimizer.search.space import Space
from optimizer.settings import OptionSettings
from tests.unit.search.landscape import space_of, write_tree


def make(tmp_path: Path, **options: object) -> Space:
    return space_of(write_tree(tmp_path / "tree", 2, 2), OptionSettings.model_validate(options))


def names(space: Space) -> set[str]:
    return {one.name for one in space.candidates}


def reasons(space: Space) -> dict[str, str]:
    return {one.symbol: one.reason for one in space.excluded}


def test_all_that_is_on_and_every_choice_is_a_candidate(tmp_path: Path) -> None:
    space = make(tmp_path)
    assert names(space) == {
        *("G0", "G0_M0", "G0_M1", "G1", "G1_M0", "G1_M1"),
        *("FAST|LEAN", "SLOW|QUICK", "OPEN|SHUT"),
    }


def test_dependents_fall_with_their_parent(tmp_path: Path) -> None:
    space = make(tmp_path)
    assert space.candidate("G0").drops == {("G0_M0", "n"), ("G0_M1", "n"), ("OPEN|SHUT", "n")}
    assert space.candidate("G0_M0").drops == frozenset()
    assert space.effective({"G0": "n"})["G0_M1"] == "n"


def test_what_is_kept_is_no_candidate_nor_is_what_it_stands_on(tmp_path: Path) -> None:
    space = make(tmp_path, keep=["G0_M1"])
    assert names(space).isdisjoint({"G0", "G0_M1"})
    assert "G0_M0" in names(space)
    assert reasons(space)["G0"] == "would change G0_M1, which the study keeps"
    assert space.lost({"G1": "n"}) == []


def test_a_kept_member_holds_its_choice(tmp_path: Path) -> None:
    assert "FAST|LEAN" not in names(make(tmp_path, keep=["FAST"]))


def test_what_is_left_alone_follows_from_the_rest(tmp_path: Path) -> None:
    space = make(tmp_path, leave=["G0_M0"])
    assert "G0_M0" not in names(space)
    assert "G0" in names(space)


def test_only_what_is_to_be_tried_is_a_candidate(tmp_path: Path) -> None:
    assert names(make(tmp_path, **{"try": ["G1_M0", "LEAN"]})) == {"G1_M0", "FAST|LEAN"}


def test_what_was_to_be_tried_and_cannot_be_is_recorded(tmp_path: Path) -> None:
    assert reasons(make(tmp_path, **{"try": ["G0", "EXPERT"]})) == {
        "EXPERT": "is n and can take n, y"
    }


def test_an_integer_gets_its_legal_values_within_the_range(tmp_path: Path) -> None:
    space = make(tmp_path, ranges={"BUFFER": [3, 14]})
    assert space.candidate("BUFFER").values == ("17", "12", "13", "14")


def test_an_impossible_range_is_recorded(tmp_path: Path) -> None:
    space = make(tmp_path, ranges={"BUFFER": [1, 3]})
    assert "BUFFER" not in names(space)
    assert "legal range (12, 17)" in reasons(space)["BUFFER"]


def test_a_member_that_saves_comes_first_in_its_choice(tmp_path: Path) -> None:
    space = make(tmp_path, turn_on=["LEAN"])
    assert space.candidate("FAST|LEAN").hinted
    assert not space.candidate("SLOW|QUICK").hinted
    assert space.candidate("FAST|LEAN").promises("LEAN")
    assert not space.candidate("SLOW|QUICK").promises("QUICK")
    assert space.assignment({"FAST|LEAN": "LEAN"}).values == {"LEAN": "y"}


def test_an_option_that_is_off_can_be_a_candidate_for_on(tmp_path: Path) -> None:
    space = make(tmp_path, turn_on=["EXPERT"])
    assert space.candidate("EXPERT").values == ("n", "y")


def test_options_of_other_kernels_are_recorded_not_fatal(tmp_path: Path) -> None:
    space = make(
        tmp_path,
        turn_on=["SLUB_TINY"],
        gate=["EMBEDDED"],
        ranges={"PRINTK_SAFE_LOG_BUF_SHIFT": [10, 13]},
        leave=["DEBUG_INFO_NONE"],
    )
    assert reasons(space) == {
        "SLUB_TINY": "tree has no such symbol",
        "EMBEDDED": "tree has no such symbol",
        "PRINTK_SAFE_LOG_BUF_SHIFT": "tree has no such symbol",
    }
    assert space.gate.values == {}


def test_a_misspelt_integer_is_named_with_a_better_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ranges names BUFFR, .*\nDid you mean BUFFER"):
        make(tmp_path, ranges={"BUFFR": [3, 14]})


@pytest.mark.parametrize("role", ["keep", "leave", "try"])
def test_a_misspelt_symbol_is_named_with_a_better_one(tmp_path: Path, role: str) -> None:
    with pytest.raises(UserError, match=rf"options\.{role} names G0_M9") as caught:
        make(tmp_path, **{role: ["G0_M9"]})
    assert "G0_M" in caught.value.remedy


def test_the_gate_is_in_every_assignment_but_the_baselines(tmp_path: Path) -> None:
    space = make(tmp_path, gate=["EXPERT"])
    assert space.assignment({"G0": "n"}).values == {"EXPERT": "y", "G0": "n"}
    assert space.baseline["G0"] == "y"


def test_some_candidates_values_are_those_that_all_of_them_would_tell(tmp_path: Path) -> None:
    space = make(tmp_path)
    params = {"G0": "n", "FAST|LEAN": "LEAN"}
    everything = space.effective(params)
    some = ["SLOW|QUICK", "G0_M1", "FAST|LEAN"]
    assert space.effective(params, some) == {name: everything[name] for name in some}
    assert (everything["G0_M1"], everything["FAST|LEAN"]) == ("n", "LEAN")
