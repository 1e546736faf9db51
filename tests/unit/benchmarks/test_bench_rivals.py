"""The rivals keep their rules, and are as good as they can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import rivals
from benchmarks.drive import Bench, run
from benchmarks.landscape import BOOT, SPECS, Ground, Landscape, Need
from benchmarks.oracle import optimum
from small_ground import ground_of

from optimizer.records import Outcome
from optimizer.search import prior

OPTIONS = {"NET", "CARD", "ROUTES", "CRC", "FS", "FS_CACHE", "CLOCK", "SOUND"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    ground = ground_of(tmp_path_factory.mktemp("tree"))
    tree = ground.space.tree
    return Bench(
        ground,
        prior.beliefs(ground.space, ground.traces),
        rivals.dependencies(tree.tree, tree.arch),
    )


def made(ground: Ground, *broken: str) -> Landscape:
    landscape = Landscape(ground, SPECS["measured"], 0)
    landscape.needs = tuple(Need(frozenset({one}), frozenset({BOOT})) for one in broken)
    landscape._inside.clear()
    landscape._extras.clear()
    return landscape


def changes(bench: Bench, landscape: Landscape, sampler: str) -> list[dict[str, str]]:
    """What each build changed, in order."""
    start = bench.ground.space.baseline
    return [
        {name: value for name, value in trial.params.items() if value != start[name]}
        for trial in run(bench, landscape, sampler, 500).trials
    ]


# --- ktest


def test_ktest_reads_dependencies_as_its_perl_does(tmp_path: Path) -> None:
    (tmp_path / "arch/arm").mkdir(parents=True)
    (tmp_path / "Kconfig").write_text(
        'source "arch/$(SRCARCH)/Kconfig"\nsource "missing"\nconfig TOP\n\tdepends on A\n'
    )
    (tmp_path / "arch/arm/Kconfig").write_text(
        "if A && B\nconfig C\n\tdepends on D && \\\n\t\t!E\n\tselect F\n\thelp\n\t  depends on text"
        "\nendif\nmenuconfig G\n\tdepends on A\n"
    )
    found = rivals.dependencies(tmp_path, "arm")
    assert found.parents == {"TOP": ["A"], "C": ["A", "B", "D", "E"], "F": ["C"], "G": ["A"]}
    # Only whole conditions count, and selecting options.
    assert found.counts["A"] == 2
    assert found.counts["C"] == 1
    assert found.counts["D"] == 0


def test_ktest_drops_one_option_a_build_and_parents_first(bench: Bench) -> None:
    landscape = made(bench.ground)
    builds = changes(bench, landscape, "ktest")
    dropped = [{name for name, value in one.items() if value == "n"} for one in builds]
    grown = [now - before for before, now in zip([set(), *dropped], dropped, strict=False)]
    assert all(len(one) <= 1 for one in grown)
    order = [name for one in grown for name in one]
    # What went with its parent needs no build.
    assert set(order) == {"NET", "CRC", "FS", "CLOCK", "SOUND"}
    assert len(builds) <= len(order) + 3 + 3


def test_ktest_never_doubts_a_failure(bench: Bench) -> None:
    builds = changes(bench, made(bench.ground, "FS_CACHE"), "ktest")
    assert sum("FS" in one for one in builds) == 1
    assert sum("FS_CACHE" in one for one in builds) == 1


def test_ktests_order_is_by_dependents_and_else_the_seeds(bench: Bench) -> None:
    space = bench.ground.space
    orders = {tuple(rivals.Ktest(space, bench.dependencies, seed)._order) for seed in range(5)}
    assert len(orders) > 1
    # NET is the condition of two, FS and CARD of one; CARD also selects.
    assert {frozenset(one[:2]) for one in orders} == {frozenset({"CARD", "NET"})}
    assert all(set(one) == OPTIONS for one in orders)


# --- halving


def test_halving_takes_everything_at_once_when_nothing_is_needed(bench: Bench) -> None:
    builds = changes(bench, made(bench.ground), "halving")
    assert builds[0].keys() >= OPTIONS
    assert len([one for one in builds if "QUICK" not in one.values()]) == 1


@pytest.mark.parametrize("needed", ["CLOCK", "ROUTES", "FS_CACHE", "SOUND"])
def test_halving_finds_the_one_that_is_needed_and_builds_nothing_known(
    bench: Bench, needed: str
) -> None:
    landscape = made(bench.ground, needed)
    trials = run(bench, landscape, "halving", 500).trials
    failed = [
        set(one.effective.items()) - set(bench.ground.start.items())
        for one in trials
        if one.outcome is Outcome.BOOT_FAILED
    ]
    for number, one in enumerate(failed):
        assert not any(before <= one for before in failed[:number])
    best = max(one.objective or 0 for one in trials)
    assert best == optimum(landscape).mem_total_kb
    assert len(trials) <= 12


# --- all of them


@pytest.mark.parametrize("sampler", ["ktest", "halving", "elimination"])
@pytest.mark.parametrize("seed", range(3))
def test_each_comes_to_a_minimal_end(bench: Bench, sampler: str, seed: int) -> None:
    landscape = Landscape(bench.ground, SPECS["needs-3"], seed)
    landscape._inside.clear()
    made = run(bench, landscape, sampler, 500)
    assert made.ended
    assert made.minimal, made.left
    assert made.asks >= made.builds == len(made.trials)
    assert len(made.hours) == made.builds


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "elimination", "ktest", "halving"])
def test_runs_repeat(bench: Bench, sampler: str) -> None:
    landscape = Landscape(bench.ground, SPECS["needs-3"], 1)
    first, second = (run(bench, landscape, sampler, 15) for _time in range(2))
    assert (first.climb, first.builds, first.asks) == (second.climb, second.builds, second.asks)
    assert [one.params for one in first.trials] == [one.params for one in second.trials]


def test_repeated_and_refused_variants_cost_no_builds(bench: Bench) -> None:
    digests = [one.resolved.digest for one in run(bench, made(bench.ground), "random", 60).trials]
    assert len(digests) == len(set(digests))
