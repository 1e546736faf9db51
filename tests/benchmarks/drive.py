"""One sampler on one landscape, driven as the product's loop drives it; nothing is built."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import alternatives, recording, rivals
from benchmarks.landscape import Ground, Landscape, Verdict
from benchmarks.oracle import minimality
from optimizer.cli import workshop
from optimizer.kernel.kconfig import SymbolTree
from optimizer.records import Assignment, Outcome, ResolvedConfig, Trial
from optimizer.search import prior
from optimizer.search.elimination import NothingLeftError
from optimizer.search.knowledge import Belief
from optimizer.search.loop import MOST_REPEATS
from optimizer.search.space import Space, build_space
from optimizer.search.study import Study
from optimizer.search.trial import commands
from optimizer.settings import OptionSettings, load_study

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "configs/versatilepb.toml"
RECORDING = recording.DATA / "versatilepb-6.1.json.gz"
ALTERNATIVES = recording.DATA / "alternatives.json"


@dataclass(frozen=True)
class Run:
    """One sampler on one landscape with one seed.

    ``climb`` are (build, best MemTotal in kB) wherever it rose; ``hours`` what each build and boot
    would have taken. The failures are numbers of builds. ``ask_seconds`` are the median, the 95th
    percentile and the worst. ``ended`` says that the sampler had nothing left; ``minimal`` is None
    for runs that did not end, ``left`` what could still have gone. ``trials`` are all builds.
    """

    landscape: str
    sampler: str
    seed: int
    baseline_kb: int
    builds: int
    asks: int
    ended: bool
    climb: tuple[tuple[int, int], ...]
    hours: tuple[float, ...]
    boot_failures: tuple[int, ...]
    build_failures: tuple[int, ...]
    check_failures: tuple[int, ...]
    ask_seconds: tuple[float, float, float]
    minimal: bool | None
    minimal_but_a_page: bool | None
    left: tuple[str, ...]
    seconds: float
    trials: tuple[Trial, ...]

    def as_row(self) -> dict[str, Any]:
        """All but the trials themselves, landscape, sampler and seed, for a line of JSON."""
        unwanted = {"trials", "landscape", "sampler", "seed"}
        return {name: value for name, value in vars(self).items() if name not in unwanted}


@dataclass(frozen=True)
class Bench:
    """What the workers share by being forked after it is made."""

    ground: Ground
    beliefs: Mapping[str, Belief]
    dependencies: rivals.Dependencies


def load(more_options: int = 0) -> Bench:
    """The real tree, the recording and the beliefs from it.

    Args:
        more_options: so many options that are off, and may be on, are added to the study's
            ``turn_on``, for a larger space.

    Raises:
        UserError: the kernel tree or its compiler is not there.
    """
    settings = load_study(str(STUDY))
    tree = workshop.symbol_tree(settings)
    options = settings.options
    if more_options:
        options = _widened(tree, options, more_options)
    space = build_space(tree, options, command_line=settings.board.command_line)
    ground = Ground(space, recording.read(RECORDING), alternatives.read(ALTERNATIVES))
    # Made here, once, for all workers.
    _ = ground.owners, ground.hosts, ground.effects
    return Bench(
        ground,
        prior.beliefs(space, replace(ground.traces, commands=commands(settings.suites))),
        rivals.dependencies(tree.tree, tree.arch),
    )


def _widened(tree: SymbolTree, options: OptionSettings, more: int) -> OptionSettings:
    gate = Assignment({name: "y" for name in options.gate if tree.known(name)})
    off = [
        one.name
        for one in tree.options(gate)
        if one.visible and one.type == "bool" and one.value == "n" and not one.choice
        if "y" in one.settable and one.name not in {*options.turn_on, *options.leave, *options.keep}
    ]
    return options.model_copy(update={"turn_on": (*options.turn_on, *off[:more])})


def run(bench: Bench, landscape: Landscape, sampler: str, cap: int) -> Run:
    """Let a sampler search a landscape until it ends or has had its builds."""
    began = time.monotonic()
    space = bench.ground.space
    asker = _asker(bench, sampler, landscape.seed)
    first = baseline(landscape)
    asker.tell(first)
    best, best_trial = first.objective or 0.0, first
    built: dict[str, Trial] = {}
    tree: Sequence[str] | None = bench.ground.look({})[1]
    climb: list[tuple[int, int]] = []
    hours: list[float] = []
    failures: dict[Outcome, list[int]] = {
        Outcome.BOOT_FAILED: [], Outcome.BUILD_FAILED: [], Outcome.SMOKE_FAILED: []
    }  # fmt: skip
    spent: list[float] = []
    builds = repeats = number = 0
    ended = False
    while builds < cap and repeats < MOST_REPEATS:
        number += 1
        start = time.perf_counter()
        try:
            params = asker.ask(number)
        except (NothingLeftError, rivals.Finished):
            ended = True
            break
        finally:
            spent.append(time.perf_counter() - start)
        verdict = landscape.judge(params)
        twin = built.get(verdict.digest)
        if verdict.outcome is Outcome.CONFIG_REFUSED or twin is not None:
            repeats += 1
            asker.tell(_unbuilt(space, number, sampler, params, verdict, twin))
            continue
        repeats = 0
        builds += 1
        trial = landscape.trial(number, sampler, params, verdict, tree)
        tree = verdict.values
        built[verdict.digest] = trial
        hours.append(trial.seconds / 3600)
        if verdict.outcome in failures:
            failures[verdict.outcome].append(builds)
        if trial.objective is not None:
            if trial.objective > best:
                best = trial.objective
                climb.append((builds, int(best)))
            if trial.rank > best_trial.rank:
                best_trial = trial
        asker.tell(trial)
    end = minimality(landscape, best_trial.params) if ended else None
    spent.sort()
    return Run(
        landscape=landscape.name,
        sampler=sampler,
        seed=landscape.seed,
        baseline_kb=int(first.objective or 0),
        builds=builds,
        asks=len(spent),
        ended=ended,
        climb=tuple(climb),
        hours=tuple(round(one, 4) for one in hours),
        boot_failures=tuple(failures[Outcome.BOOT_FAILED]),
        build_failures=tuple(failures[Outcome.BUILD_FAILED]),
        check_failures=tuple(failures[Outcome.SMOKE_FAILED]),
        ask_seconds=(
            round(statistics.median(spent), 5),
            round(spent[int(0.95 * (len(spent) - 1))], 5),
            round(spent[-1], 5),
        ),
        minimal=end.minimal if end else None,
        minimal_but_a_page=not end.more if end else None,
        left=(*end.page, *end.more) if end else (),
        seconds=round(time.monotonic() - began, 2),
        trials=tuple(built.values()),
    )


def _asker(bench: Bench, sampler: str, seed: int) -> rivals.Rival | Study:
    space = bench.ground.space
    if sampler == "ktest":
        return rivals.Ktest(space, bench.dependencies, seed)
    if sampler == "halving":
        return rivals.Halving(space)
    return Study(space, sampler, seed, bench.beliefs, ())


def baseline(landscape: Landscape) -> Trial:
    """Trial 0: the defconfig itself, its figure as measured."""
    space = landscape.ground.space
    verdict = landscape.judge({})
    trial = landscape.trial(0, "baseline", space.baseline, verdict)
    if not verdict.passed:
        raise ValueError(f"The baseline of {landscape.name} fails: {verdict.violated}.")
    return trial


def _unbuilt(
    space: Space,
    number: int,
    sampler: str,
    params: Mapping[str, str],
    verdict: Verdict,
    twin: Trial | None,
) -> Trial:
    """A trial that costs no build, as the search's loop stores it."""
    return Trial(
        number=number,
        outcome=Outcome.CONFIG_REFUSED if twin is None else Outcome.DUPLICATE,
        sampler=sampler,
        params=dict(params),
        assignment=space.assignment(params),
        effective=verdict.effective,
        resolved=ResolvedConfig(verdict.digest, "", ""),
        objective=None if twin is None else twin.objective,
        duplicate_of=None if twin is None else twin.number,
    )
