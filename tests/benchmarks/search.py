"""Samplers side by side on the landscapes: how many builds each needs. Behind `make bench-search`.

Every run is kept in a file of JSON lines as soon as it ends; one that is there, made by the same
code on the same recording, is not made again. So an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# Workers share the cores; a sampler's linear algebra must not take them all.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.drive import ALTERNATIVES, RECORDING, ROOT, STUDY, Bench, baseline, load, run
from benchmarks.landscape import SPECS, Landscape
from benchmarks.oracle import optimum
from optimizer.errors import MemtotalError, UserError
from optimizer.search.samplers import SAMPLERS
from optimizer.search.study import Study

OURS = SAMPLERS[0]
RIVALS = ("ktest", "halving")
ALL = (OURS, *RIVALS, *SAMPLERS[1:])
# Builds after which a run is given up. ktest and halving come to an end by themselves well before;
# Optuna's never do, and get the builds that the default study is to be done in; more where ours
# needs more itself.
CAPS = {OURS: 1000, "ktest": 2000, "halving": 2000}
CAP = 120
LONGER = {"needs-40": 250}
MARKS = (30, 60, 120)
GOAL = 0.99
KTEST_FACTOR = 5
ASK_OPTIONS, ASK_TRIALS, ASK_SECONDS, ASKS = 400, 1000, 0.2, 20

# Code that a sampler's builds follow from; a kept run of other code is made again.
_TRUTH = ("tests/benchmarks/landscape.py", "tests/benchmarks/recording.py",
          "tests/benchmarks/alternatives.py",
          "optimizer/kernel/kconfig.py", "optimizer/search/space.py")  # fmt: skip
_DRIVE = (*_TRUTH, "tests/benchmarks/drive.py", "tests/benchmarks/oracle.py")
_OPTUNA = (*_DRIVE, "optimizer/search/study.py", "optimizer/search/samplers.py",
           "optimizer/search/objectives.py")  # fmt: skip
CODE = {
    "optimum": (*_TRUTH, "tests/benchmarks/oracle.py"),
    OURS: (*_OPTUNA, "optimizer/search/elimination.py", "optimizer/search/knowledge.py",
           "optimizer/search/prior.py", "optimizer/search/batch.py",
           "optimizer/search/suspects.py", "optimizer/search/speculation.py",
           "optimizer/search/consequences.py",
           # What the checks type is part of the beliefs.
           *(f"configs/smoke/{name}.toml" for name in ("console", "network", "storage", "clock"))),
    "ktest": (*_DRIVE, "tests/benchmarks/rivals.py"),
    "halving": (*_DRIVE, "tests/benchmarks/rivals.py"),
}  # fmt: skip

Row = dict[str, Any]
_shared: list[Bench] = []


# --- running


def code_digest(sampler: str) -> str:
    """A digest of all that the sampler's builds follow from."""
    digest = hashlib.sha256()
    for name in CODE.get(sampler, _OPTUNA):
        digest.update((ROOT / name).read_bytes())
    digest.update(STUDY.read_bytes())
    digest.update(RECORDING.read_bytes())
    digest.update(ALTERNATIVES.read_bytes())
    return digest.hexdigest()[:16]


def _cap(landscape: str, sampler: str, cap: int) -> int:
    """Builds after which a run is given up."""
    if sampler == "optimum":
        return 0
    return CAPS.get(sampler, max(cap, LONGER.get(landscape, 0)))


def _job(landscape: str, sampler: str, seed: int, cap: int) -> Row:
    """One run, or one optimum, in a worker."""
    bench = _shared[0]
    made = Landscape(bench.ground, SPECS[landscape], seed)
    if sampler == "optimum":
        return {"mem_total_kb": optimum(made).mem_total_kb}
    return run(bench, made, sampler, cap).as_row()


def make_runs(
    landscapes: Sequence[str],
    samplers: Sequence[str],
    seeds: int,
    jobs: int,
    cap: int,
    kept: Path,
    console: Console,
) -> dict[tuple[str, str, int], Row]:
    """Every run asked for, taken from the file of kept ones or made and kept there.

    Returns:
        (landscape, sampler or "optimum", seed) -> the run's row.
    """
    codes = {name: code_digest(name) for name in ("optimum", *samplers)}
    wanted = {
        (landscape, sampler, seed): _cap(landscape, sampler, cap)
        # Seed by seed: what there is when it is interrupted can be compared.
        for seed in range(seeds)
        for landscape in landscapes
        for sampler in ("optimum", *samplers)
    }
    found: dict[tuple[str, str, int], Row] = {}
    if kept.is_file():
        for line in kept.read_text(encoding="utf-8").splitlines():
            key, row = _kept(line)
            if key in wanted and row["code"] == codes[key[1]] and row["cap"] == wanted[key]:
                found[key] = row
    missing = [key for key in wanted if key not in found]
    if not missing:
        return found
    if not _shared:
        _shared.append(load())
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Kconfig objects cannot be pickled, so the workers are forked with them.
    with (
        ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool,
        kept.open("a", encoding="utf-8") as stream,
    ):
        # Forked by the first submit, before the progress bar has a thread.
        futures = {pool.submit(_job, *key, wanted[key]): key for key in missing}
        try:
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task("runs", total=len(missing))
                for future in as_completed(futures):
                    key = futures[future]
                    row = future.result() | {"code": codes[key[1]], "cap": wanted[key]}
                    found[key] = row
                    landscape, sampler, seed = key
                    line = {"landscape": landscape, "sampler": sampler, "seed": seed, **row}
                    stream.write(json.dumps(line, separators=(",", ":")) + "\n")
                    stream.flush()
                    progress.update(task, advance=1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _kept(line: str) -> tuple[tuple[str, str, int], Row]:
    row: Row = json.loads(line)
    return (row.pop("landscape"), row.pop("sampler"), row.pop("seed")), row


# --- what the runs amount to


def best_known(runs: Mapping[tuple[str, str, int], Row]) -> dict[tuple[str, int], float]:
    """By landscape and seed, the greatest MemTotal that the oracle or any sampler found, in kB."""
    found: dict[tuple[str, int], float] = {}
    for (landscape, sampler, seed), row in runs.items():
        figure = row["mem_total_kb"] if sampler == "optimum" else _reached(row, math.inf)
        key = landscape, seed
        found[key] = max(found.get(key, 0), figure)
    return found


def builds_to(row: Row, best_kb: float, goal: float = GOAL) -> float:
    """The build with which a run first had that share of the best saving; inf if it never had."""
    enough = row["baseline_kb"] + goal * (best_kb - row["baseline_kb"])
    return next((build for build, figure in row["climb"] if figure >= enough), math.inf)


def share_at(row: Row, best_kb: float, build: float) -> float:
    """Share of the best saving that a run had after so many builds."""
    whole = best_kb - row["baseline_kb"]
    return (_reached(row, build) - row["baseline_kb"]) / whole if whole else 1.0


def _reached(row: Row, build: float) -> float:
    figures = [figure for at, figure in row["climb"] if at <= build]
    return float(figures[-1]) if figures else float(row["baseline_kb"])


def summarize(
    runs: Mapping[tuple[str, str, int], Row], landscapes: Sequence[str], samplers: Sequence[str]
) -> list[Row]:
    """A row a landscape and sampler, as written to results/bench/search.json.

    ``failed_boots`` and ``failed_checks`` are means a run, up to 99% or the run's end;
    ``builds_at_end`` a median, null for samplers that do not end by themselves.
    """
    best = best_known(runs)
    found = []
    for landscape in landscapes:
        for sampler in samplers:
            those = {
                seed: row
                for (one, name, seed), row in sorted(runs.items())
                if (one, name) == (landscape, sampler)
            }
            if those:
                best_kb = {seed: best[landscape, seed] for seed in those}
                found.append(
                    {"landscape": landscape, "sampler": sampler, **_summary(those, best_kb)}
                )
    return found


def _summary(runs: Mapping[int, Row], best_kb: Mapping[int, float]) -> Row:
    rows = list(runs.values())
    reached = {seed: builds_to(row, best_kb[seed]) for seed, row in runs.items()}
    ended = [row for row in rows if row["ended"]]
    hours = [
        sum(row["hours"][: int(reached[seed])])
        for seed, row in runs.items()
        if math.isfinite(reached[seed])
    ]

    def failed(kind: str) -> float:
        counts = [sum(build <= reached[seed] for build in row[kind]) for seed, row in runs.items()]
        return round(statistics.mean(counts), 2)

    def at(build: int) -> float:
        return round(
            statistics.median(share_at(row, best_kb[seed], build) for seed, row in runs.items()), 4
        )

    return {
        "seeds": len(rows),
        "median_builds_to_99": _finite(statistics.median(reached.values())),
        "worst_builds_to_99": _finite(max(reached.values())),
        **{f"share_at_{build}": at(build) for build in MARKS},
        "share_at_end": round(
            statistics.median(
                share_at(row, best_kb[seed], math.inf) for seed, row in runs.items()
            ), 4
        ),
        "failed_boots": failed("boot_failures"),
        "failed_builds": failed("build_failures"),
        "failed_checks": failed("check_failures"),
        "ask_seconds": round(statistics.median(row["ask_seconds"][0] for row in rows), 4),
        "worst_ask_seconds": max(row["ask_seconds"][-1] for row in rows),
        "one_minimal_share": _share(row["minimal"] for row in ended),
        "one_minimal_but_a_page_share": _share(row["minimal_but_a_page"] for row in ended),
        "reached_99": sum(map(math.isfinite, reached.values())),
        "ended": len(ended),
        "builds_at_end": statistics.median(row["builds"] for row in ended) if ended else None,
        "most_builds": max(row["builds"] for row in rows),
        "median_hours_to_99": (
            round(statistics.median(hours), 2) if len(hours) * 2 > len(rows) else None
        ),
    }  # fmt: skip


def _finite(builds: float) -> float | None:
    return builds if math.isfinite(builds) else None


def _share(values: Iterable[bool | None]) -> float | None:
    known = [bool(value) for value in values]
    return round(statistics.mean(known), 4) if known else None


def bars(rows: Sequence[Row], ask: Row | None) -> list[Row]:
    """Each bar with what was measured, and whether it is met; None where it cannot be told."""
    found: list[Row] = []
    for landscape in dict.fromkeys(row["landscape"] for row in rows):
        by = {row["sampler"]: row for row in rows if row["landscape"] == landscape}
        ours = by.get(OURS)
        if ours is None:
            continue
        mine = ours["median_builds_to_99"]
        if "ktest" in by:
            # A ktest that ends short of it would need more builds than it has options.
            theirs = by["ktest"]["median_builds_to_99"]
            at_least = by["ktest"]["most_builds"] if theirs is None else theirs
            found.append(
                _bar(
                    landscape, f"builds to 99%: at most 1/{KTEST_FACTOR} of ktest's",
                    f"{_builds(ours)} of {_builds(by['ktest'])}",
                    mine is not None and mine * KTEST_FACTOR <= at_least,
                )
            )  # fmt: skip
        others = {name: row for name, row in by.items() if name != OURS}
        if others:
            fewest = min(others.values(), key=_needed)
            found.append(
                _bar(
                    landscape, "builds to 99%: fewer than any other",
                    f"{_builds(ours)}; {fewest['sampler']} {_builds(fewest)}",
                    mine is not None and mine < _needed(fewest),
                )
            )  # fmt: skip
        whole = ours["ended"] == ours["seeds"] and ours["one_minimal_share"] == 1.0
        found.append(
            _bar(
                landscape, "100% of runs end 1-minimal",
                f"{ours['ended']} of {ours['seeds']} ended, "
                f"{_percent(ours['one_minimal_share'])} 1-minimal",
                whole,
            )
        )  # fmt: skip
    if ask is not None:
        found.append(
            _bar(
                "", f"an ask under {ASK_SECONDS} s at {ask['options']} options, "
                f"{ask['trials']} trials",
                f"median {ask['median_seconds']:.3f} s, worst {ask['worst_seconds']:.3f} s",
                ask["worst_seconds"] < ASK_SECONDS,
            )
        )  # fmt: skip
    return found


def _bar(landscape: str, bar: str, measured: str, met: bool) -> Row:
    return {"landscape": landscape, "bar": bar, "measured": measured, "met": met}


def _needed(row: Row) -> float:
    """Builds to 99%, or one more than it had where it did not get there."""
    median: float | None = row["median_builds_to_99"]
    return row["most_builds"] + 1 if median is None else median


def _builds(row: Row) -> str:
    if row["median_builds_to_99"] is not None:
        return f"{row['median_builds_to_99']:g}"
    if row["ended"] * 2 > row["seeds"]:
        return f"never (ends with {row['builds_at_end']:g})"
    return f"not within {row['most_builds']}"


# --- what an ask takes


def measure_ask(console: Console) -> Row:
    """Seconds of an ask of our sampler with many options and stored trials.

    The space is the real one, widened by options that are off to the number wanted. The trials are
    the sampler's own on one landscape, then others around its best, so that it has much to reason
    about. Each timed ask comes after a trial that it has not seen.
    """
    bench = load()
    more = ASK_OPTIONS - len(bench.ground.space.candidates)
    if more > 0:
        bench = load(more)
    space = bench.ground.space
    landscape = Landscape(bench.ground, SPECS["needs-40"], 0)
    console.print(f"asking with {len(space.candidates)} options and {ASK_TRIALS} trials")
    searched = run(bench, landscape, OURS, ASK_TRIALS // 4)
    trials = [baseline(landscape), *searched.trials]
    best = max(trials, key=lambda trial: trial.rank)
    source = random.Random(0)
    seen = {trial.resolved.digest for trial in trials}
    number = max(trial.number for trial in trials)
    while len(trials) < ASK_TRIALS + ASKS:
        params = dict(best.params)
        for candidate in source.sample(space.candidates, source.randint(1, 20)):
            params[candidate.name] = source.choice(candidate.values)
        verdict = landscape.judge(params)
        if verdict.digest in seen or landscape.ground.lost(verdict.values):
            continue
        seen.add(verdict.digest)
        number += 1
        trials.append(landscape.trial(number, OURS, params, verdict))
    study = Study(space, OURS, 0, bench.beliefs, trials[:ASK_TRIALS])
    began = time.perf_counter()
    _ask(study, number + 1)
    first = time.perf_counter() - began
    spent = []
    for count, trial in enumerate(trials[ASK_TRIALS:], 2):
        study.tell(trial)
        began = time.perf_counter()
        _ask(study, number + count)
        spent.append(time.perf_counter() - began)
    return {
        "options": len(space.candidates),
        "trials": ASK_TRIALS,
        "first_seconds": round(first, 4),
        "median_seconds": round(statistics.median(spent), 4),
        "worst_seconds": round(max(spent), 4),
    }


def _ask(study: Study, number: int) -> None:
    """Ask; that nothing is left takes as long to find out."""
    try:
        study.ask(number)
    except MemtotalError:
        return


# --- printing


def show(rows: Sequence[Row], verdicts: Sequence[Row], console: Console) -> None:
    """The tables."""
    table = Table(title="Builds to 99% of the best known saving")
    for name in ("landscape", "sampler"):
        table.add_column(name)
    marks = [f"at {build}" for build in MARKS]
    failed = ("boots failed", "checks failed")
    rest = ("ask s", "worst ask", "1-minimal", "ends with", "hours")
    for name in ("median", "worst", *marks, "at end", *failed, *rest):
        table.add_column(name, justify="right")
    previous = ""
    for row in rows:
        if previous and row["landscape"] != previous:
            table.add_section()
        previous = row["landscape"]
        worst = row["worst_builds_to_99"]
        table.add_row(
            row["landscape"],
            row["sampler"],
            _builds(row) if row["median_builds_to_99"] is not None else f">{row['most_builds']}",
            f"{worst:g}" if worst is not None else f"{row['reached_99']} of {row['seeds']}",
            *(_percent(row[f"share_at_{build}"]) for build in MARKS),
            _percent(row["share_at_end"]),
            f"{row['failed_boots']:.1f}",
            f"{row['failed_checks']:.1f}",
            f"{row['ask_seconds']:.3f}",
            f"{row['worst_ask_seconds']:.3f}",
            _percent(row["one_minimal_share"]),
            "" if row["builds_at_end"] is None else f"{row['builds_at_end']:g}",
            "" if row["median_hours_to_99"] is None else f"{row['median_hours_to_99']:.1f}",
        )
    console.print(table)
    for one in verdicts:
        mark = "met    " if one["met"] else "NOT MET"
        console.print(
            f"{mark} {one['landscape']:9} {one['bar']}: {one['measured']}", highlight=False
        )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    if text == "all":
        return list(known)
    names = text.replace(",", " ").split()
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"There is no {what} {unknown[0]}.", f"There are: {', '.join(known)}.")
    return names


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--landscapes", default="all", show_default=True, help=", ".join(SPECS))
@click.option("--samplers", default="all", show_default=True, help=", ".join(ALL))
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True)
@click.option(
    "--cap", type=click.IntRange(1), default=CAP, show_default=True,
    help="Builds after which tpe, nsga2 and random are given up.",
)  # fmt: skip
@click.option("--ask/--no-ask", default=True, help="Measure an ask with many options and trials.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=ROOT / "results/bench/search.json"
)
def main(
    seeds: int,
    landscapes: str,
    samplers: str,
    jobs: int,
    cap: int,
    ask: bool,
    output: Path,
) -> None:
    """Compare samplers on landscapes made of measured data."""
    console = Console(width=None if os.isatty(1) else 200)
    try:
        kinds = _chosen(landscapes, list(SPECS), "landscape")
        names = _chosen(samplers, ALL, "sampler")
        began = time.monotonic()
        runs = make_runs(kinds, names, seeds, jobs, cap, output.with_name("runs.jsonl"), console)
        rows = summarize(runs, kinds, names)
        asked = measure_ask(console) if ask and OURS in names else None
    except MemtotalError as error:
        console.print(str(error), highlight=False)
        raise SystemExit(2) from None
    verdicts = bars(rows, asked)
    show(rows, verdicts, console)
    _write(output, rows)
    _write(output.with_name("bars.json"), {"bars": verdicts, "ask": asked})
    console.print(f"{output}, {time.monotonic() - began:.0f} s", highlight=False)


def _write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
