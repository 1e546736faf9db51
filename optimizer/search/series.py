"""A list of variants evaluated one after the other: for measuring, where nothing is searched for.

What is stored already is not built again. A trial counts from the moment it is stored.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from optimizer.errors import MachineFault
from optimizer.process import Deadline
from optimizer.records import PRICE_SAMPLER, Assignment, Outcome, ResolvedConfig, Trial
from optimizer.search.loop import TRIES, Reporter
from optimizer.search.space import Space
from optimizer.search.trial import Cancelled, Slot, Variant
from optimizer.store.database import Database


@dataclass(frozen=True)
class Request:
    """A variant to evaluate.

    ``params`` are of the space's candidates; ``forbidden`` are values of symbols that the study
    keeps: such a variant is built for its figures, and stored as refused, since it may not win.
    """

    params: Mapping[str, str]
    forbidden: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A request with what Kconfig makes of it."""

    request: Request
    assignment: Assignment
    effective: Mapping[str, str]
    resolved: ResolvedConfig


# What tells two variants apart: the .config, and what is added to the kernel's command line.
_Key = tuple[str, tuple[tuple[str, str], ...]]


def _key(resolved: ResolvedConfig, assignment: Assignment) -> _Key:
    return resolved.digest, tuple(sorted(assignment.parameters.items()))


def prepare(space: Space, request: Request) -> Prepared:
    """Resolve a request."""
    asked = space.assignment(request.params)
    assignment = Assignment({**asked.values, **request.forbidden}, asked.parameters)
    return Prepared(
        request, assignment, space.effective(request.params), space.tree.resolve(assignment)
    )


class Series:
    """Evaluates requests in the slots, in their order.

    Args:
        database: opened for writing.
        space: the search space.
        slots: the build trees, each used by one trial at a time.
        logs: folder that gets a folder a trial.
        reporter: who is told.
        sampler: the name that the trials are stored under.
    """

    def __init__(
        self,
        database: Database,
        space: Space,
        slots: Sequence[Slot],
        logs: Path,
        reporter: Reporter,
        sampler: str,
    ) -> None:
        self._database = database
        self._space = space
        self._slots = slots
        self._logs = logs
        self._reporter = reporter
        self._sampler = sampler
        self._cancel = threading.Event()
        self._phases: queue.SimpleQueue[tuple[int, int, str, str]] = queue.SimpleQueue()
        past = database.trials()
        self._numbers = {trial.number for trial in past}
        self._best = max(
            (trial for trial in past if trial.outcome is Outcome.PASSED),
            key=lambda trial: trial.rank,
            default=None,
        )
        # What by_digest does not find: variants that were built in spite of the study's keep-list.
        self._priced = {
            _key(trial.resolved, trial.assignment): trial.number
            for trial in past
            if trial.sampler == PRICE_SAMPLER
        }

    def stop(self) -> None:
        """Ask the series to end now: what is being built is given up. Safe in a signal handler."""
        self._cancel.set()

    @property
    def cancel(self) -> threading.Event:
        """Set when the series was asked to end."""
        return self._cancel

    def run(
        self,
        requests: Sequence[Prepared],
        deadline: Deadline,
        on_done: Callable[[int, int], None] = lambda _index, _trial: None,
    ) -> dict[int, int]:
        """Evaluate the requests until all are done or the time is up.

        Args:
            requests: in the order of their worth.
            deadline: after it nothing new is started; what runs is finished.
            on_done: called with a request's index and its trial's number as soon as that is stored.

        Returns:
            Request's index -> number of the trial that has its figures.

        Raises:
            Cancelled: :meth:`stop` was called.
            MachineFault: the machine failed twice at the same variant.
            UserError: the study's files changed meanwhile.
        """
        done: dict[int, int] = {}
        waiting: dict[_Key, list[int]] = {}
        for index, one in enumerate(requests):
            known = self.known(one)
            if known is not None:
                done[index] = known
                on_done(index, known)
            else:
                waiting.setdefault(_key(one.resolved, one.assignment), []).append(index)
        todo = [indices[0] for indices in waiting.values()]
        running: dict[Future[Trial], tuple[int, int, int, Variant]] = {}
        with ThreadPoolExecutor(len(self._slots), thread_name_prefix="slot") as pool:
            try:
                while todo or running:
                    busy = {slot for _, slot, _, _ in running.values()}
                    free = [one for one in range(len(self._slots)) if one not in busy]
                    while todo and free and not deadline.expired:
                        index, slot = todo.pop(0), free.pop(0)
                        variant = self._variant(requests[index], running)
                        running[self._submit(pool, variant, slot)] = (index, slot, 1, variant)
                    if not running:
                        break
                    for future in self._some(running):
                        index, slot, tries, variant = running.pop(future)
                        try:
                            trial = future.result()
                        except MachineFault as fault:
                            if tries >= TRIES:
                                raise
                            self._reporter.trouble(variant.number, fault.message)
                            again = (index, slot, tries + 1, variant)
                            running[self._submit(pool, variant, slot)] = again
                            continue
                        self._store(trial, requests[index])
                        done_now = requests[index]
                        for twin in waiting[_key(done_now.resolved, done_now.assignment)]:
                            done[twin] = trial.number
                            on_done(twin, trial.number)
            except BaseException:
                self._cancel.set()
                raise
            finally:
                self._database.clear_activity()
        return done

    def known(self, request: Prepared) -> int | None:
        """The stored trial that has a request's figures."""
        if request.request.forbidden:
            return self._priced.get(_key(request.resolved, request.assignment))
        twin = self._database.by_digest(request.resolved.digest, request.assignment.parameters)
        return None if twin is None else twin.number

    def _variant(
        self, request: Prepared, running: Mapping[Future[Trial], tuple[int, int, int, Variant]]
    ) -> Variant:
        used = self._numbers | {variant.number for _, _, _, variant in running.values()}
        return Variant(
            number=next(number for number in range(len(used) + 1) if number not in used),
            sampler=PRICE_SAMPLER if request.request.forbidden else self._sampler,
            params=dict(request.request.params),
            assignment=request.assignment,
            effective=request.effective,
            resolved=request.resolved,
        )

    def _submit(self, pool: ThreadPoolExecutor, variant: Variant, slot: int) -> Future[Trial]:
        def report(phase: str, detail: str) -> None:
            self._phases.put((variant.number, slot, phase, detail))

        self._reporter.started(variant.number, slot)
        logs = self._logs / f"trial-{variant.number:04d}"
        return pool.submit(self._slots[slot].evaluate, variant, logs, report, self._cancel)

    def _some(self, running: Mapping[Future[Trial], object]) -> set[Future[Trial]]:
        """Those that are done, at least one; passes on what the workers report meanwhile."""
        done: set[Future[Trial]] = set()
        while not done:
            done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            while not self._phases.empty():
                number, slot, phase, detail = self._phases.get()
                self._database.set_activity(slot, number, phase, detail)
                self._reporter.phase(number, slot, phase, detail)
            if self._cancel.is_set() and done:
                raise Cancelled
        return done

    def _store(self, trial: Trial, request: Prepared) -> None:
        if request.request.forbidden:
            named = ", ".join(request.request.forbidden)
            came = f"{trial.outcome.value} {trial.reason}".strip()
            trial = replace(
                trial,
                outcome=Outcome.CONFIG_REFUSED,
                objective=None,
                reason=f"would change {named}, kept; built to know its price: {came}",
            )
            self._priced[_key(trial.resolved, trial.assignment)] = trial.number
        self._database.put_trial(trial)
        self._numbers.add(trial.number)
        if trial.outcome is Outcome.PASSED and (self._best is None or trial.rank > self._best.rank):
            self._best = trial
        self._reporter.finished(trial, self._best)
