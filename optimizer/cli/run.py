"""``memtotal run``: start a study, or go on with it."""

from __future__ import annotations

from pathlib import Path

import click

from optimizer.cli import doctor, host, workshop
from optimizer.cli.progress import Progress
from optimizer.cli.screen import Span, kb, results_option, span
from optimizer.cli.session import interruptible
from optimizer.errors import MachineFault, MemtotalError, UserError
from optimizer.process import Deadline, FolderLock
from optimizer.review.summary import summarize
from optimizer.search.loop import Ending, Limits, Search
from optimizer.search.samplers import SAMPLERS
from optimizer.search.space import Space, build_space
from optimizer.search.trial import Cancelled, Slot
from optimizer.settings import StudySettings, load_study
from optimizer.store import Database


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
    help="Variants built side by side; the cores are shared among them.",
)
@click.option(
    "--sampler", type=click.Choice(SAMPLERS), default=SAMPLERS[0], show_default=True,
    help="Who chooses the next variant.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sampler."
)
@results_option
def run(
    study: str,
    budget: float | None,
    trials: int | None,
    jobs: int,
    sampler: str,
    seed: int,
    results: str | None,
) -> None:
    """Search STUDY's configurations; resume where an earlier run ended.

    Without --budget and --trials it goes on until nothing is left to try. A trial under way when
    the budget ends is finished. Ctrl-C ends at once; everything finished is stored.
    """
    settings = load_study(study)
    doctor.require(settings)
    folder = workshop.study_folder(settings.name, results)
    lock = FolderLock(folder)
    if not lock.acquire():
        raise UserError(
            f"Study {settings.name} is being run by process {lock.holder() or 'unknown'}.",
            f"Look at it with: memtotal status {study}",
        )
    try:
        with Database.open(folder / "trials.db", create=True) as database:
            _run(study, settings, database, folder, budget, trials, jobs, sampler, seed)
    finally:
        lock.release()


def _run(
    study: str,
    settings: StudySettings,
    database: Database,
    folder: Path,
    budget: float | None,
    trials: int | None,
    jobs: int,
    sampler: str,
    seed: int,
) -> None:
    past = database.trials()
    best_trial = summarize(past).best_trial
    best = next((one for one in past if one.number == best_trial), None)
    baseline_kb = past[0].objective if past else None
    limits = Limits(Deadline(budget), trials)
    with Progress(baseline_kb, best, len(past), budget, trials) as progress:
        progress.say(f"reading {settings.kernel.tree}")
        tree = workshop.symbol_tree(settings)
        tools = workshop.tools(settings, tree)
        space = build_space(tree, settings.options)
        progress.say(_space_line(space))
        for one in space.excluded:
            progress.say(f"left out: {one.symbol}: {one.reason}")
        digest = workshop.study_digest(settings, workshop.defconfig_path(settings))
        beliefs = workshop.stored_beliefs(database)

        def bind() -> None:
            database.bind_study(
                settings.name,
                study_digest=digest,
                settings_text=settings.text,
                tree_identity=tools["kernel"],
                compiler=tools["compiler"],
                emulator=tools["emulator"],
                candidates=workshop.describe(space, beliefs),
            )

        bind()
        slots = workshop.open_slots(settings, tools, jobs)
        run_id = database.start_run(
            sampler=sampler,
            seed=seed,
            jobs=jobs,
            cores=host.cores(),
            memory_gb=round(host.memory_gb(), 1),
            budget_seconds=budget,
            budget_trials=trials,
        )
        ending = Ending("stopped by an error")
        try:
            search = Search(settings, database, space, slots, folder / "logs", progress)
            with interruptible(search.stop):
                search.measure_baseline()
                if not beliefs and sampler == SAMPLERS[0]:
                    progress.say("tracing which code the baseline runs")
                    try:
                        beliefs = search.trace_baseline()
                    except MachineFault as fault:
                        progress.say(
                            f"{fault.message} The search goes on without; it takes longer."
                        )
                    bind()
                ending = search.run(sampler, seed, beliefs, limits)
        except Cancelled:
            ending = Ending("interrupted", interrupted=True)
        except MemtotalError as error:
            ending = Ending(error.message)
            raise
        finally:
            database.end_run(run_id, ending.reason)
            _close(slots)
        workshop.store_facts(database, space, None)
    _farewell(study, settings, database, ending)


def _space_line(space: Space) -> str:
    kinds = [one.kind for one in space.candidates]
    return (
        f"{len(kinds)} candidates: {kinds.count('bool')} options, {kinds.count('choice')} choices, "
        f"{kinds.count('int')} integers; {len(space.excluded)} left out"
    )


def _close(slots: list[Slot]) -> None:
    for slot in slots:
        slot.close()


def _farewell(study: str, settings: StudySettings, database: Database, ending: Ending) -> None:
    figures = summarize(database.trials())
    click.echo(f"Stopped: {ending.reason}.")
    if figures.gain_kb is not None:
        click.echo(
            f"Best: {kb(figures.best_kb)} in trial {figures.best_trial}; the baseline has "
            f"{kb(figures.baseline_kb)}. Gained {figures.gain_kb:+,.0f} kB in {figures.trials} "
            f"trials, {figures.builds} builds, {span(figures.seconds)}."
        )
    click.echo(f"Go on:   memtotal run {study}")
    click.echo(f"Export:  memtotal export {study} --format defconfig -o winner_defconfig")
    if ending.interrupted:
        raise click.exceptions.Exit(130)
