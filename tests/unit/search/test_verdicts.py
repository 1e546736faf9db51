"""Why what stays has to stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.records import Judgement, Verdict
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
