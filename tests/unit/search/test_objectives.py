"""What a study may optimize, and the front of two figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.records import (
    Assignment,
    BootResult,
    BootState,
    BuildResult,
    Measurement,
    Outcome,
    ResolvedConfig,
    Trial,
)
from optimizer.search.objectives import OBJECTIVES, objectives, pareto_front, scores


def trial(number: int, total_kb: int, image: int, seconds: float = 1.0) -> Trial:
    return Trial(
        number,
        Outcome.PASSED,
        "test",
        {},
        Assignment(),
        {},
        ResolvedConfig("", "", ""),
        build=BuildResult(True, 1.0, 1, Path("log"), "", image_bytes=image),
        boot=BootResult(BootState.READY, seconds, Path("console")),
        measurement=Measurement(total_kb, total_kb - 1000, {}, ""),
    )


def test_each_figure_in_its_unit_and_as_a_score() -> None:
    one = trial(1, 29_000, 2_048_000, 0.75)
    told = {name: found.text(found.of(one)) for name, found in OBJECTIVES.items()}
    assert told == {
        "mem_total": "29,000 kB",
        "mem_available": "28,000 kB",
        "image_bytes": "2,048,000 bytes",
        "boot_seconds": "0.75 s",
    }
    assert scores(objectives(list(OBJECTIVES)), one) == (29_000, 28_000, -2_000, -750)


def test_what_was_not_measured_has_no_score() -> None:
    unbuilt = Trial(
        1, Outcome.BUILD_FAILED, "test", {}, Assignment(), {}, ResolvedConfig("", "", "")
    )
    for one in OBJECTIVES.values():
        assert scores([one], unbuilt) is None
        assert one.text(one.of(unbuilt)) == ""


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    found = [
        trial(0, 25_000, 3_000_000),
        trial(1, 29_000, 2_000_000),
        trial(2, 28_000, 1_500_000),
        trial(3, 28_500, 2_500_000),  # beaten by trial 1
        trial(4, 29_000, 2_000_000),  # equal to trial 1
    ]
    front = pareto_front(objectives(["mem_total", "image_bytes"]), found)
    assert [one.number for one in front] == [1, 2]


def test_an_unknown_objective_is_an_error() -> None:
    with pytest.raises(KeyError):
        objectives(["beauty"])
