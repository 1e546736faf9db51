"""Samplers by name, among them the project's own: elimination in groups.

Elimination keeps, for every change not yet made, the probability that it breaks something, and asks
next for the batch with the greatest expected saving: (sum of savings) x (probability that all of it
works). A batch that works is kept. A batch that fails makes each of its members more suspect, so
that what is asked next is a part of it, and its members are told apart in the end. That is the
probabilistic form of delta debugging (Wang et al., "Probabilistic Delta Debugging", ESEC/FSE
2021), here with weights, with groups (a change takes along everything that Kconfig drops with it),
and with exact inference where it is possible: once a member of a failed batch is known to be
needed, that batch says nothing against the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optimizer.errors import MemtotalError
from optimizer.search.space import Candidate, Change, Space

EFFECTIVE = "effective"
WORKS = "works"


class NothingLeftError(MemtotalError):
    """The sampler has no variant left that could be better."""


@dataclass(frozen=True)
class Belief:
    """What is thought of a change before it was tried.

    ``needed`` is the probability (0 to 1) that something breaks without the option; ``saving``
    the expected saving, in any unit as long as it is the same for all; ``objects`` how many
    objects have to be compiled again for it.
    """

    needed: float = 0.05
    saving: float = 1.0
    objects: int = 0


# What a trial costs besides compiling (configure, link, boot, checks), in objects compiled: some
# 25 s, at five objects a second on two cores.
OVERHEAD_OBJECTS = 125


SAMPLERS = ("elimination", "tpe", "random", "nsga2")


def make_sampler(name: str, space: Space, beliefs: Mapping[str, Belief], seed: int) -> BaseSampler:
    """The sampler of that name, one of :data:`SAMPLERS`."""
    if name == "elimination":
        return EliminationSampler(space, beliefs)
    if name == "tpe":
        return TPESampler(seed=seed, multivariate=True)
    if name == "nsga2":
        return NSGAIISampler(seed=seed)
    return RandomSampler(seed=seed)


class EliminationSampler(BaseSampler):
    """Makes changes in batches and divides the batches that fail.

    Deterministic, and without memory of its own: everything follows from the study's trials, so a
    resumed study goes on as if it had never stopped. Trials must carry the user attribute
    ``effective`` (candidate -> value that it really had) and the constraint ``works``.

    Args:
        space: the search space.
        beliefs: by candidate; candidates without one get :class:`Belief`'s defaults.
    """

    def __init__(self, space: Space, beliefs: Mapping[str, Belief]) -> None:
        self._space = space
        self._beliefs = beliefs
        self._start = space.effective({})
        self._rank = {one.name: rank for rank, one in enumerate(space.candidates)}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every candidate: a batch is decided as a whole."""
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next batch on top of the best variant so far.

        Raises:
            NothingLeftError: every change was made or is known to break something.
        """
        others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        return self._next(_Knowledge(self._start, self._needed, self._speculative).read(others))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> str:
        """The baseline's value: only for parameters that are none of the space's."""
        return self._space.candidate(name).baseline

    def _needed(self, change: Change) -> float:
        return self._beliefs.get(change[0], Belief()).needed

    def _speculative(self, change: Change) -> bool:
        return not self._space.candidate(change[0]).hinted

    def _next(self, known: _Knowledge) -> dict[str, str]:
        # What fell with another option may have no value of its own any more (a choice that is not
        # visible); it cannot be asked for, and follows from the rest.
        base = {
            name: value
            for name, value in known.best.items()
            if value != self._start[name] and value in self._space.candidate(name).values
        }
        for hinted in (True, False):
            refused: set[Change] = set()
            passed_over: set[str] = set()
            while batch := self._choose(known, hinted, refused, passed_over):
                params = self._space.baseline | base | dict(batch)
                made = known.changes(self._space.effective(params)) - known.changes(known.best)
                untried = made and not known.fails(made) and not known.seen(made)
                if untried and not self._space.lost(params):
                    return params
                if len(batch) == 1:
                    refused.add(batch[0])
                else:
                    # Known to fail in another guise: without its least certain member.
                    worst = max(batch, key=lambda move: (known.risk(move), self._rank[move[0]]))
                    passed_over.add(worst[0])
        raise NothingLeftError("Every change was made or is known to break something.")

    def _choose(
        self, known: _Knowledge, hinted: bool, refused: Collection[Change], without: Collection[str]
    ) -> list[Change]:
        """The next batch; of changes of which nobody knows whether they save, one at a time."""
        found = (
            self._move(one, known, refused)
            for one in self._space.candidates
            if one.hinted is hinted and one.name not in without
        )
        moves = [move for move in found if move is not None]
        if hinted or not moves:
            return self._batch(moves, known)
        return [min(moves, key=known.risk)]

    def _move(
        self, candidate: Candidate, known: _Knowledge, refused: Collection[Change]
    ) -> Change | None:
        """The candidate's next value to try; None when it is settled or being tried."""
        if known.best.get(candidate.name) != self._start[candidate.name]:
            return None
        for value in candidate.alternatives:
            move = (candidate.name, value)
            if move in known.pending:
                return None
            if known.risk(move) < 1.0 and move not in refused:
                return move
        return None

    def _batch(self, moves: Sequence[Change], known: _Knowledge) -> list[Change]:
        """The moves with the most expected saving for the time they take.

        Compiling costs as much as the widest move does (its objects hold most of the others'), so
        for each width the best batch of moves no wider is made, and the best of those taken.
        """
        scored = []
        for move in moves:
            group = self._group(move, known)
            if not known.fails(group):
                risk, saving = self._sum(group, known)
                scored.append((risk / saving, self._rank[move[0]], move, group))
        scored.sort(key=lambda row: row[:2])
        widths = sorted({self._width(group) for _price, _rank, _move, group in scored})
        best: list[Change] = []
        best_rate = 0.0
        for width in widths:
            together: set[Change] = set()
            batch: list[Change] = []
            gain = 0.0
            for _price, _rank, move, group in scored:
                if self._width(group) > width or known.fails(together | group):
                    continue
                risk, saving = self._sum(together | group, known)
                if saving * math.exp(-risk) > gain:
                    gain = saving * math.exp(-risk)
                    batch.append(move)
                    together |= group
            works = math.exp(-self._sum(together, known)[0])
            rate = gain / (OVERHEAD_OBJECTS + width * (2.0 - works))
            if rate > best_rate:
                best, best_rate = batch, rate
        return best

    def _sum(self, changes: Iterable[Change], known: _Knowledge) -> tuple[float, float]:
        """Risk (minus the logarithm of the probability that all works) and saving together."""
        risk = saving = 0.0
        for one in changes:
            risk -= math.log1p(-min(known.risk(one), 1.0 - 1e-12))
            saving += self._saving(one)
        return risk, saving

    def _group(self, move: Change, known: _Knowledge) -> frozenset[Change]:
        """The move and what Kconfig drops with it that is not dropped yet."""
        dropped = (
            drop
            for drop in self._space.candidate(move[0]).drops
            if known.best.get(drop[0]) == self._start[drop[0]]
        )
        return frozenset({move, *dropped})

    def _width(self, changes: Iterable[Change]) -> int:
        return max(self._beliefs.get(name, Belief()).objects for name, _value in changes)

    def _saving(self, change: Change) -> float:
        name, value = change
        if value not in self._space.candidate(name).alternatives:
            return 1e-6  # it fell with another option, whose saving that is
        return max(self._beliefs.get(name, Belief()).saving, 1e-6)


class _Knowledge:
    """What the trials told so far: the best variant, and how risky each change is on top of it."""

    def __init__(
        self,
        start: Mapping[str, str],
        needed: Callable[[Change], float],
        speculative: Callable[[Change], bool],
    ) -> None:
        self.best: Mapping[str, str] = start
        self.pending: set[Change] = set()
        self._start = start
        self._needed = needed
        self._speculative = speculative
        self._risks: dict[Change, float] = {}
        self._failed: list[set[Change]] = []
        self._tried: set[frozenset[Change]] = set()

    def read(self, trials: Sequence[FrozenTrial]) -> _Knowledge:
        """Learn from the trials in their order.

        One that works but is worse than the best before it counts as failed: its changes are not
        wanted, for whatever reason. So does a speculative change that gains nothing.
        """
        best_value = -math.inf
        failed: list[set[Change]] = []
        for trial in trials:
            effective = trial.user_attrs.get(EFFECTIVE)
            if trial.state is TrialState.FAIL:
                continue
            if trial.state is not TrialState.COMPLETE or effective is None:
                self.pending |= self.changes(trial.params)
                continue
            changes = self.changes(effective)
            self._tried.add(frozenset(changes))
            new = changes - self.changes(self.best)
            works = all(value <= 0 for value in trial.constraints.values())
            gain = (trial.value or 0.0) - best_value if works else -math.inf
            if gain > 0 or (gain == 0 and not any(map(self._speculative, new))):
                best_value, self.best = trial.value or 0.0, effective
            elif new and (
                not works or dict(self.changes(self.best)).keys() <= dict(changes).keys()
            ):
                # With several slots a variant may have been made on an older best; that it is
                # worse than the present one then says nothing against its changes.
                failed.append(changes)
        self._learn(failed)
        return self

    def changes(self, values: Mapping[str, str]) -> set[Change]:
        """What differs from the start."""
        return {
            (name, value) for name, value in values.items() if value != self._start.get(name, value)
        }

    def risk(self, change: Change) -> float:
        """Probability that the change breaks something; 1.0 when that is certain."""
        return self._risks.get(change, self._needed(change))

    def seen(self, changes: Collection[Change]) -> bool:
        """Whether just those changes on top of the best variant were tried before."""
        after = dict(self.changes(self.best)) | dict(changes)
        return frozenset(after.items()) in self._tried

    def fails(self, changes: Collection[Change]) -> bool:
        """Whether those changes on top of the best variant are known to fail together."""
        return any(group.issubset(changes) for group in self._failed)

    def _learn(self, failed: Sequence[set[Change]]) -> None:
        made = self.changes(self.best)
        suspects = [changes - made for changes in failed if changes - made]
        self._failed = suspects
        certain = {next(iter(one)) for one in suspects if len(one) == 1}
        self._risks = dict.fromkeys(certain, 1.0)
        for group in suspects:
            if group & certain:
                continue
            # Bayes: the probability that this one breaks, given that at least one of them does.
            some = 1.0 - math.prod(1.0 - self.risk(one) for one in group)
            for one in group:
                self._risks[one] = min(self.risk(one) / some, 1.0 - 1e-9)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's view of the space: each candidate a categorical parameter."""
    return {one.name: CategoricalDistribution(one.values) for one in space.candidates}
