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

# A saving that the next build will bring counts this much of one that this build brings.
LATER = 0.8
# Who is the culprit with at least this probability is left out of what is tried next.
SUSPICION = 0.1
# What is tried next, after a failure, may hold the culprit with this probability.
TOLERATED = 0.3

# A build of several groups works with at least this probability: what is learnt must pay some day.
LEAST_HOPE = 0.2

Vector = npt.NDArray[np.float64]


class Needs:
    """For what each change may be needed, as vectors over all that can break.

    Args:
        needs: change -> what may break -> probability (0 to 1) that it does.
    """

    def __init__(self, needs: Mapping[Change, Mapping[str, float]]) -> None:
        self.whats = sorted({what for one in needs.values() for what in one})
        index = {what: number for number, what in enumerate(self.whats)}
        # What keeps the checks from being made: then nothing is learnt of what they need.
        self.silencing = [number for number, what in enumerate(self.whats) if what in (BUILD, BOOT)]
        self._rows = {change: row for row, change in enumerate(needs)}
        self._safe = np.zeros((len(needs), len(self.whats)))
        for row, one in enumerate(needs.values()):
            for what, probability in one.items():
                self._safe[row, index[what]] = np.log1p(-min(probability, 1.0 - 1e-9))

    def together(self, changes: Collection[Change]) -> Vector:
        """The logarithm of the probability that each thing still works without all of these."""
        rows = [self._rows[change] for change in changes]
        return np.asarray(self._safe[rows].sum(axis=0), dtype=np.float64)


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
        self._safe = np.zeros((most, len(needs.whats)))
        self._all_safe = np.zeros(len(needs.whats))

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
        safe = self._needs.together(new)
        row = self._count
        if row > 0 and (self._all_safe + safe).sum() < math.log(LEAST_HOPE):
            return False
        self._savings[row], self._safe[row] = saving, safe
        worth = self._worth(row + 1, self._all_safe + safe)
        if worth <= self.worth:
            return False
        self.worth = worth
        self._count += 1
        self._all_safe = self._all_safe + safe
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
        own = -np.expm1(self._safe[:count])
        # Given that it breaks: the probability that this group is the reason.
        blame = own / np.maximum(breaks, 1e-12)
        light = blame < SUSPICION
        unclear = np.where(light, blame, 0.0).sum(axis=0)
        settled = light * np.minimum(1.0, TOLERATED / np.maximum(unclear, 1e-12))
        settled[:, self._needs.silencing] = 0.0
        cleared = np.prod((1.0 - breaks) + breaks * settled, axis=1)
        works = float(np.exp(all_safe.sum()))
        safe = np.exp(self._safe[:count].sum(axis=1))
        now = works * float(self._savings[:count].sum())
        later = float((self._savings[:count] * np.minimum(cleared, safe)).sum())
        return now + LATER * max(0.0, later - now)
