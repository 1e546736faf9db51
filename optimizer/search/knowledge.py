"""What the trials told: the best variant, what each change may break, and what it saves.

A change can be needed for each of several things: that the kernel builds, that it boots, that a
certain check passes. Each of these is a search of its own. A variant that boots and passes a check
clears all that it changed of being needed for these, even when other checks fail; each one that
fails says that at least one of its changes is needed for that check. That is the probabilistic form
of delta debugging (Wang et al., "Probabilistic Delta Debugging", ESEC/FSE 2021), weighted and kept
apart by what failed.

What a change saves is a normal distribution, narrowed by each variant that was measured: the
difference to the variant it was made from is the sum of its changes (Kalman's update for one
observation, R. E. Kalman, 1960, with the covariances between changes left out).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from optimizer.search.space import Change
from optimizer.search.speculation import Speculation
from optimizer.search.suspects import Suspects

BUILD = "build"
BOOT = "boot"
# Where nothing is said of what a change may be needed for.
ANYTHING = "anything"
# Nothing is ruled out for good by a single observation: two options may stand in for each other.
LEAST_NEED = 1e-4
CERTAIN = 1.0
# A belief of some strength weighs as much as so many options tried about which it was held.
BELIEF_WEIGHT = 12.0
# Beliefs and suspicions are worked out in so many turns. Judgement: each costs time at every ask.
TURNS = 3
# MemTotal counts pages: the part of a page that a change does not fill is not seen.
PAGE_KB = 4.0


@dataclass(frozen=True)
class Belief:
    """What is thought of a change before it was tried.

    ``needs`` is, for each thing that may break ("build", "boot", "suite/check", or "anything"), the
    probability (0 to 1) that it does without the option; ``saving_kb`` the expected saving and
    ``doubt_kb`` its standard deviation; ``compiled`` the objects that have to be compiled again for
    it, a bit each in the order in which they are traced; ``ran`` says in words what of its code was
    seen to run.
    """

    needs: Mapping[str, float] = field(default_factory=lambda: {ANYTHING: 0.05})
    saving_kb: float = 1.0
    doubt_kb: float = 8.0
    compiled: int = 0
    ran: str = ""

    @property
    def needed(self) -> float:
        """Probability that anything breaks without the option."""
        return 1.0 - math.prod(1.0 - one for one in self.needs.values())

    @property
    def objects(self) -> int:
        """How many objects have to be compiled again for it."""
        return self.compiled.bit_count()


def objects_compiled(beliefs: Mapping[str, Belief], names: Iterable[str]) -> int:
    """About how many objects kbuild compiles again when these candidates change, told beforehand.

    It is what the baseline's objects mention: what only other variants compile is not in it, and
    what goes with one candidate counts where another changes it.

    Args:
        beliefs: by candidate; one without a belief counts for nothing.
        names: the candidates.
    """
    compiled = 0
    for name in names:
        if name in beliefs:
            compiled |= beliefs[name].compiled
    return compiled.bit_count()


@dataclass(frozen=True)
class Observation:
    """A finished trial as the search sees it.

    ``effective`` are the values that the candidates really had; ``broken`` is what broke ("build",
    "boot", checks), the first one first, empty when everything works; ``passed`` is what was seen
    to work (a check that could not be made any more is in neither);
    ``score`` is the figure to maximize, None where it was not measured; of equals the one with the
    smaller image is the better one.
    """

    number: int
    effective: Mapping[str, str]
    broken: tuple[str, ...]
    passed: frozenset[str]
    score: float | None
    image_bytes: int = 0


@dataclass(frozen=True)
class Failure:
    """A variant that broke something or is worse: its changes, and those of its time's best."""

    number: int
    changes: frozenset[Change]
    base: frozenset[Change]
    broken: tuple[str, ...]

    @cached_property
    def new(self) -> frozenset[Change]:
        """What it changed beside that best."""
        return self.changes - self.base

    @property
    def worse(self) -> bool:
        """Whether it works, but is worse: its changes are not wanted, for whatever reason."""
        return not self.broken


class Knowledge:
    """What the trials told so far. Read them with :meth:`read`, in order; then ask.

    Args:
        start: each candidate's value in the untouched configuration with the gate open.
        beliefs: by candidate.
        speculative: of a change that nobody expects to save anything, what is believed of it, in
            kB; None for any other. Such a one is kept only when it gains.
        tolerance: figures that differ by no more than this are the same.
        follows: whether a change is a mere consequence that nobody can ask for, such as a number
            that has no value because its option is off. Those are not looked at.
        becomes: every candidate's value when those of some are asked for, the rest as at the start.
    """

    def __init__(
        self,
        start: Mapping[str, str],
        beliefs: Mapping[str, Belief],
        speculative: Callable[[Change], float | None],
        tolerance: float = 0.0,
        follows: Callable[[Change], bool] = lambda _change: False,
        becomes: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda values: values,
    ) -> None:
        self.best: Mapping[str, str] = start
        self.best_number: int | None = None
        self.failures: list[Failure] = []
        self.gains: dict[Change, tuple[float, int]] = {}
        self._speculated: dict[Change, float] = {}
        self._made: frozenset[Change] = frozenset()
        self._made_names: set[str] = set()
        # By the failure's number, for the present best.
        self._left: dict[int, frozenset[Change]] = {}
        self._start = start
        self._beliefs = beliefs
        self._speculative = speculative
        self._tolerance = tolerance
        self._follows = follows
        self._becomes = becomes
        self._best_score = -math.inf
        self._best_image_bytes = 0
        self._tried: set[frozenset[Change]] = set()
        self._cleared: dict[Change, set[str]] = {}
        self._savings: dict[Change, tuple[float, float]] = {}
        self._needs: dict[Change, dict[str, float]] | None = None
        self._failing = _Smallest(())
        self._suspects: dict[str, Suspects] = {}
        self._risks: dict[Change, float] = {}
        self._factors: dict[int, float] = {}

    # --- reading

    def read(self, seen: Observation) -> None:
        """Learn from one more trial."""
        self._needs = None
        changes = frozenset(self.changes(seen.effective))
        base = frozenset(self.changes(self.best))
        self._tried.add(changes)
        for change in changes:
            self._cleared.setdefault(change, set()).update(
                {*seen.passed} if seen.broken else {*seen.passed, ANYTHING}
            )
        new, lost = changes - base, base - changes
        if seen.score is not None and self.best_number is not None and base <= changes:
            self._weigh(new, seen.score - self._best_score)
        if seen.broken:
            if new:
                self.failures.append(Failure(seen.number, changes, base, seen.broken))
            return
        gain = (seen.score or 0.0) - self._best_score
        if self.best_number is not None and len({name for name, _value in new ^ lost}) == 1:
            self._measure(new, lost, gain, seen.number)
        # As the winner is chosen; else what is minimal in the end would not be the winner.
        larger = gain == 0.0 and 0 < self._best_image_bytes < seen.image_bytes
        wanted = gain > self._tolerance or (
            gain >= -self._tolerance
            and all(self._speculative(one) is None for one in new)
            and not larger
        )
        if wanted:
            self.best, self.best_number = seen.effective, seen.number
            self._made = changes
            self._made_names = {name for name, _value in changes}
            self._left = {}
            self._best_score = max(seen.score or 0.0, self._best_score)
            self._best_image_bytes = seen.image_bytes
        elif new and (dict(base).keys() <= dict(changes).keys() or self._takes_back(seen, new)):
            # With several slots a variant may have been made on an older best; that it is worse
            # than the present one then says nothing against its changes.
            self.failures.append(Failure(seen.number, changes, base, ()))

    def _measure(
        self, new: Collection[Change], lost: Collection[Change], gain: float, number: int
    ) -> None:
        """Note what a change gains of which the variant has one more, or one less, than the best,
        or which it has instead of another one of the same candidate."""
        change = next(iter(new or lost))
        gained = gain if new else -gain
        self._speculated[change] = gained
        if new and lost:
            # Over the start it gains what the other one did, too. Where that is not known it must
            # be measured yet.
            before = self.gains.get(next(iter(lost)))
            if before is None:
                return
            gained += before[0]
        self.gains[change] = (gained, number)

    def _takes_back(self, seen: Observation, new: Collection[Change]) -> bool:
        """Whether it is for these changes that the variant lacks some of the best's: Kconfig makes
        the very same of both together."""
        return self._becomes(dict(self.changes(self.best)) | dict(new)) == seen.effective

    def _weigh(self, new: Collection[Change], gained: float) -> None:
        """Share the difference between what was expected and what was measured among the changes,
        most to those of which least was known."""
        known = {one: self._saving(one) for one in new}
        spread = sum(variance for _mean, variance in known.values())
        surprise = gained - sum(mean for mean, _variance in known.values())
        total = spread + PAGE_KB**2 / 12.0
        for one, (mean, variance) in known.items():
            self._savings[one] = (
                mean + variance / total * surprise,
                variance - variance * variance / total,
            )

    def _saving(self, change: Change) -> tuple[float, float]:
        """(mean in kB, variance)."""
        known = self._savings.get(change)
        if known is None:
            belief = self._beliefs.get(change[0], Belief())
            known = (belief.saving_kb, belief.doubt_kb**2)
        return known

    # --- asking

    def changes(self, values: Mapping[str, str]) -> set[Change]:
        """What differs from the start."""
        return {
            change
            for change in values.items()
            if change[1] != self._start.get(*change) and not self._follows(change)
        }

    def saving_kb(self, change: Change) -> float:
        """What the change is expected to save."""
        return self._saving(change)[0]

    def expected_without_kb(self, change: Change) -> float:
        """What is expected to be gained when the change is taken back and stays so only if that
        gains: the expected improvement (J. Mockus, 1975) of the negative of what it saves."""
        mean, variance = self._saving(change)
        doubt = math.sqrt(max(variance, 1e-12))
        ratio = -mean / doubt
        density = math.exp(-ratio * ratio / 2.0) / math.sqrt(2.0 * math.pi)
        improvement = -mean * math.erfc(-ratio / math.sqrt(2.0)) / 2.0 + doubt * density
        return max(0.0, improvement)  # the two terms may cancel to a little less

    @property
    def speculation(self) -> Speculation:
        """What the trials told of changes of which nobody expected that they save."""
        gains = {
            change: gain
            for change, gain in self._speculated.items()
            if self._speculative(change) is not None
        }
        return Speculation(gains, self._believed, self._tolerance)

    def _believed(self, change: Change) -> float:
        believed = self._speculative(change)
        return self.saving_kb(change) if believed is None else believed

    def risk(self, change: Change) -> float:
        """Probability that the change breaks something on top of the best; 1.0 when certain."""
        self._infer()
        if change not in self._risks:
            needs = self._need(change)
            self._risks[change] = 1.0 - math.prod(1.0 - one for one in needs.values())
        return self._risks[change]

    def needs(self, change: Change) -> Mapping[str, float]:
        """For each thing that may break the probability that it does by the change."""
        self._infer()
        return self._need(change)

    @property
    def suspects(self) -> Mapping[str, Suspects]:
        """For each thing that broke, and whose reason is not known yet, who may be the reason."""
        self._infer()
        return self._suspects

    def seen(self, values: Mapping[str, str]) -> bool:
        """Whether a variant with those values was tried before."""
        return frozenset(self.changes(values)) in self._tried

    def fails(self, changes: Collection[Change]) -> bool:
        """Whether those changes on top of the best variant are known to fail together."""
        self._infer()
        return self._failing.is_one_within(changes)

    @property
    def failing_groups(self) -> Sequence[frozenset[Change]]:
        """The smallest groups of changes known to fail on top of the best variant."""
        self._infer()
        return self._failing.groups

    def left_of(self, failure: Failure) -> frozenset[Change]:
        """Which changes may be to blame for a failure: those that the present best does not have.

        Where the best has another value by now, the one that the failed variant was made on had
        passed with it, and is not to blame; nor is what was switched on there and taken back since.
        An option that went there and is on again may be: of two, one may have stood in for the
        other. And what another alternative of a choice does by itself it does on another best too:
        the timer's frequency saves no more when an option is on again.
        """
        if failure.number not in self._left:
            self._left[failure.number] = self._work_out_left(failure)
        return self._left[failure.number]

    def _work_out_left(self, failure: Failure) -> frozenset[Change]:
        if len(failure.new) == 1 and all(self._speculative(one) is not None for one in failure.new):
            return failure.new - self._made
        rest = failure.changes - self._made
        otherwise = {one for one in rest if one[0] in self._made_names or one[1] != "n"}
        return rest - (otherwise - failure.new)

    def _calibrate(
        self, made: Collection[Change], suspected: Mapping[Change, float]
    ) -> dict[int, float]:
        """By how much beliefs of each strength turned out too high or too low so far.

        Options about which the same was believed are a sample: of so many that were tried, so many
        were needed. The beliefs weigh as much as :data:`BELIEF_WEIGHT` such observations (the mean
        of a beta distribution over that of its prior).

        Args:
            made: changes that work.
            suspected: change -> probability that it is needed, of those that failed with others.
        """
        tried: dict[int, list[float]] = {}
        certain = {next(iter(one)) for one in self._failing.groups if len(one) == 1}
        outcomes = {**suspected, **dict.fromkeys(made, 0.0), **dict.fromkeys(certain, 1.0)}
        needed_ones: dict[int, float] = {}
        for change, outcome in outcomes.items():
            needed = self._beliefs.get(change[0], Belief()).needed
            strength = _strength(needed)
            tried.setdefault(strength, []).append(needed)
            needed_ones[strength] = needed_ones.get(strength, 0.0) + outcome
        factors = {}
        for strength, believed in tried.items():
            before = math.fsum(believed) / len(believed)
            seen = BELIEF_WEIGHT * before + needed_ones.get(strength, 0)
            factors[strength] = seen / (BELIEF_WEIGHT + len(believed)) / before
        return factors

    def _need(self, change: Change) -> dict[str, float]:
        assert self._needs is not None  # noqa: S101 - _infer() came first
        known = self._needs.get(change)
        if known is None:
            belief = self._beliefs.get(change[0], Belief())
            believed, factor = belief.needs, self._factors.get(_strength(belief.needed), 1.0)
            cleared = self._cleared.get(change, set())
            # Works as a whole: nothing is left that it could be needed for.
            all_clear = ANYTHING in cleared
            known = {
                what: LEAST_NEED if all_clear or what in cleared else min(factor * one, 0.95)
                for what, one in believed.items()
            }
            self._needs[change] = known
        return known

    def _infer(self) -> None:
        """Work out what follows from the failures for the present best variant."""
        if self._needs is not None:
            return
        self._needs = {}
        self._risks = {}
        left: dict[str, set[frozenset[Change]]] = {}
        for failure in self.failures:
            if remaining := self.left_of(failure):
                for what in failure.broken or (ANYTHING,):
                    left.setdefault(what, set()).add(remaining)
        self._failing = _Smallest(set().union(*left.values()) if left else set())
        alike = _alike(left)
        # What is known of those that failed together, and how far the beliefs are right, follow
        # from one another: in turns (expectation and maximization, A. P. Dempster et al., 1977).
        suspected: dict[Change, float] = {}
        for _turn in range(TURNS):
            self._needs = {}
            self._factors = self._calibrate(self._made, suspected)
            suspected = self._suspect(alike)

    def _suspect(
        self, alike: Sequence[tuple[list[str], list[frozenset[Change]]]]
    ) -> dict[Change, float]:
        """Who is suspected of what; returns for each suspect the probability that it is needed."""
        self._suspects = {}
        found: dict[Change, float] = {}
        for whats, groups in alike:
            # Checks of one suite that always broke together have one reason: it is looked for once.
            what = whats[0]
            certain = {next(iter(group)) for group in groups if len(group) == 1}
            for each in whats:
                for one in certain:
                    self._need(one)[each] = CERTAIN
            if open_groups := [group for group in groups if len(group) > 1]:
                members = frozenset().union(*open_groups)
                believed = {one: self._weight(one, what) for one in members}
                suspects = Suspects(open_groups, believed)
                for one, probability in suspects.marginals().items():
                    self._need(one)[what] = probability
                    found[one] = 1.0 - (1.0 - found.get(one, 0.0)) * (1.0 - probability)
                self._suspects[what] = suspects
        return found

    def _weight(self, change: Change, what: str) -> float:
        needs = self._need(change)
        weight = needs.get(what)
        if weight is None:
            unsaid = LEAST_NEED if what in self._cleared.get(change, ()) else needs.get(ANYTHING)
            weight = LEAST_NEED if unsaid is None else unsaid
        return max(weight, LEAST_NEED * LEAST_NEED)


def _alike(
    left: Mapping[str, Collection[frozenset[Change]]],
) -> list[tuple[list[str], list[frozenset[Change]]]]:
    """The checks of one suite that broke in just the same variants, and their smallest groups."""
    found: dict[tuple[str, frozenset[frozenset[Change]]], list[str]] = {}
    for what, groups in left.items():
        found.setdefault((what.partition("/")[0], frozenset(groups)), []).append(what)
    return [(whats, _Smallest(groups).groups) for (_suite, groups), whats in found.items()]


def _strength(needed: float) -> int:
    """Beliefs of one power of two are of one strength."""
    return round(math.log2(max(needed, LEAST_NEED)))


class _Smallest:
    """Of groups of changes those that hold no other: the smaller one explains them."""

    def __init__(self, groups: Collection[frozenset[Change]]) -> None:
        self.groups: list[frozenset[Change]] = []
        # By one member: a group is within others only when that member is.
        self._by_member: dict[Change, list[frozenset[Change]]] = {}
        for members in sorted((sorted(one) for one in groups), key=lambda one: (len(one), one)):
            group = frozenset(members)
            if not self.is_one_within(group):
                self.groups.append(group)
                self._by_member.setdefault(members[0], []).append(group)

    def is_one_within(self, changes: Collection[Change]) -> bool:
        """Whether all of a group are among the changes."""
        return any(
            group.issubset(changes)
            for member in self._by_member.keys() & changes
            for group in self._by_member[member]
        )
