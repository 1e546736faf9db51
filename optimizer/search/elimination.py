"""The project's own sampler: elimination in groups.

It asks next for the batch of changes with the greatest expected saving for the time it takes: (sum
of savings) x (probability that all of it works) / (cost of building it). A batch that works is
kept. A batch that fails makes those of its members more suspect that may be needed for what failed,
so that what is asked next leaves them out, and they are told apart in the end: weighted
probabilistic delta debugging, with groups (a change takes along everything that Kconfig drops with
it). What is learnt from the trials is :mod:`optimizer.search.knowledge`'s.

When nothing is left to try, what was kept is doubted: an option that stayed because of a batch is
tried alone, one that stayed because of a single failure is tried once more, and those that failed
beside each other are tried together. So the end state is 1-minimal.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optimizer.errors import MemtotalError
from optimizer.search.batch import LEAST_HOPE, Batch, Needs, Offers
from optimizer.search.consequences import Consequences, Effects
from optimizer.search.knowledge import (
    PAGE_KB,
    Belief,
    Failure,
    Knowledge,
    Observation,
    objects_compiled,
)
from optimizer.search.space import Candidate, Change, Space

# Attributes that the study gives each finished trial.
NUMBER, EFFECTIVE, BROKEN = "number", "effective", "broken"
PASSED, FIGURES, IMAGE = "passed", "figures", "image_bytes"

# What a trial costs besides building (configure, link, boots, checks), in objects that kbuild finds
# out of date: some 30 s, in which 250 of them are built, most from the store. It counts for more,
# because a larger batch also tells more: with 800 `make bench-search` needs fewer builds for the
# same saving than with 250 or 2,500.
OVERHEAD_OBJECTS = 800
# What is left of a batch without what Kconfig would not make must still be expected to save this
# part of it; otherwise another batch, chosen without that, saves more.
WORTH_ASKING = 0.7
# Of the page that a batch must save this part must be expected of it, after all that may fail.
HOPE = 0.25
# A value that is at least so likely to break something gives way to the candidate's next one: where
# the smallest buffer breaks something, one between it and the baseline's may still save.
UNLIKELY = 0.9
# Of the moves that hardly work only so many are weighed against the batches: each takes time at
# every ask, and only one can be asked next. More than one, because those that promise most are
# picked without what a failure would teach.
HOPELESS = 3
# Batches are made for so many widths; more of them find hardly better ones.
WIDTHS = 6


@dataclass(frozen=True)
class _Rated:
    """A batch: its moves, the saving in kB that it is expected to bring, and that for its cost."""

    moves: tuple[Change, ...]
    worth: float
    rate: float


@dataclass(frozen=True)
class _Offered:
    """A move that batches may be made of, with what it is made together with.

    ``changes`` are all that fall with these moves, ``width`` the objects compiled for them,
    ``saving`` theirs in kB, ``hope`` the probability that they all work; the lower the ``price``
    (risk for the saving), the earlier it is offered.
    """

    moves: tuple[Change, ...]
    changes: frozenset[Change]
    width: int
    saving: float
    hope: float
    price: float

    @property
    def rate(self) -> float:
        """The saving to be expected of it alone, for its cost."""
        return self.hope * self.saving / (OVERHEAD_OBJECTS + self.width)


@dataclass(frozen=True)
class _Taken:
    """The params of the best with one change taken back; the rest as of :class:`_Rated`."""

    params: dict[str, str]
    worth: float
    rate: float


class NothingLeftError(MemtotalError):
    """The sampler has no variant left that could be better."""


class EliminationSampler(BaseSampler):
    """Makes changes in batches and divides the batches that fail.

    Deterministic: everything follows from the study's trials in the order of their numbers, so a
    resumed study goes on as if it had never stopped. What was read is remembered only to be quick.

    With two objectives it takes turns: it maximizes the first, the second, and both alike, each
    from the best variant by that measure, and what breaks something is known to all three.

    Args:
        space: the search space.
        beliefs: by candidate; candidates without one get :class:`Belief`'s defaults.
        tolerances: for each objective the difference that is no difference (noise).
    """

    def __init__(
        self, space: Space, beliefs: Mapping[str, Belief], tolerances: Sequence[float] = (0.0,)
    ) -> None:
        self._space = space
        self._beliefs = beliefs
        self._tolerances = tolerances
        self._start = space.start
        self._rank = {one.name: rank for rank, one in enumerate(space.candidates)}
        self._turns = _turns(len(tolerances))
        self._effects = Effects(space)
        self._read: list[int] = []
        self._known: list[Knowledge] = []

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
        self._learn([one for one in others if _finished(one)])
        running = [one.params for one in others if not one.state.is_finished()]
        first = len(others) % len(self._turns)
        for turn in (*range(first, len(self._turns)), *range(first)):
            known = self._known[turn]
            asking = _Asking(self._space, self._effects, known, self._beliefs, self._rank, running)
            if (params := asking.next()) is not None:
                return params
        raise NothingLeftError(
            f"nothing is left that could gain more than a page ({PAGE_KB:g} kB): every change was "
            "made, breaks something or saves nothing"
        )

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> str:
        """The baseline's value: only for parameters that are none of the space's."""
        return self._space.candidate(name).baseline

    def knowledge(self, study: Study) -> Knowledge:
        """What the study's trials tell, for the first objective."""
        self._learn([one for one in study.get_trials(deepcopy=False) if _finished(one)])
        return self._known[0]

    def _learn(self, trials: Sequence[FrozenTrial]) -> None:
        numbers = [one.number for one in trials]
        if numbers[: len(self._read)] != self._read or not self._known:
            # A slot finished out of turn: the order decides what is learnt, so from the beginning.
            self._read = []
            self._known = [
                Knowledge(
                    self._start,
                    self._beliefs,
                    self._speculative,
                    self._tolerance(weights),
                    self._follows,
                    self._becomes,
                )
                for weights in self._turns
            ]
        for trial in trials[len(self._read) :]:
            for weights, known in zip(self._turns, self._known, strict=True):
                known.read(_observation(trial, weights))
        self._read = numbers

    def _tolerance(self, weights: Sequence[float]) -> float:
        return math.fsum(w * t for w, t in zip(weights, self._tolerances, strict=True))

    def _follows(self, change: Change) -> bool:
        return change[1] not in self._space.candidate(change[0]).values

    def _becomes(self, values: Mapping[str, str]) -> Mapping[str, str]:
        asked = {
            name: value
            for name, value in values.items()
            if value in self._space.candidate(name).values
        }
        return self._space.effective(self._space.baseline | asked)

    def _speculative(self, change: Change) -> float | None:
        candidate = self._space.candidate(change[0])
        if candidate.promises(change[1]):
            return None
        # What is believed of a choice that the study hints at is believed of those hints.
        unsaid = Belief()
        return (unsaid if candidate.hinted else self._beliefs.get(change[0], unsaid)).saving_kb


class _Asking:
    """One ask: which variant next, by what is known now."""

    def __init__(
        self,
        space: Space,
        effects: Effects,
        known: Knowledge,
        beliefs: Mapping[str, Belief],
        rank: Mapping[str, int],
        running: Sequence[Mapping[str, str]],
    ) -> None:
        self._space = space
        self._known = known
        self._beliefs = beliefs
        self._rank = rank
        self._start = space.start
        self._effects = effects
        self._consequences = Consequences(space, effects, known, self._saving)
        # What was worked out for the savers serves for the rest.
        self._batches: dict[tuple[Change, ...], list[_Rated]] = {}
        self._pending = {change for params in running for change in known.changes(params)}

    def next(self) -> dict[str, str] | None:
        """The params to try, None when nothing is left."""
        back = self._taken_back()
        for least_kb in (PAGE_KB, 0.0):
            is_promising = back is not None and back.worth >= HOPE * least_kb
            least_rate = back.rate if back is not None and is_promising else 0.0
            if (params := self._batched(least_kb, least_rate)) is not None:
                return params
            if back is not None and is_promising:
                return back.params
        for doubted in self._doubts():
            params, made, seen = self._consequences.made(doubted)
            wanted = (
                made.issuperset(doubted)
                and not seen
                and not self._consequences.unwanted(doubted, params, made)
            )
            if wanted and not self._space.lost(params):
                return params
        return None

    def _batched(self, least_kb: float, least_rate: float) -> dict[str, str] | None:
        """The params for the next batch that can be asked for; None when there is none that saves
        so much, for the time it takes too."""
        refused: set[Change] = set()
        passed_over: set[str] = set()
        while (chosen := self._chosen(refused, passed_over, least_kb)) is not None:
            if chosen.rate < least_rate:
                return None
            params, left = self._askable(chosen.moves, refused, passed_over)
            if params is not None and self._saved(left) > WORTH_ASKING * self._saved(chosen.moves):
                return params
        return None

    def _askable(
        self, batch: Sequence[Change], refused: set[Change], passed_over: set[str]
    ) -> tuple[dict[str, str] | None, Sequence[Change]]:
        """The params that ask for what of the batch can be asked for, and those moves; what cannot
        is added to the moves refused by Kconfig, or to the candidates to pass over this time."""
        left = list(batch)
        while left:
            params, made, seen = self._consequences.made(left)
            if seen and made and len(left) == len(batch):
                break
            ends = seen or not made
            unwanted = set(left) if ends else self._consequences.unwanted(left, params, made)
            if unwanted:
                refused.update(unwanted)
                left = [move for move in left if move not in refused]
            elif (carrier := self._carrier(left, made)) is not None:
                passed_over.add(carrier[0])
                left.remove(carrier)
            elif self._known.fails(made) or self._space.lost(params):
                # Known to fail in another guise: without its least certain member.
                worst = max(left, key=lambda move: (self._known.risk(move), self._order(move)))
                passed_over.add(worst[0])
                left.remove(worst)
            else:
                return params, left
        if len(batch) == 1:
            refused.update(batch)
        elif left:
            # Tried before as a whole.
            worst = max(left, key=lambda move: (self._known.risk(move), self._order(move)))
            passed_over.add(worst[0])
        return None, left

    def _carrier(self, moves: Sequence[Change], made: Collection[Change]) -> Change | None:
        """The move that takes along what is likely to be needed, when nobody counted on that.

        What falls with an option is known from the start, where others still held it up: NFSD
        stays without DNOTIFY, but not when INOTIFY_USER has gone too. None when there is no such.
        """
        foreseen = frozenset().union(*map(self._group, moves))
        needed = [one for one in sorted(made) if one not in foreseen and self._known.risk(one) > 0]
        if math.prod(1.0 - self._known.risk(one) for one in needed) > WORTH_ASKING:
            return None
        worst = max(needed, key=self._known.risk)
        carriers = [one for one in moves if not self._consequences.is_made(moves, worst, one)]
        return min(carriers or moves, key=lambda move: (self._saving(move), self._order(move)))

    def _order(self, move: Change) -> int:
        return self._rank[move[0]]

    # --- the next batch

    def _chosen(
        self, refused: Collection[Change], without: Collection[str], least_kb: float
    ) -> _Rated | None:
        """The next batch that saves so much, or one change of which nobody knows whether it saves,
        if more is to be expected of that."""
        best = self._best_batch(refused, without, least_kb)
        unknown = self._unknown(refused, without)
        if unknown is None or unknown.worth <= HOPE * least_kb:
            return best
        return unknown if best is None or unknown.rate > best.rate else best

    def _unknown(self, refused: Collection[Change], without: Collection[str]) -> _Rated | None:
        """Of the changes of which nobody knows whether they save, one at a time: what several do
        together would hide what each does."""
        found = []
        speculation = self._known.speculation
        for move in (*self._moves(False, refused, without), *self._siblings(refused, without)):
            worth = max(speculation.expected_kb(move), 1e-6) * (1.0 - self._known.risk(move))
            rate = worth / (OVERHEAD_OBJECTS + self._width([move]))
            found.append(_Rated((move,), worth, rate))
        return max(found, key=lambda one: (one.rate, -self._order(one.moves[0])), default=None)

    def _best_batch(
        self, refused: Collection[Change], without: Collection[str], least_kb: float
    ) -> _Rated | None:
        moves = tuple(self._moves(True, refused, without))
        if moves not in self._batches:
            self._batches[moves] = self._rated(moves)
        batches = [
            one
            for one in self._batches[moves]
            if one.worth > HOPE * least_kb and self._saved(one.moves) > least_kb
        ]
        return max(batches, key=lambda one: one.rate, default=None)

    def _moves(
        self, hinted: bool, refused: Collection[Change], without: Collection[str]
    ) -> list[Change]:
        found = (
            self._move(one, refused) for one in self._space.candidates if one.name not in without
        )
        return [
            move
            for move in found
            if move is not None and self._space.candidate(move[0]).promises(move[1]) is hinted
        ]

    def _siblings(self, refused: Collection[Change], without: Collection[str]) -> Iterator[Change]:
        """Of each choice that was changed, the next alternative: it may gain more than that one."""
        for candidate in self._space.candidates:
            now = self._known.best.get(candidate.name)
            if candidate.kind != "choice" or now not in candidate.alternatives:
                continue
            later = candidate.alternatives[candidate.alternatives.index(now) + 1 :]
            move = self._untried(candidate.name, later, refused)
            if move is not None and candidate.name not in without:
                yield move

    def _move(self, candidate: Candidate, refused: Collection[Change]) -> Change | None:
        """The candidate's next value to try; None when it is settled or being tried."""
        if self._known.best.get(candidate.name) != self._start[candidate.name]:
            return None
        return self._untried(candidate.name, candidate.alternatives, refused)

    def _untried(
        self, name: str, values: Iterable[str], refused: Collection[Change]
    ) -> Change | None:
        """The first of the values that may work, unless another one is likelier to; None when there
        is none, or one is being tried."""
        moves = [(name, value) for value in values]
        if not self._pending.isdisjoint(moves):
            return None
        open_ones = [one for one in moves if self._known.risk(one) < 1.0 and one not in refused]
        likely = [one for one in open_ones if self._known.risk(one) < UNLIKELY]
        return next(iter((*likely, *open_ones)), None)

    def _rated(self, moves: Sequence[Change]) -> list[_Rated]:
        """Batches of the moves, each with the saving that is expected for the time it takes.

        An object that several moves change is compiled once. The widest moves' objects hold most of
        the others', so for each width the best batch of moves no wider is made.
        """
        offered = self._offered(moves)
        members = sorted(frozenset().union(*(one.changes for one in offered)))
        needs = Needs({one: self._known.needs(one) for one in members}, self._known.suspects)
        savings = {one: self._saving(one) for one in members}
        groups = [one.changes for one in offered]
        offers = Offers(needs, groups, savings, self._known.failing_groups)
        places = range(len(offered))
        # What hardly works comes alone: in a batch, nothing else would come in after it.
        batched = [place for place in places if offered[place].hope >= LEAST_HOPE]
        widths = sorted({offered[place].width for place in batched})
        step = max(1, math.ceil(len(widths) / WIDTHS))
        ahead = [
            [place for place in batched if offered[place].width <= most]
            for most in widths[::-1][::step]
        ]
        alone = [place for place in places if offered[place].hope < LEAST_HOPE]
        alone.sort(key=lambda place: -offered[place].rate)
        ahead += [[place] for place in alone[:HOPELESS]]
        found: list[_Rated] = []
        for numbers in ahead:
            batch = Batch(offers)
            if taken := [offered[place] for place in batch.fill(numbers)]:
                together = tuple(dict.fromkeys(move for one in taken for move in one.moves))
                width = self._width(frozenset().union(*(one.changes for one in taken)))
                rate = batch.worth / (OVERHEAD_OBJECTS + width)
                found.append(_Rated(together, batch.worth, rate))
        return found

    def _offered(self, moves: Sequence[Change]) -> list[_Offered]:
        """Those of the moves that may work, the cheapest first."""
        found = []
        askable = frozenset(moves)
        for move in moves:
            together = self._with_holders(move)
            changes = frozenset().union(*map(self._group, together))
            if askable.issuperset(together) and not self._known.fails(changes):
                risk, saving = self._sum(changes)
                one = _Offered(
                    together, changes, self._width(changes), saving, math.exp(-risk), risk / saving
                )
                found.append((one.price, self._order(move), one))
        return [one for _price, _order, one in sorted(found, key=lambda row: row[:2])]

    def _sum(self, changes: Iterable[Change]) -> tuple[float, float]:
        """Risk (minus the logarithm of the probability that all works) and saving together."""
        risk = saving = 0.0
        for one in changes:
            risk -= math.log1p(-min(self._known.risk(one), 1.0 - 1e-12))
            saving += self._saving(one)
        return risk, saving

    def _group(self, move: Change) -> frozenset[Change]:
        """The move and what Kconfig drops with it that is not dropped yet."""
        dropped = (
            drop
            for drop in self._space.candidate(move[0]).drops
            if self._known.best.get(drop[0]) == self._start[drop[0]]
        )
        return frozenset({move, *dropped})

    def _with_holders(self, move: Change) -> tuple[Change, ...]:
        """The move after those of what still selects the option: together, or it is not made."""
        holders = [
            one
            for one in sorted(self._space.candidate(move[0]).holders)
            if self._known.best.get(one[0]) == self._start[one[0]]
        ]
        if holders and self._consequences.is_made([move], move):
            return (move,)
        return (*holders, move)

    def _saved(self, moves: Collection[Change]) -> float:
        """What moves are expected to save together with all that falls with them, in kB."""
        return math.fsum(map(self._saving, frozenset().union(*map(self._group, moves))))

    def _width(self, changes: Iterable[Change]) -> int:
        """How many objects have to be compiled again for all of them together."""
        return objects_compiled(self._beliefs, (name for name, _value in changes))

    def _saving(self, change: Change) -> float:
        name, value = change
        if value not in self._space.candidate(name).alternatives:
            return 1e-6  # it fell with another option, whose saving that is
        return max(self._known.saving_kb(change), 1e-6)

    # --- second thoughts

    def _taken_back(self) -> _Taken | None:
        """The best without a change that need not save anything (something is switched on, or
        another alternative chosen) and that came along with others: it may cost what they saved.

        It stays only when that was measured, not when the trials together say so: they are told
        apart by a regression, which can take others' saving for its own. Of several, the one first
        without which most is expected to be gained for the time it takes.
        """
        found = []
        for move in sorted(self._known.changes(self._known.best)):
            surely = self._space.candidate(move[0]).kind in ("int", "parameter") or move[1] == "n"
            if not surely and self._known.gains.get(move, (-1.0, 0))[0] < 0:
                worth = self._known.expected_without_kb(move)
                found.append((worth / (OVERHEAD_OBJECTS + self._width([move])), worth, move[0]))
        for rate, worth, name in sorted(found, key=lambda one: -one[0]):
            base = self._consequences.base
            params = self._space.baseline | {one: base[one] for one in base if one != name}
            if not self._known.seen(self._effects.of(params)) and not self._space.lost(params):
                return _Taken(params, worth, rate)
        return None

    def _doubts(self) -> Iterator[tuple[Change, ...]]:
        """What was kept for too little reason, the most promising first: alone, then together."""
        kept = [
            (one.name, one.alternatives[0])
            for one in self._space.candidates
            if one.hinted and self._known.best.get(one.name) == self._start[one.name]
        ]
        kept.sort(key=lambda move: (-self._saving(move), self._order(move)))
        kept = [move for move in kept if move not in self._pending]
        made = frozenset(self._known.changes(self._known.best))
        for move in kept:
            group = self._group(move)
            evidence = evidence_against(move, group, self._known.failures)
            # What breaks without a part breaks without the whole; but where a part alone gained
            # nothing, the whole may.
            alone = [
                one for one in evidence if one.new <= group and (one.broken or move in one.new)
            ]
            if not alone or (len(evidence) == 1 and alone[0].base != made):
                yield (move,)
        for move in kept:
            evidence = evidence_against(move, self._group(move), self._known.failures)
            for failure in evidence[:1]:
                beside = tuple(one for one in kept if one in failure.changes)
                if len(beside) > 1 and move == beside[0] and self._worthwhile(beside):
                    yield beside

    def _worthwhile(self, moves: Iterable[Change]) -> bool:
        return sum(self._saving(move) for move in moves) > PAGE_KB


def evidence_against(
    move: Change, group: Collection[Change], failures: Iterable[Failure]
) -> list[Failure]:
    """The failures that speak against a change: those of variants in which it, or something that
    falls with it, was new."""
    return [
        one
        for one in failures
        if move in one.changes - one.base or not (one.changes - one.base).isdisjoint(group)
    ]


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's view of the space: each candidate a categorical parameter."""
    return {one.name: CategoricalDistribution(one.values) for one in space.candidates}


def _turns(objectives: int) -> tuple[tuple[float, ...], ...]:
    """The weights of the objectives, in turn."""
    if objectives == 1:
        return ((1.0,),)
    return ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5))


def _finished(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.COMPLETE and EFFECTIVE in trial.user_attrs


def _observation(trial: FrozenTrial, weights: Sequence[float]) -> Observation:
    figures: Sequence[float] | None = trial.user_attrs.get(FIGURES)
    return Observation(
        trial.user_attrs[NUMBER],
        trial.user_attrs[EFFECTIVE],
        tuple(trial.user_attrs[BROKEN]),
        frozenset(trial.user_attrs[PASSED]),
        None
        if figures is None
        else math.fsum(weight * figure for weight, figure in zip(weights, figures, strict=True)),
        trial.user_attrs.get(IMAGE, 0),
    )
