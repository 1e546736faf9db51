"""The search's main loop: slots, budget, resume, stop.

The coordinator (the thread that calls :meth:`Search.run`) resolves, asks, tells and stores; worker
threads build and boot. A trial counts from the moment it is stored, and not before.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from optimizer.errors import MachineFault, UserError
from optimizer.process import Deadline
from optimizer.records import Assignment, Outcome, Trial
from optimizer.search import prior
from optimizer.search.elimination import NothingLeftError
from optimizer.search.knowledge import Belief, objects_compiled
from optimizer.search.objectives import objectives
from optimizer.search.space import Space
from optimizer.search.study import Study
from optimizer.search.trial import Cancelled, Slot, Variant
from optimizer.search.verdicts import verdicts
from optimizer.settings import StudySettings
from optimizer.store.database import Database

# When the sampler only repeats itself this often in a row, more asking is no use.
MOST_REPEATS = 200
TRIES = 2


@dataclass(frozen=True)
class Limits:
    """When to stop: when the time is up, or with so many trials in the study."""

    deadline: Deadline
    trials: int | None = None


@dataclass(frozen=True)
class Ending:
    """Why the run stopped, in words, and whether the user asked for it."""

    reason: str
    interrupted: bool = False


class Reporter(Protocol):
    """Who is told how the run goes (called in the coordinator's thread only)."""

    def started(self, number: int, slot: int, expected: int | None = None) -> None:
        """A trial was given to a slot, where kbuild will compile about so many objects for it."""

    def phase(self, number: int, slot: int, phase: str, detail: str) -> None:
        """A trial came to a phase; for ``build`` the detail is the objects compiled so far."""

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """A trial is stored."""

    def trouble(self, number: int, message: str) -> None:
        """The machine failed; the trial is tried again."""


@dataclass
class _Running:
    variant: Variant
    slot: int
    tries: int = 1


class Search:
    """A study under way. Call :meth:`measure_baseline` once, then :meth:`run`.

    Args:
        settings: the study.
        database: opened for writing.
        space: the search space.
        slots: each evaluates one trial at a time; some share a build tree.
        logs: folder that gets a folder a trial.
        reporter: who is told.
    """

    def __init__(
        self,
        settings: StudySettings,
        database: Database,
        space: Space,
        slots: Sequence[Slot],
        logs: Path,
        reporter: Reporter,
    ) -> None:
        self._settings = settings
        self._database = database
        self._space = space
        self._slots = slots
        self._logs = logs
        self._reporter = reporter
        self._cancel = threading.Event()
        self._phases: queue.SimpleQueue[tuple[int, int, str, str]] = queue.SimpleQueue()
        self._past = database.trials()
        self._numbers = {trial.number for trial in self._past}
        self._best = max(
            (trial for trial in self._past if trial.outcome is Outcome.PASSED),
            key=lambda trial: trial.rank,
            default=None,
        )
        self._study: Study | None = None
        self._sampler = "baseline"
        self._beliefs: Mapping[str, Belief] = {}
        self._running: dict[Future[Trial], _Running] = {}
        # By tree, the variant that was given to it last.
        self._given: dict[Path, Variant] = {}
        self._twins: list[Variant] = []
        self._repeats = 0

    def stop(self) -> None:
        """Ask the run to end now: what is being built is given up. Safe in a signal handler."""
        self._cancel.set()

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._cancel.is_set()

    def measure_baseline(self) -> None:
        """Evaluate the baseline as trial 0, unless that is stored already.

        Raises:
            Cancelled: :meth:`stop` was called.
            UserError: the baseline does not build, boot or pass.
            MachineFault: the machine failed twice at it.
        """
        if 0 in self._numbers:
            return
        with self._pool() as pool:
            self._submit(pool, self._baseline(), 0)
            while self._running:
                self._wait(pool)

    def trace_baseline(self) -> dict[str, Belief]:
        """What two traced boots of the baseline say about the candidates.

        Raises:
            Cancelled, UserError, MachineFault: as :meth:`measure_baseline`.
        """
        config = self._space.tree.resolve(Assignment({})).text
        traces = self._slots[0].trace(
            config,
            self._logs / "trace",
            lambda phase, detail: self._reporter.phase(0, 0, phase, detail),
            self._cancel,
        )
        return prior.beliefs(self._space, traces)

    def run(self, sampler: str, seed: int, beliefs: Mapping[str, Belief], limits: Limits) -> Ending:
        """Search until a limit is reached, nothing is left, or :meth:`stop` is called.

        Args:
            sampler: the sampler's name.
            seed: of the sampler.
            beliefs: what is thought of the candidates beforehand.
            limits: when to stop.

        Raises:
            MachineFault: the machine failed twice at the same variant.
            UserError: the study's files changed under the run.
        """
        self._sampler = sampler
        self._beliefs = beliefs
        self._study = Study(
            self._space,
            sampler,
            seed,
            beliefs,
            self._database.trials(),
            objectives(self._settings.objective),
        )
        with self._pool() as pool:
            try:
                ending = self._search(pool, self._study, limits)
            except Cancelled:
                ending = Ending("interrupted", interrupted=True)
        self._conclude(self._study)
        return ending

    def _conclude(self, study: Study) -> None:
        """Store why what stays has to stay, as far as it is known now."""
        known = study.knowledge()
        if known.best_number is not None:
            self._database.put_verdicts(known.best_number, verdicts(self._space, known))

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Worker threads; whatever they still do when this is left is given up."""
        with ThreadPoolExecutor(len(self._slots), thread_name_prefix="slot") as pool:
            try:
                yield pool
            except BaseException:
                self._cancel.set()
                raise
            finally:
                self._database.clear_activity()

    def _search(self, pool: ThreadPoolExecutor, study: Study, limits: Limits) -> Ending:
        reason = ""
        while True:
            while not reason and len(self._running) < len(self._slots):
                reason = self._exhausted(limits)
                if not reason:
                    try:
                        self._start_next(pool, study)
                    except NothingLeftError as done:
                        # What is running may still teach the sampler something new to ask.
                        if not self._running:
                            reason = done.message
                        break
            if not self._running:
                return Ending(reason)
            self._wait(pool)

    def _exhausted(self, limits: Limits) -> str:
        if limits.deadline.expired:
            return "the budget is used up"
        underway = len(self._numbers) + len(self._running) + len(self._twins)
        if limits.trials is not None and underway >= limits.trials:
            return f"{limits.trials} trials are done"
        if self._repeats >= MOST_REPEATS:
            return f"the last {MOST_REPEATS} variants asked for were tried before or not allowed"
        return ""

    def _start_next(self, pool: ThreadPoolExecutor, study: Study) -> None:
        """Ask for a variant and start it, or store at once what needs no build."""
        number = self._next_number()
        params = study.ask(number)
        assignment = self._space.assignment(params)
        variant = Variant(
            number=number,
            sampler=self._sampler,
            params=params,
            assignment=assignment,
            effective=self._space.effective(params),
            resolved=self._space.tree.resolve(assignment),
        )
        if lost := self._space.lost(params):
            self._store(
                _unbuilt(variant, Outcome.CONFIG_REFUSED, f"would change {', '.join(lost)}, kept")
            )
            self._repeats += 1
        elif (twin := self._twin(variant)) is not None:
            self._store(_duplicate(variant, twin))
            self._repeats += 1
        elif any(_same(one.variant, variant) for one in self._running.values()):
            self._twins.append(variant)
        else:
            self._repeats = 0
            busy = {running.slot for running in self._running.values()}
            free = next(index for index in range(len(self._slots)) if index not in busy)
            self._submit(pool, variant, free)

    def _twin(self, variant: Variant) -> Trial | None:
        return self._database.by_digest(variant.resolved.digest, variant.assignment.parameters)

    def _baseline(self) -> Variant:
        nothing = Assignment({})
        return Variant(
            number=0,
            sampler="baseline",
            params=self._space.baseline,
            assignment=nothing,
            effective=self._space.effective_of(Assignment({})),
            resolved=self._space.tree.resolve(nothing),
        )

    def _submit(
        self, pool: ThreadPoolExecutor, variant: Variant, slot: int, tries: int = 1
    ) -> None:
        def report(phase: str, detail: str) -> None:
            self._phases.put((variant.number, slot, phase, detail))

        tree = self._slots[slot].tree
        self._reporter.started(variant.number, slot, self._expected(variant, tree))
        self._given[tree] = variant
        future = pool.submit(
            self._slots[slot].evaluate,
            variant,
            self._logs / f"trial-{variant.number:04d}",
            report,
            self._cancel,
        )
        self._running[future] = _Running(variant, slot, tries)

    def _expected(self, variant: Variant, tree: Path) -> int | None:
        """How many objects will be compiled; None where that is not known."""
        if tree not in self._given or not self._beliefs:
            return None
        before = self._given[tree].effective
        changed = (name for name, value in variant.effective.items() if before.get(name) != value)
        return objects_compiled(self._beliefs, changed)

    def _wait(self, pool: ThreadPoolExecutor) -> None:
        """Until at least one trial is done; passes on what the workers report meanwhile."""
        done: set[Future[Trial]] = set()
        while not done:
            done, _ = wait(self._running, timeout=0.2, return_when=FIRST_COMPLETED)
            self._pass_on_phases()
        failed: list[Exception] = []
        for future in done:
            running = self._running.pop(future)
            error = future.exception()
            if error is None:
                self._finish(running.variant, future.result(), running.slot)
            elif isinstance(error, MachineFault) and running.tries < TRIES:
                self._reporter.trouble(running.variant.number, error.message)
                self._submit(pool, running.variant, running.slot, running.tries + 1)
            elif isinstance(error, Exception):
                failed.append(error)
        if failed:
            # Only now, so that what finished beside it is stored.
            raise failed[0]

    def _finish(self, variant: Variant, trial: Trial, slot: int) -> None:
        if trial.number == 0:
            _check_baseline(trial)
        if trial.build is None or not trial.build.ok:
            # Nobody knows what is in the tree, unless another variant is built there by now.
            tree = self._slots[slot].tree
            if self._given.get(tree) is variant:
                del self._given[tree]
        self._store(trial)
        self._store_twins(variant, trial)
        self._database.clear_activity(slot)

    def _pass_on_phases(self) -> None:
        latest: dict[int, tuple[int, int, str, str]] = {}
        while not self._phases.empty():
            number, slot, phase, detail = self._phases.get()
            latest[slot] = (number, slot, phase, detail)
        for number, slot, phase, detail in latest.values():
            self._database.set_activity(slot, number, phase, detail)
            self._reporter.phase(number, slot, phase, detail)

    def _store(self, trial: Trial) -> None:
        self._database.put_trial(trial)
        self._numbers.add(trial.number)
        if trial.outcome is Outcome.PASSED and (self._best is None or trial.rank > self._best.rank):
            self._best = trial
        if self._study is not None:
            self._study.tell(trial)
        self._reporter.finished(trial, self._best)

    def _store_twins(self, variant: Variant, trial: Trial) -> None:
        """Store the variants that came to the same configuration while it was being built."""
        for twin in [one for one in self._twins if _same(one, variant)]:
            self._twins.remove(twin)
            self._store(_duplicate(twin, trial))

    def _next_number(self) -> int:
        """The least number not in use: a killed run's unfinished trials leave no holes."""
        used = self._numbers | {one.variant.number for one in self._running.values()}
        used |= {one.number for one in self._twins}
        return next(number for number in range(len(used) + 1) if number not in used)


def _same(one: Variant, other: Variant) -> bool:
    return (one.resolved.digest, one.assignment.parameters) == (
        other.resolved.digest,
        other.assignment.parameters,
    )


def _check_baseline(trial: Trial) -> None:
    """The unmodified defconfig must pass, or nothing that follows would mean anything.

    Raises:
        UserError: it does not.
    """
    if trial.outcome is Outcome.PASSED:
        return
    what = {
        Outcome.BUILD_FAILED: "does not build",
        Outcome.BOOT_FAILED: "does not boot",
        Outcome.SMOKE_FAILED: "fails a smoke check",
    }.get(trial.outcome, trial.outcome.value)
    failed = [
        f"{one.suite}/{one.name}"
        for one in (trial.boot.checks if trial.boot else ())
        if not one.passed
    ]
    more = f" Failed checks: {', '.join(failed)}." if len(failed) > 1 else ""
    raise UserError(
        f"The unmodified defconfig {what}: {trial.reason}.{more}",
        f"Correct the study, its board or its suite; the logs are in {trial.log_dir}.",
    )


def _unbuilt(variant: Variant, outcome: Outcome, reason: str) -> Trial:
    return Trial(
        number=variant.number,
        outcome=outcome,
        sampler=variant.sampler,
        params=variant.params,
        assignment=variant.assignment,
        effective=variant.effective,
        resolved=variant.resolved,
        reason=reason,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _duplicate(variant: Variant, twin: Trial) -> Trial:
    trial = _unbuilt(variant, Outcome.DUPLICATE, f"the same configuration as trial {twin.number}")
    return replace(trial, duplicate_of=twin.number, objective=twin.objective)
