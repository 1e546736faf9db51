"""``memtotal run``: start a study, or go on with it."""

from __future__ import annotations

import click

from optimizer.cli.screen import Share, Span, kb, results_option, span
from optimizer.cli.session import Session, Wishes, session
from optimizer.search.samplers import SAMPLERS


@click.command()
@click.argument("study")
@click.option("--budget", type=Span(), default=None, help="Stop after this long, such as 8h.")
@click.option(
    "--trials", type=click.IntRange(1), default=None, help="Stop when the study has so many."
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Variants at a time. Two share a tree: one boots while the other builds.",
)
@click.option(
    "--sampler", type=click.Choice(SAMPLERS), default=SAMPLERS[0], show_default=True,
    help="Who chooses the next variant.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sampler."
)
@click.option(
    "--audit-builds", type=Share(), default=0.0, metavar="SHARE",
    help="Rebuild this part of the variants clean, beside the search, and compare: 5%.",
)  # fmt: skip
@results_option
def run(
    study: str,
    budget: float | None,
    trials: int | None,
    jobs: int,
    sampler: str,
    seed: int,
    audit_builds: float,
    results: str | None,
) -> None:
    """Search STUDY's configurations; resume where an earlier run ended.

    Without --budget and --trials it goes on until nothing is left to try. A trial under way when
    the budget ends is finished. Ctrl-C ends at once; everything finished is stored.
    """
    wishes = Wishes(budget, trials, jobs, sampler, seed, audit_builds)
    with session(study, results, wishes) as opened:
        opened.run(wishes)
    _farewell(study, opened)


def _farewell(study: str, done: Session) -> None:
    figures = done.figures
    click.echo(f"Stopped: {done.ending.reason}.")
    if figures.gain_kb is not None:
        click.echo(
            f"Best: {kb(figures.best_kb)} in trial {figures.best_trial}; the baseline has "
            f"{kb(figures.baseline_kb)}. Gained {figures.gain_kb:+,.0f} kB in {figures.trials} "
            f"trials, {figures.builds} builds, {span(figures.seconds)}."
        )
    click.echo(f"Go on:   memtotal run {study}")
    click.echo(f"Export:  memtotal export {study} --format defconfig -o winner_defconfig")
    if done.ending.interrupted:
        raise click.exceptions.Exit(130)
