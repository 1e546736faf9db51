"""What commands share that build variants of a study which was searched already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optimizer.cli import doctor, workshop
from optimizer.cli.interrupts import interruptible
from optimizer.cli.progress import Progress
from optimizer.errors import UserError
from optimizer.process import FolderLock
from optimizer.records import Trial
from optimizer.review.summary import summarize
from optimizer.search.series import Series
from optimizer.search.space import Space, build_space
from optimizer.settings import StudySettings, load_study
from optimizer.store import Database


@dataclass(frozen=True)
class Sequel:
    """A study at work: its database open for writing, its slots taken."""

    settings: StudySettings
    database: Database
    space: Space
    series: Series
    baseline: Trial
    winner: Trial
    progress: Progress


@contextmanager
def sequel(
    study: str,
    results: str | None,
    trial: int | None,
    jobs: int,
    budget: float | None,
    sampler: str,
    *,
    aside: bool = False,
) -> Iterator[Sequel]:
    """Open a study for measuring.

    Args:
        study: as given by the user.
        results: the results folder, None for the usual one.
        trial: the one to take for the winner, None for the best.
        jobs: variants at a time.
        budget: seconds, for the display.
        sampler: the name that new trials are stored under.
        aside: show the progress on standard error.

    Raises:
        UserError: no such study, it was not run, it is being run, or it changed since.
        MachineFault: the disk is full or broken.
    """
    settings = load_study(study)
    doctor.require(settings)
    folder = workshop.study_folder(settings.name, results)
    if not (folder / "trials.db").is_file():
        raise UserError(
            f"There are no trials yet in {folder / 'trials.db'}.", f"Run: memtotal run {study}"
        )
    lock = FolderLock(folder)
    if not lock.acquire():
        raise UserError(
            f"Study {settings.name} is being run by process {lock.holder() or 'unknown'}.",
            f"Look at it with: memtotal status {study}",
        )
    try:
        with Database.open(folder / "trials.db", create=False) as database:
            yield from _opened(settings, database, folder, trial, jobs, budget, sampler, aside)
    finally:
        lock.release()


def _opened(
    settings: StudySettings,
    database: Database,
    folder: Path,
    trial: int | None,
    jobs: int,
    budget: float | None,
    sampler: str,
    aside: bool,
) -> Iterator[Sequel]:
    number = database.best() if trial is None else trial
    past = database.trials()
    if number is None or not past:
        raise UserError("No trial has passed yet.", f"Look at: memtotal review {settings.name}")
    winner = database.trial(number)
    if winner.objective is None:
        raise UserError(f"Trial {number} did not pass: it has no figure to compare with.")
    if winner.duplicate_of is not None:
        winner = database.trial(winner.duplicate_of)
    best = summarize(past).best_trial
    shown = next((one for one in past if one.number == best), None)
    with Progress(past[0].objective, shown, len(past), budget, None, aside=aside) as progress:
        progress.say(f"reading {settings.kernel.tree}")
        tree = workshop.symbol_tree(settings)
        tools = workshop.tools(settings, tree)
        space = build_space(tree, settings.options, command_line=settings.board.command_line)
        database.bind_study(
            settings.name,
            study_digest=workshop.study_digest(settings, workshop.defconfig_path(settings)),
            settings_text=settings.text,
            tree_identity=tools["kernel"],
            compiler=tools["compiler"],
            emulator=tools["emulator"],
            candidates=workshop.describe(space, workshop.stored_beliefs(database)),
        )
        slots = workshop.open_slots(settings, tools, jobs)
        try:
            series = Series(database, space, slots, folder / "logs", progress, sampler)
            workshop.store_facts(database, space, winner)
            with interruptible(series.stop):
                yield Sequel(settings, database, space, series, past[0], winner, progress)
        finally:
            for slot in slots:
                slot.close()
