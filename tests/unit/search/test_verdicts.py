"""Why what stays has to stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.records import Judgement, Verdict
from optimizer.search.knowledge import BOOT, BUILD, Knowledge, Observation
from optimizer.search.study import Study
from optimizer.search.verdicts import verdicts
from tests.unit.search.landscape import Landscape, space_of, write_tree


def judged(folder: Path, needed: set[str], **savings: float) -> dict[tuple[str, str], Verdict]:
    """The verdicts at the end of a search of a small landscape."""
    space = space_of(write_tree(folder / "tree", 3, 2))
    landscape = Landscape.random(space, 0, 1)
    landscape.needed = needed
    landscape.savings |= {(name, "n"): saving for name, saving in savings.items()}
    study = Study(space, "elimination", 0, {}, [])
    landscape.search(study, trials=200)
    return {(one.option, one.tried): one for one in verdicts(space, study.knowledge())}


def test_what_is_needed_says_what_broke_and_in_which_trial(tmp_path: Path) -> None:
    found = judged(tmp_path, {"G1_M0"})
    verdict = found["G1_M0", "n"]
    assert (verdict.judgement, verdict.broken, verdict.value) == (Judgement.NEEDED, "boot", "y")
    assert verdict.trial
    assert verdict.alone, "nobody else is to blame"


def test_what_takes_along_what_is_needed_is_required_by_it(tmp_path: Path) -> None:
    found = judged(tmp_path, {"G1_M0"})
    verdict = found["G1", "n"]
    assert verdict.judgement in (Judgement.REQUIRED, Judgement.NEEDED)
    if verdict.judgement is Judgement.REQUIRED:
        assert verdict.through == "G1_M0"


def test_what_costs_ram_saves_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, set())
    verdict = found["SLOW|QUICK", "QUICK"]
    assert verdict.judgement is Judgement.NO_SAVING
    assert verdict.gained == -8.0


def test_what_went_has_no_verdict(tmp_path: Path) -> None:
    found = judged(tmp_path, {"G1_M0"})
    assert ("G0", "n") not in found
    assert ("FAST|LEAN", "LEAN") not in found


@pytest.mark.parametrize("needed", [set[str](), {"G1_M0"}, {"G0", "G2_M1"}])
def test_nothing_is_left_unsettled_when_the_search_ends_by_itself(
    tmp_path: Path, needed: set[str]
) -> None:
    found = judged(tmp_path, needed)
    assert not [one for one in found.values() if one.judgement is Judgement.UNSETTLED]


def test_an_alternative_that_broke_alone_is_needed_whatever_is_taken_back(tmp_path: Path) -> None:
    """The search does not try it again, so the verdict must not leave it open."""
    space = space_of(write_tree(tmp_path / "tree", 3, 2))
    tick = "SLOW|QUICK"
    known = Knowledge(space.start, {}, lambda one: 3.0 if one[0] == tick else None)
    everything = frozenset({BUILD, BOOT, "console/echo"})
    first = space.effective({"G1_M0": "n"})
    broken = space.effective({"G1_M0": "n", tick: "QUICK"})
    better = space.effective({"G2_M0": "n"})
    for number, (effective, broke, score) in enumerate(
        [
            (space.start, (), 1000.0),
            (first, (), 1010.0),
            (broken, (BOOT,), None),
            (better, (), 1020.0),
        ]
    ):
        passed = everything - set(broke) if BOOT not in broke else frozenset({BUILD})
        known.read(Observation(number, effective, broke, passed, score))
    assert known.fails({(tick, "QUICK")})
    found = {(one.option, one.tried): one for one in verdicts(space, known)}
    verdict = found[tick, "QUICK"]
    assert (verdict.judgement, verdict.trial) == (Judgement.NEEDED, 2)
