"""What the benchmark makes of its runs: figures, bars, and which runs it keeps."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from benchmarks import search
from rich.console import Console

Key = tuple[str, str, int]


def a_run(*climb: tuple[int, int], builds: int = 100, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "baseline_kb": 1000, "builds": builds, "asks": builds, "ended": True, "climb": climb,
        "hours": [0.1] * builds, "boot_failures": [2, 50], "build_failures": [],
        "check_failures": [1, 3, 99], "ask_seconds": [0.01, 0.02, 0.03], "minimal": True,
        "minimal_but_a_page": True, "left": [], "seconds": 1.0, **more,
    }  # fmt: skip


def rows_of(runs: dict[Key, dict[str, Any]], best: int = 2000) -> list[dict[str, Any]]:
    seeds = {seed for _one, _two, seed in runs}
    optima = {("measured", "optimum", seed): {"mem_total_kb": best} for seed in seeds}
    return search.summarize({**runs, **optima}, ["measured"], search.ALL)


def test_builds_are_counted_to_99_percent_of_the_best_known() -> None:
    run = a_run((4, 1500), (10, 1989), (12, 1990), (40, 2000))
    assert search.builds_to(run, 2000) == 12
    assert search.builds_to(run, 2100) == math.inf
    assert [search.share_at(run, 2000, build) for build in (3, 4, 11, 500)] == [0, 0.5, 0.989, 1.0]


def test_the_best_known_is_raised_by_a_sampler_that_finds_more() -> None:
    runs = {
        ("measured", "optimum", 0): {"mem_total_kb": 1900},
        ("measured", "ktest", 0): a_run((80, 2000)),
        ("measured", "elimination", 0): a_run((9, 1900)),
    }
    assert search.best_known(runs) == {("measured", 0): 2000}
    rows = {row["sampler"]: row for row in search.summarize(runs, ["measured"], search.ALL)}
    assert rows["elimination"]["median_builds_to_99"] is None
    assert rows["elimination"]["share_at_30"] == 0.9


def test_a_row_has_what_is_asked_for() -> None:
    (row,) = rows_of({
        ("measured", "ktest", 0): a_run((10, 2000)),
        ("measured", "ktest", 1): a_run((20, 2000)),
        ("measured", "ktest", 2): a_run((90, 1500), minimal=False),
    })  # fmt: skip
    assert row["seeds"] == 3
    assert row["median_builds_to_99"] == 20
    assert row["worst_builds_to_99"] is None
    assert (row["share_at_30"], row["share_at_120"]) == (1.0, 1.0)
    assert row["failed_boots"] == round((1 + 1 + 2) / 3, 2)
    assert row["failed_checks"] == round((2 + 2 + 3) / 3, 2)
    assert row["one_minimal_share"] == 0.6667
    assert row["reached_99"] == 2
    assert row["median_hours_to_99"] == 1.5
    assert {"landscape", "sampler", "ask_seconds"} <= row.keys()


def bar(rows: list[dict[str, Any]], what: str, ask: dict[str, Any] | None = None) -> bool:
    (found,) = [one for one in search.bars(rows, ask) if what in one["bar"]]
    met = found["met"]
    assert isinstance(met, bool)
    return met


@pytest.mark.parametrize(("ours", "met"), [(20, True), (21, False)])
def test_a_fifth_of_ktests_builds_is_a_fifth(ours: int, met: bool) -> None:
    rows = rows_of({
        ("measured", "elimination", 0): a_run((ours, 2000)),
        ("measured", "ktest", 0): a_run((100, 2000)),
    })  # fmt: skip
    assert bar(rows, "ktest") is met


@pytest.mark.parametrize(
    ("theirs", "met"),
    [(a_run((31, 2000)), True), (a_run((30, 2000)), False), (a_run(builds=29, ended=False), False)],
)
def test_fewer_than_any_other_is_fewer(theirs: dict[str, Any], met: bool) -> None:
    rows = rows_of({
        ("measured", "elimination", 0): a_run((30, 2000)),
        ("measured", "random", 0): theirs,
        ("measured", "halving", 0): a_run((80, 2000)),
    })  # fmt: skip
    assert bar(rows, "any other") is met


def test_a_search_that_never_arrives_meets_nothing() -> None:
    rows = rows_of({
        ("measured", "elimination", 0): a_run((30, 1500)),
        ("measured", "ktest", 0): a_run((90, 1400)),
    })  # fmt: skip
    assert not bar(rows, "ktest")
    assert not bar(rows, "any other")


@pytest.mark.parametrize(
    ("last", "met"),
    [({}, True), ({"minimal": False}, False), ({"ended": False, "minimal": None}, False)],
)
def test_every_run_must_end_minimal(last: dict[str, Any], met: bool) -> None:
    rows = rows_of({
        ("measured", "elimination", 0): a_run((9, 2000)),
        ("measured", "elimination", 1): a_run((9, 2000), **last),
    })  # fmt: skip
    assert bar(rows, "1-minimal") is met


@pytest.mark.parametrize(("worst", "met"), [(0.199, True), (0.2, False)])
def test_the_slowest_ask_counts(worst: float, met: bool) -> None:
    ask = {"options": 400, "trials": 1000, "median_seconds": 0.1, "worst_seconds": worst}
    assert bar([], "ask", ask) is met


def test_the_table_says_what_was_not_reached() -> None:
    rows = rows_of({
        ("measured", "elimination", 0): a_run((30, 2000)),
        ("measured", "random", 0): a_run(ended=False, builds=77, minimal=None),
    })  # fmt: skip
    text = io.StringIO()
    search.show(rows, search.bars(rows, None), Console(file=text, width=200))
    assert ">77" in text.getvalue()
    assert "not within 77" in text.getvalue()


def test_kept_runs_are_used_again_unless_their_code_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "runs.jsonl"
    console = Console(file=io.StringIO())
    lines = [
        {"landscape": "measured", "sampler": name, "seed": 0, "code": search.code_digest(name),
         "cap": cap, "mem_total_kb": 7}
        for name, cap in (("optimum", 0), ("ktest", search.CAPS["ktest"]))
    ]  # fmt: skip
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def loaded() -> None:
        raise AssertionError("a run is made")

    monkeypatch.setattr(search, "load", loaded)
    found = search.make_runs(["measured"], ["ktest"], 1, 1, 9, kept, console)
    assert set(found) == {("measured", "optimum", 0), ("measured", "ktest", 0)}
    for change in ({"code": "another"}, {"cap": 1}):
        kept.write_text("".join(json.dumps({**line, **change}) + "\n" for line in lines))
        with pytest.raises(AssertionError, match="a run is made"):
            search.make_runs(["measured"], ["ktest"], 1, 1, 9, kept, console)


def test_what_is_misspelt_is_said() -> None:
    with pytest.raises(search.UserError, match="There is no sampler ktset"):
        search._chosen("elimination,ktset", search.ALL, "sampler")
    assert search._chosen("ktest halving", search.ALL, "sampler") == ["ktest", "halving"]
    assert search._chosen("all", search.ALL, "sampler") == list(search.ALL)
