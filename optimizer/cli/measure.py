"""``memtotal attribute`` and ``memtotal steps``: measure what single changes save."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli.findings import gather
from optimizer.cli.review import price_row
from optimizer.cli.screen import Span, as_json_option, console, kb, results_option
from optimizer.cli.sequel import Sequel, sequel
from optimizer.cli.verify import fresh_slot
from optimizer.errors import UserError
from optimizer.process import Deadline
from optimizer.records import ATTRIBUTION_SAMPLER, STEPS_SAMPLER, AttributionKind, Step
from optimizer.review.prices import Price, Role, measurement
from optimizer.review.savings import differences
from optimizer.search import attribution, steps, verification
from optimizer.search.attribution import Comparison, Unmeasurable
from optimizer.search.space import kept_names


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), default=None, help="This one, not the winner.")
@click.option("--budget", type=Span(), default=None, help="Start nothing after this long (1h).")
@click.option("--top", type=click.IntRange(1), default=None, help="Only so many changes.")
@click.option(
    "--option", "options", multiple=True, metavar="SYMBOL",
    help="Only this one (may be given more than once).",
)  # fmt: skip
@click.option(
    "--baseline", "at_baseline", is_flag=True,
    help="Measure the changes at the baseline too: the difference is interaction.",
)  # fmt: skip
@click.option("--kept", is_flag=True, help="Measure what the study keeps: the price of each.")
@click.option(
    "--recheck", type=click.IntRange(1), default=None, metavar="N",
    help="Instead, build both sides of N measured savings clean and compare; exit code 1 if one "
    "differs.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=1, show_default=True,
    help="Variants at a time; two share a tree.",
)  # fmt: skip
@as_json_option
@results_option
def attribute(
    study: str,
    trial: int | None,
    budget: float | None,
    top: int | None,
    options: tuple[str, ...],
    at_baseline: bool,
    kept: bool,
    recheck: int | None,
    jobs: int,
    as_json: bool,
    results: str | None,
) -> None:
    """Measure what each change of STUDY's winner saves: taken back alone, built, booted.

    The changes with the greatest estimated saving come first. It can be stopped anywhere, and goes
    on with what is not measured yet.
    """
    with sequel(study, results, trial, jobs, budget, ATTRIBUTION_SAMPLER, aside=as_json) as at:
        if recheck is not None:
            if _recheck(at, recheck):
                raise click.exceptions.Exit(1)
            return
        known = gather(at.database, at.winner.number).prices
        wanted = _wanted(at, known, options, top)
        planned: list[Comparison | Unmeasurable] = []
        if not kept or options:
            planned += attribution.from_winner(at.space, at.winner, wanted)
        if at_baseline:
            planned += attribution.from_baseline(at.space, wanted)
        if kept:
            names = [
                one
                for one in kept_names(at.space.tree, at.settings.options)
                if not options or one in _plain(options)
            ]
            planned += attribution.of_kept(at.space, at.winner, names)
        for one in planned:
            if isinstance(one, Unmeasurable):
                at.progress.say(f"not measurable: {one.option}={one.value}: {one.reason}")
        done, left = _measure(at, [one for one in planned if isinstance(one, Comparison)], budget)
        found = gather(at.database, at.winner.number).prices
    shown = [one for one in found if one.told]
    if as_json:
        click.echo(
            json.dumps({"measured": [price_row(one) for one in shown], "left": left}, indent=2)
        )
        return
    click.echo(f"{done} measured, {left} left. Look at them: memtotal review {study}")


def _plain(options: Sequence[str]) -> list[str]:
    return [one.removeprefix("CONFIG_") for one in options]


def _wanted(
    at: Sequel, known: Sequence[Price], options: Sequence[str], top: int | None
) -> list[tuple[str, str]]:
    """The winner's changes, the most valuable first."""
    worth = {(one.option, one.value): one.saving_kb or 0.0 for one in known}
    changes = [
        (name, after)
        for name, _, after in differences(at.winner, at.baseline)
        if name in at.space.baseline
    ]
    changes.sort(key=lambda change: (-worth.get(change, 0.0), change))
    if options:
        names = _plain(options)
        changes = [one for one in changes if not {one[0], *one[0].split("|")}.isdisjoint(names)]
        kept = set(kept_names(at.space.tree, at.settings.options))
        for name in names:
            if name not in kept and not any(name in one[0].split("|") for one in changes):
                raise UserError(
                    f"Trial {at.winner.number} does not change {name}.",
                    f"See what it changes: memtotal show {at.settings.name} {at.winner.number}",
                )
    return changes[:top]


def _measure(
    at: Sequel, comparisons: Sequence[Comparison], budget: float | None
) -> tuple[int, int]:
    """Have both variants of each comparison evaluated; how many are measured, how many are not."""
    requests = [one for pair in comparisons for one in (pair.lacking, pair.having)]
    numbers: dict[int, int] = {}
    stored: set[int] = set()

    def on_done(index: int, number: int) -> None:
        numbers[index] = number
        pair = index // 2
        if pair not in stored and {2 * pair, 2 * pair + 1} <= numbers.keys():
            stored.add(pair)
            at.database.put_attribution(
                comparisons[pair].attribution(numbers[2 * pair + 1], numbers[2 * pair])
            )

    at.progress.say(f"{len(comparisons)} changes to measure")
    at.series.run(requests, Deadline(budget), on_done)
    return len(stored), len(comparisons) - len(stored)


def _recheck(at: Sequel, count: int) -> int:
    """Build both sides of measured savings in a fresh tree; how many savings differ."""
    trials = {one.number: one for one in at.database.trials()}
    savings = [
        (one, measurement(one, trials[one.with_trial], trials[one.without_trial], "mem_total"))
        for one in at.database.attributions()
        if one.kind is AttributionKind.WINNER
    ]
    # Where one side did not boot, nothing was measured that could repeat.
    pairs = [(one, saved.mem_total_kb) for one, saved in savings if saved.mem_total_kb is not None]
    tools = {
        "kernel": at.settings.kernel.tree.name,
        "compiler": at.settings.kernel.cross_compile,
    }
    totals: dict[int, int | None] = {}
    differing = 0
    for pair, told in pairs[:count]:
        for number in (pair.with_trial, pair.without_trial):
            if number not in totals:
                trial = at.database.trial(number)
                at.progress.say(f"building trial {number} clean")
                folder, slot = fresh_slot(at.settings, tools)
                logs = at.database.folder / "verify" / str(folder)
                try:
                    found = verification.verify(
                        slot,
                        trial.resolved.text,
                        logs,
                        None,
                        _silent,
                        at.series.cancel,
                        trial.assignment.parameters,
                    )
                finally:
                    slot.empty()
                    slot.close()
                seen = {one.measurement.mem_total_kb for one in found.boots if one.measurement}
                totals[number] = seen.pop() if len(seen) == 1 else None
        one, other = totals[pair.with_trial], totals[pair.without_trial]
        clean = None if one is None or other is None else one - other
        differing += told != clean
        word = "the same" if told == clean else "DIFFERS"
        at.progress.say(f"{pair.option}={pair.value}: measured {told} kB, clean {clean} kB: {word}")
    at.progress.say(f"{min(count, len(pairs))} savings built clean, {differing} differ")
    return differing


def _silent(_phase: str, _detail: str) -> None:
    """Nothing to say between two trials."""


@click.command("steps")
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), default=None, help="Lead to this one.")
@click.option(
    "--most", type=click.IntRange(1), default=12, show_default=True, help="So many steps at most."
)
@click.option("--budget", type=Span(), default=None, help="Start nothing after this long (1h).")
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=1, show_default=True,
    help="Variants at a time; two share a tree.",
)  # fmt: skip
@as_json_option
@results_option
def make_steps(
    study: str,
    trial: int | None,
    most: int,
    budget: float | None,
    jobs: int,
    as_json: bool,
    results: str | None,
) -> None:
    """Build and boot the way from STUDY's baseline to its winner in steps to review one by one.

    The changes are grouped by menu, the greatest saving first. What does not work by itself is made
    one step with the next. `memtotal export STUDY --format steps` writes them as files.
    """
    with sequel(study, results, trial, jobs, budget, STEPS_SAMPLER, aside=as_json) as at:
        known = gather(at.database, at.winner.number).prices
        savings = {
            (one.option, one.value): one.saving_kb or 0.0 for one in known if one.role is Role.MADE
        }
        changes = [
            (name, after)
            for name, _, after in differences(at.winner, at.baseline)
            if name in at.space.baseline
        ]
        planned = steps.plan(at.space, at.winner, changes, savings, most)
        # The last one is the winner, which is built already.
        numbers = at.series.run([one.prepared for one in planned[:-1]], Deadline(budget))
        trials = {one.number: one for one in at.database.trials()}
        reached = {index: trials[number] for index, number in numbers.items()}
        reached[len(planned) - 1] = trials[at.winner.number]
        missing = [one for index, one in enumerate(planned) if index not in reached]
        if not missing:
            found = steps.measured(planned, reached)
            at.database.put_steps(at.winner.number, found)
    if missing:
        click.echo(
            f"{len(missing)} of {len(planned)} steps are not built. Go on: memtotal steps {study}"
        )
        return
    rows = step_rows(found, {number: one.objective for number, one in trials.items()})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("step", "trial", "figure", "saves", "changes", "what", box=None)
    for row in rows:
        table.add_row(
            str(row["position"]),
            str(row["trial"]),
            kb(_number(row["objective_kb"])),
            f"{_number(row['saved_kb']):+,.0f} kB",
            str(len(list(dict(row)["changes"]))),  # type: ignore[call-overload]
            Text(str(row["title"])),
        )
    console().print(table)


def step_rows(
    found: Sequence[Step], objectives: dict[int, float | None]
) -> list[dict[str, object]]:
    """Steps with their figures: what each adds to the one before, the first to the baseline."""
    rows: list[dict[str, object]] = []
    before = objectives.get(0) or 0.0
    for step in found:
        reached = objectives.get(step.trial) or 0.0
        rows.append(
            {
                "position": step.position,
                "title": step.title,
                "trial": step.trial,
                "objective_kb": reached,
                "saved_kb": reached - before,
                "changes": [list(change) for change in step.changes],
            }
        )
        before = reached
    return rows


def _number(value: object) -> float:
    return float(str(value))
