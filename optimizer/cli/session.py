"""A study being worked on: locked, its database open, its slots taken, and all of it given back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optimizer.cli import doctor, host, workshop
from optimizer.cli.interrupts import interruptible
from optimizer.cli.progress import Progress
from optimizer.errors import MachineFault, MemtotalError, UserError
from optimizer.process import Deadline, FolderLock
from optimizer.records import Trial
from optimizer.review.summary import summarize
from optimizer.search.audit import Auditor
from optimizer.search.knowledge import Belief
from optimizer.search.loop import Ending, Limits, Search
from optimizer.search.samplers import SAMPLERS
from optimizer.search.space import Space, build_space
from optimizer.search.trial import Cancelled
from optimizer.settings import StudySettings, load_study
from optimizer.store import Database


@dataclass(frozen=True)
class Wishes:
    """What the user asked of a run: limits, slots, and who chooses the variants.

    ``audit_builds`` is the share (0 to 1) of the variants that are built clean too, and compared;
    ``aside`` has the progress shown on standard error.
    """

    budget_seconds: float | None = None
    trials: int | None = None
    jobs: int = 1
    sampler: str = SAMPLERS[0]
    seed: int = 0
    audit_builds: float = 0.0
    aside: bool = False


class Session:
    """What :func:`session` opened. ``ending`` is why the run ended, as it will be stored;
    ``figures`` are those at its end."""

    def __init__(
        self,
        settings: StudySettings,
        database: Database,
        space: Space,
        tools: Mapping[str, str],
        search: Search,
        progress: Progress,
        audits: Audits,
    ) -> None:
        self.settings = settings
        self.database = database
        self.space = space
        self.ending = Ending("stopped by an error")
        self.figures = summarize(())
        self._beliefs = workshop.stored_beliefs(database)
        self._tools = tools
        self._search = search
        self._progress = progress
        self._audits = audits

    def prepare(self, *, anew: bool = False) -> dict[str, Belief]:
        """Measure and trace the baseline, unless an earlier run did.

        Args:
            anew: trace it again, and replace what is believed of the candidates.

        Returns:
            What is believed of each candidate; empty when the traced run failed.

        Raises:
            Cancelled, UserError, MachineFault: as :meth:`Search.measure_baseline`; the last
                also when tracing anew fails. Without a first trace the search still goes.
        """
        self._search.measure_baseline()
        if anew or not self._beliefs:
            self._progress.say("tracing which code the baseline runs")
            try:
                self._beliefs = self._search.trace_baseline()
            except MachineFault as fault:
                if anew:
                    raise
                self._progress.say(f"{fault.message} The search goes on without; it takes longer.")
            self.bind()
        return self._beliefs

    def run(self, wishes: Wishes) -> None:
        """Search until a limit is reached.

        Raises:
            Cancelled, UserError, MachineFault: as :meth:`Search.run`.
        """
        limits = Limits(Deadline(wishes.budget_seconds), wishes.trials)
        beliefs: Mapping[str, Belief] = {}
        if wishes.sampler == SAMPLERS[0]:
            beliefs = self.prepare()
        else:
            self._search.measure_baseline()
        self.ending = self._search.run(wishes.sampler, wishes.seed, beliefs, limits)
        self._audits.finish(self._search)

    def bind(self) -> None:
        """Say in the database what its figures belong to."""
        self.database.bind_study(
            self.settings.name,
            study_digest=workshop.study_digest(
                self.settings, workshop.defconfig_path(self.settings)
            ),
            settings_text=self.settings.text,
            tree_identity=self._tools["kernel"],
            compiler=self._tools["compiler"],
            emulator=self._tools["emulator"],
            candidates=workshop.describe(self.space, self._beliefs),
        )


@contextmanager
def session(study: str, results: str | None, wishes: Wishes) -> Iterator[Session]:
    """Everything that a run needs. It is noted in the database as a run, with how it ended.

    Raises:
        UserError: the study is wrong, is being run already, or lacks a tool.
        MachineFault: the disk or the machine failed.
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
        with (
            Database.open(folder / "trials.db", create=True) as database,
            _progress(database, wishes) as progress,
            _opened(settings, database, folder, wishes, progress) as opened,
        ):
            yield opened
    finally:
        lock.release()


def _progress(database: Database, wishes: Wishes) -> Progress:
    past = database.trials()
    best_trial = summarize(past).best_trial
    best = next((one for one in past if one.number == best_trial), None)
    baseline = past[0].objective if past else None
    limits = (wishes.budget_seconds, wishes.trials)
    return Progress(baseline, best, len(past), *limits, aside=wishes.aside)


@contextmanager
def _opened(
    settings: StudySettings,
    database: Database,
    folder: Path,
    wishes: Wishes,
    progress: Progress,
) -> Iterator[Session]:
    progress.say(f"reading {settings.kernel.tree}")
    tree = workshop.symbol_tree(settings)
    tools = workshop.tools(settings, tree)
    space = build_space(tree, settings.options, command_line=settings.board.command_line)
    progress.say(_space_line(space))
    for one in space.excluded:
        progress.say(f"left out: {one.symbol}: {one.reason}")
    with contextlib.ExitStack() as stack:
        slots = workshop.open_slots(settings, tools, wishes.jobs)
        for slot in slots:
            stack.callback(slot.close)
        auditor = None
        if wishes.audit_builds:
            share, log = wishes.audit_builds, folder / "audit.log"
            auditor = workshop.open_auditor(settings, tools, share, log)
            for slot in slots:
                slot.audit_with(auditor)
        audits = Audits(progress, auditor)
        stack.callback(audits.close)
        search = Search(settings, database, space, slots, folder / "logs", audits)
        opened = Session(settings, database, space, tools, search, progress, audits)
        opened.bind()
        with _noted(database, wishes, opened), interruptible(search.stop):
            yield opened
        workshop.store_facts(database, space, None)


@contextmanager
def _noted(database: Database, wishes: Wishes, opened: Session) -> Iterator[None]:
    """The run's beginning and end in the database, whatever ends it."""
    run_id = database.start_run(
        sampler=wishes.sampler,
        seed=wishes.seed,
        jobs=wishes.jobs,
        cores=host.cores(),
        memory_gb=round(host.memory_gb(), 1),
        budget_seconds=wishes.budget_seconds,
        budget_trials=wishes.trials,
    )
    try:
        yield
    except Cancelled:
        opened.ending = Ending("interrupted", interrupted=True)
    except MemtotalError as error:
        opened.ending = Ending(error.message)
        raise
    finally:
        opened.figures = summarize(database.trials())
        database.end_run(run_id, opened.ending.reason)


class Audits:
    """The display of a run, and between two trials what the auditor has found."""

    def __init__(self, progress: Progress, auditor: Auditor | None) -> None:
        self._progress = progress
        self._auditor = auditor
        self.started = progress.started
        self.phase = progress.phase
        self.trouble = progress.trouble

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """A trial is stored."""
        self._progress.finished(trial, best)
        self._say_news()

    def finish(self, search: Search) -> None:
        """Wait for the audits under way, unless the user wants an end."""
        if self._auditor is None:
            return
        if self._auditor.underway and not search.stopping:
            self._progress.say(
                f"{self._auditor.underway} builds are yet to be compared; Ctrl-C ends it now"
            )
        while self._auditor.underway and not search.stopping:
            time.sleep(0.1)
            self._say_news()

    def close(self) -> None:
        """Give up what is not done, and say how much was."""
        if self._auditor is None:
            return
        self._auditor.close()
        self._say_news()
        self._progress.say(
            f"{self._auditor.audited} of {self._auditor.sampled} sampled builds were compared "
            "with clean ones"
        )

    def _say_news(self) -> None:
        for audit in self._auditor.news() if self._auditor is not None else ():
            self._progress.say(str(audit))


def _space_line(space: Space) -> str:
    kinds = [one.kind for one in space.candidates]
    return (
        f"{len(kinds)} candidates: {kinds.count('bool')} options, {kinds.count('choice')} choices, "
        f"{kinds.count('int')} integers, {kinds.count('parameter')} boot parameters; "
        f"{len(space.excluded)} left out"
    )
