"""What a build of several changes together is worth: saved at once, or shown to be safe.

A variant whose checks all pass saves what its changes save. One that fails is not lost: each check
that passes clears all its changes of being needed for it, and a check that fails leaves as suspects
only those that are likely to be needed for just this check. So options that different checks need
can be tried together, and one build settles them all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizer.search.knowledge import BOOT, BUILD
from optimizer.search.space import Change
from optimizer.search.suspects import SAMPLES, Suspects

# A saving that the next build will bring counts this much of one that this build brings.
LATER = 0.8
# Who is the culprit with at least this probability is left out of what is tried next.
SUSPICION = 0.1
# What is tried next, after a failure, may hold the culprit with this probability.
TOLERATED = 0.3

# A build of several groups works with at least this probability: what is learnt must pay some day.
LEAST_HOPE = 0.2
# So many groups are looked at in one go, at most.
LOOK_AHEAD = 32

Vector = npt.NDArray[np.float64]
Spared = tuple[int, ...]
# By count of samples: the logarithm of their share; none of them is not never.
_LOG_SHARES = np.log(np.maximum(np.arange(SAMPLES + 1), 0.5) / SAMPLES)


class Needs:
    """For what each change may be needed, as vectors over all that can break.

    Args:
        needs: change -> what may break -> probability (0 to 1) that it does.
        suspects: for what broke before, how those probabilities hang together: if it is not this
            change, it is one of the others.
    """

    def __init__(
        self,
        needs: Mapping[Change, Mapping[str, float]],
        suspects: Mapping[str, Suspects] | None = None,
    ) -> None:
        self.whats = sorted({what for one in needs.values() for what in one})
        index = {what: number for number, what in enumerate(self.whats)}
        # What keeps the checks from being made: then nothing is learnt of what they need.
        self.silencing = [number for number, what in enumerate(self.whats) if what in (BUILD, BOOT)]
        self._rows = {change: row for row, change in enumerate(needs)}
        self._safe = np.zeros((len(needs), len(self.whats)))
        for row, one in enumerate(needs.values()):
            for what, probability in one.items():
                self._safe[row, index[what]] = np.log1p(-min(probability, 1.0 - 1e-9))
        # Of suspects nothing is said here: what they do is told by the samples.
        self._free = self._safe.copy()
        told = {what: those for what, those in (suspects or {}).items() if what in index}
        self._columns = [index[what] for what in told]
        whole = (1 << SAMPLES) - 1
        # In which samples nothing that is needed is missing, for each thing a number with one bit a
        # sample; and for each change in which of them it is not needed.
        self.spared: Spared = (whole,) * len(told)
        self._harmless: dict[Change, list[int]] = {}
        for column, those in enumerate(told.values()):
            for change, needed in those.samples.items():
                if change in self._rows:
                    self._free[self._rows[change], self._columns[column]] = 0.0
                    harmless = self._harmless.setdefault(change, [whole] * len(told))
                    harmless[column] = whole ^ needed

    def is_suspect(self, change: Change) -> bool:
        """Whether it was in something that broke, for a reason that is not known yet."""
        return change in self._harmless

    def together(self, changes: Collection[Change]) -> Vector:
        """The logarithm of the probability that each thing still works without all of these, each
        looked at by itself."""
        return self._sum(self._safe, changes)

    def free(self, changes: Collection[Change]) -> Vector:
        """The same as far as these are not among the suspects."""
        return self._sum(self._free, changes)

    def _sum(self, logs: Vector, changes: Collection[Change]) -> Vector:
        rows = [self._rows[change] for change in changes]
        return np.asarray(logs[rows[0]] if len(rows) == 1 else logs[rows].sum(axis=0))

    def without(self, spared: Spared, changes: Collection[Change]) -> Spared:
        """``spared``, when these changes are made too."""
        for change in changes:
            if change in self._harmless:
                spared = tuple(map(int.__and__, spared, self._harmless[change]))
        return spared

    def innocent(self, spared: Spared) -> Vector:
        """The logarithm of the probability that nothing is needed of the suspects among the changes
        that left so much spared."""
        found = np.zeros(len(self.whats))
        found[self._columns] = _LOG_SHARES[[one.bit_count() for one in spared]]
        return found


@dataclass(frozen=True)
class _Part:
    """What a group would bring into a batch: its changes that are not in it yet.

    ``saving`` is theirs in kB, ``free`` and ``own`` are their rows over all that can break (the
    logarithm of the probability that each thing works, as far as they are no suspects; the
    probability that they break it), ``harmless`` the probability that they break nothing.
    """

    changes: Collection[Change]
    saving: float
    free: Vector
    own: Vector
    harmless: float
    suspect: bool


class Offers:
    """The groups of changes that batches are made of.

    Args:
        needs: of all their changes.
        groups: in the order in which they are offered; changes of one come together.
        savings: of each change, in kB.
        failing: groups of changes that are known to fail together.
    """

    def __init__(
        self,
        needs: Needs,
        groups: Sequence[Collection[Change]],
        savings: Mapping[Change, float],
        failing: Sequence[frozenset[Change]] = (),
    ) -> None:
        self.needs = needs
        self.failing = failing
        self._savings = savings
        self._parts = [self._part(group) for group in groups]

    def __len__(self) -> int:
        return len(self._parts)

    def part(self, number: int, together: Collection[Change]) -> _Part:
        """What a group brings to changes that are together already."""
        whole = self._parts[number]
        if not (left_out := [one for one in whole.changes if one in together]):
            return whole
        return self._part([one for one in whole.changes if one not in left_out])

    def _part(self, changes: Collection[Change]) -> _Part:
        safe = self.needs.together(changes)
        return _Part(
            changes,
            math.fsum(self._savings[one] for one in changes),
            self.needs.free(changes),
            -np.expm1(safe),
            math.exp(safe.sum()),
            any(map(self.needs.is_suspect, changes)),
        )


class Batch:
    """Groups put together one by one, as long as that makes the build worth more.

    Never so that a group of changes that is known to fail would be complete.

    Args:
        offers: the groups.

    Attributes:
        worth: the saving that this build or the next one is expected to bring, in kB.
    """

    def __init__(self, offers: Offers) -> None:
        self.worth = 0.0
        self._offers = offers
        self._needs = offers.needs
        self._missing = [len(group) for group in offers.failing]
        self._guards: dict[Change, list[int]] = {}
        for number, group in enumerate(offers.failing):
            for change in group:
                self._guards.setdefault(change, []).append(number)
        self._together: set[Change] = set()
        self._count = 0
        # For each group taken in: its saving, the probability that it breaks each thing, and that
        # it is harmless.
        self._savings = np.zeros(len(offers))
        self._own = np.zeros((len(offers), len(self._needs.whats)))
        self._harmless = np.zeros(len(offers))
        self._free = np.zeros(len(self._needs.whats))
        self._spared = self._needs.spared
        self._innocent = self._needs.innocent(self._needs.spared)

    def fill(self, numbers: Sequence[int]) -> list[int]:
        """Offer groups one after the other; each is taken in if that makes the build worth more.

        Args:
            numbers: the groups' places among the offers.

        Returns:
            The numbers of those that were taken in.
        """
        taken: list[int] = []
        at, look = 0, 1
        while at < len(numbers):
            ahead = numbers[at : at + look]
            found = self._first_worth_it(ahead)
            if found is None:
                # Most are not worth it, above all behind the first that is not: many in one go.
                at, look = at + len(ahead), min(2 * look, LOOK_AHEAD)
            else:
                taken.append(ahead[found])
                at, look = at + found + 1, 1
        return taken

    def _first_worth_it(self, numbers: Sequence[int]) -> int | None:
        """Takes the first one in that makes the build worth more; its place among the numbers."""
        ahead = [
            (place, part)
            for place, number in enumerate(numbers)
            if self._may_come_in(part := self._offers.part(number, self._together))
        ]
        if not ahead:
            return None
        parts = [part for _place, part in ahead]
        spared = [
            self._needs.without(self._spared, part.changes) if part.suspect else self._spared
            for part in parts
        ]
        innocent = [
            self._innocent if one is self._spared else self._needs.innocent(one) for one in spared
        ]
        free = self._free + np.array([part.free for part in parts])
        all_safe = free + np.array(innocent)
        worths = self._worths(parts, all_safe)
        if self._count:
            worths[all_safe.sum(axis=1) < math.log(LEAST_HOPE)] = 0.0
        better = np.flatnonzero(worths > self.worth)
        if not len(better):
            return None
        first = int(better[0])
        self.worth = float(worths[first])
        self._free, self._spared, self._innocent = free[first], spared[first], innocent[first]
        place, part = ahead[first]
        self._take_in(part)
        return place

    def _may_come_in(self, part: _Part) -> bool:
        """Whether no group that is known to fail would be complete with it."""
        return all(
            count < self._missing[number] for number, count in self._guarded(part.changes).items()
        )

    def _guarded(self, changes: Collection[Change]) -> dict[int, int]:
        """How many of the changes are in each group that is known to fail."""
        counts: dict[int, int] = {}
        for change in changes:
            for number in self._guards.get(change, ()):
                counts[number] = counts.get(number, 0) + 1
        return counts

    def _take_in(self, part: _Part) -> None:
        row = self._count
        self._savings[row] = part.saving
        self._own[row] = part.own
        self._harmless[row] = part.harmless
        for number, count in self._guarded(part.changes).items():
            self._missing[number] -= count
        self._together.update(part.changes)
        self._count += 1

    def _worths(self, parts: Sequence[_Part], all_safe: Vector) -> Vector:
        """The saving that this build or the next one is expected to bring with each part, in kB.

        Args:
            parts: each would come in by itself.
            all_safe: of shape (parts, things that can break): the logarithm of the probability that
                each thing still works with all that is in and the part.
        """
        count = self._count
        breaks = -np.expm1(all_safe)[:, None, :]
        own = np.empty((len(parts), count + 1, all_safe.shape[1]))
        own[:, :count], own[:, count] = self._own[:count], [part.own for part in parts]
        savings = np.empty((len(parts), count + 1))
        savings[:, :count], savings[:, count] = self._savings[:count], [one.saving for one in parts]
        harmless = np.empty((len(parts), count + 1))
        harmless[:, :count] = self._harmless[:count]
        harmless[:, count] = [part.harmless for part in parts]
        # Given that it breaks: the probability that this group is the reason.
        blame = own / np.maximum(breaks, 1e-12)
        light = blame < SUSPICION
        unclear = (light * blame).sum(axis=1, keepdims=True)
        settled = light * np.minimum(1.0, TOLERATED / np.maximum(unclear, 1e-12))
        settled[:, :, self._needs.silencing] = 0.0
        cleared = np.prod(1.0 - breaks * (1.0 - settled), axis=2)
        now = np.exp(all_safe.sum(axis=1)) * savings.sum(axis=1)
        later = (savings * np.minimum(cleared, harmless)).sum(axis=1)
        return np.asarray(now + LATER * np.maximum(0.0, later - now))
