"""What a build of several changes together is worth: saved at once, or shown to be safe.

A variant whose checks all pass saves what its changes save. One that fails is not lost: each check
that passes clears all its changes of being needed for it, and a check that fails leaves as suspects
only those that are likely to be needed for just this check. So options that different checks need
can be tried together, and one build settles them all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

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


class Batch:
    """Changes put together group by group, as long as that makes the build worth more.

    Never so that a group of changes that is known to fail would be complete.

    Args:
        needs: of all changes that may come in.
        failing: the groups known to fail.
        most: how many groups there may be.
    """

    def __init__(self, needs: Needs, failing: Sequence[frozenset[Change]], most: int) -> None:
        self.worth = 0.0
        self._needs = needs
        self._missing = [len(group) for group in failing]
        self._groups: dict[Change, list[int]] = {}
        for number, group in enumerate(failing):
            for change in group:
                self._groups.setdefault(change, []).append(number)
        self._together: set[Change] = set()
        self._count = 0
        self._savings = np.zeros(most)
        # For each group taken in: the probability that it breaks each thing, and that it is safe.
        self._own = np.zeros((most, len(needs.whats)))
        self._harmless = np.zeros(most)
        self._free = np.zeros(len(needs.whats))
        self._spared = needs.spared
        self._innocent = needs.innocent(needs.spared)

    def offer(self, group: Collection[Change], saving: float) -> bool:
        """Take a group in if that makes the build worth more; says whether it did.

        Args:
            group: changes that come together.
            saving: what those save that are not in it yet, in kB.
        """
        new = [one for one in group if one not in self._together]
        counts: dict[int, int] = {}
        for change in new:
            for number in self._groups.get(change, ()):
                counts[number] = counts.get(number, 0) + 1
        if any(count >= self._missing[number] for number, count in counts.items()):
            return False
        row = self._count
        free = self._free + self._needs.free(new)
        spared = self._needs.without(self._spared, new)
        same = spared is self._spared
        innocent = self._innocent if same else self._needs.innocent(spared)
        all_safe = free + innocent
        if row > 0 and all_safe.sum() < math.log(LEAST_HOPE):
            return False
        safe = self._needs.together(new)
        self._savings[row] = saving
        self._own[row] = -np.expm1(safe)
        self._harmless[row] = math.exp(safe.sum())
        worth = self._worth(row + 1, all_safe)
        if worth <= self.worth:
            return False
        self.worth = worth
        self._count += 1
        self._free, self._spared, self._innocent = free, spared, innocent
        for number, count in counts.items():
            self._missing[number] -= count
        self._together.update(new)
        return True

    def new(self, group: Collection[Change]) -> list[Change]:
        """Those of the group that are not in it yet."""
        return [one for one in group if one not in self._together]

    def _worth(self, count: int, all_safe: Vector) -> float:
        """The saving that this build or the next one is expected to bring, in kB."""
        breaks = -np.expm1(all_safe)
        # Given that it breaks: the probability that this group is the reason.
        blame = self._own[:count] / np.maximum(breaks, 1e-12)
        light = blame < SUSPICION
        unclear = np.where(light, blame, 0.0).sum(axis=0)
        settled = light * np.minimum(1.0, TOLERATED / np.maximum(unclear, 1e-12))
        settled[:, self._needs.silencing] = 0.0
        cleared = np.prod((1.0 - breaks) + breaks * settled, axis=1)
        works = float(np.exp(all_safe.sum()))
        now = works * float(self._savings[:count].sum())
        later = float((self._savings[:count] * np.minimum(cleared, self._harmless[:count])).sum())
        return now + LATER * max(0.0, later - now)
