"""Who may be the reason, when several groups of changes each broke the same thing.

Each failure says: at least one of its changes is needed for what failed. A change that is in three
failed groups is more suspect than one in a single group, and once one member explains a group, its
other members are suspect no more. What each is suspected of, given all groups at once, is worked
out by belief propagation (J. Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988; for
group tests with OR as their rule: D. Sejdinovic and O. Johnson, "Note on noisy group testing",
Allerton 2010), which is exact where groups do not overlap in circles and near enough where they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from optimizer.search.space import Change

# Rounds in which the groups tell each other what they know, and how much of the last is kept:
# circles of groups swing otherwise.
ROUNDS = 24
KEPT = 0.3
# No probability comes nearer to 0 or 1 than this.
LEAST = 1e-9

Vector = npt.NDArray[np.float64]


class Suspects:
    """The suspects of one thing that broke.

    Args:
        groups: for each failure the changes of which at least one is needed.
        believed: change -> probability (0 to 1) that it is needed, before any failure.
    """

    def __init__(
        self, groups: Sequence[frozenset[Change]], believed: Mapping[Change, float]
    ) -> None:
        self.groups = tuple(groups)
        self.believed = believed
        self._members = sorted(frozenset().union(*groups))
        self._columns = {change: column for column, change in enumerate(self._members)}
        held = np.zeros((len(groups), len(self._members)), bool)
        for row, group in enumerate(groups):
            held[row, [self._columns[change] for change in group]] = True
        prior = np.clip([believed[change] for change in self._members], LEAST, 1.0 - LEAST)
        self._held = held
        self._logits = np.log(prior) - np.log1p(-prior)
        told = np.zeros(held.shape)
        for _round in range(ROUNDS):
            told = KEPT * told + (1.0 - KEPT) * self._tell(told)
        self._told = told

    def marginals(self) -> dict[Change, float]:
        """For each suspect the probability that it is needed, given all failures."""
        needed = _probability(self._logits + self._told.sum(axis=0))
        return {change: float(one) for change, one in zip(self._members, needed, strict=True)}

    def clean(self, row: int) -> dict[Change, float]:
        """For each member of a group, the logarithm of the probability that it is *not* needed, as
        far as all other groups tell."""
        logs = np.log1p(-self._others(self._told)[row])
        return {change: float(logs[self._columns[change]]) for change in self.groups[row]}

    def _others(self, told: Vector) -> Vector:
        """(groups, suspects): probability of being needed without what that group itself says."""
        return _probability(self._logits + told.sum(axis=0) - told)

    def _tell(self, told: Vector) -> Vector:
        """What each group says of each of its members, as the logarithm of an odds ratio: if none
        of the others is needed, this one is."""
        logs = np.where(self._held, np.log1p(-self._others(told)), 0.0)
        without = logs.sum(axis=1, keepdims=True) - logs
        ratio = -np.log(np.maximum(-np.expm1(np.minimum(without, 0.0)), LEAST))
        return np.where(self._held, ratio, 0.0)


def _probability(logits: Vector) -> Vector:
    return np.clip(1.0 / (1.0 + np.exp(-np.clip(logits, -40.0, 40.0))), LEAST, 1.0 - LEAST)
