"""Who may be the reason, when several groups of changes each broke the same thing.

Each failure says: at least one of its changes is needed for what failed. A change that is in three
failed groups is more suspect than one in a single group, and once one member explains a group, its
other members are suspect no more. So all groups are looked at together, by Bayes' rule: changes in
just the same groups are one class, of which any one member is enough; over the classes the
probability of each set of groups explained is carried forwards and backwards (the forward-backward
algorithm, L. R. Rabiner, "A Tutorial on Hidden Markov Models", Proc. IEEE, 1989, whose steps are
here the classes and whose states are the sets of groups). That is exact, and the work grows with
two to the number of groups; where there are too many, the largest ones, which tell least, are only
seen to in the samples.

A sample is one way in which everything may be: who is needed and who is not. What several changes
do together is read from many of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from optimizer.search.space import Change

# So many groups are reckoned with exactly.
MOST_GROUPS = 12
# What is read from the samples is right to about a part in twenty.
SAMPLES = 400  # a multiple of 8: bits fill bytes
# No probability comes nearer to 0 or 1 than this.
LEAST = 1e-9

Vector = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Suspects:
    """The suspects of one thing that broke.

    Args:
        groups: for each failure the changes of which at least one is needed.
        believed: change -> probability (0 to 1) that it is needed, before any failure.
    """

    def __init__(
        self, groups: Sequence[frozenset[Change]], believed: Mapping[Change, float]
    ) -> None:
        self.groups = tuple(sorted(groups, key=lambda one: (len(one), sorted(one))))
        self._exact = self.groups[:MOST_GROUPS]
        self._believed = {
            change: min(max(believed[change], LEAST), 1.0 - LEAST)
            for change in sorted(frozenset().union(*groups))
        }
        classes: dict[int, list[Change]] = {}
        for change in self._believed:
            pattern = sum(1 << row for row, one in enumerate(self._exact) if change in one)
            classes.setdefault(pattern, []).append(change)
        # Those that are in none of them know nothing of these.
        self._apart = classes.pop(0, [])
        self._classes = list(classes.values())
        self._patterns = list(classes)
        self._some = np.array(
            [
                1.0 - np.prod([1.0 - self._believed[one] for one in members])
                for members in self._classes
            ]
        )
        self._ahead = self._backwards()

    def marginals(self) -> dict[Change, float]:
        """For each suspect the probability that it is needed, given all failures."""
        if len(self._exact) < len(self.groups):
            return self._counted()
        found = {one: self._believed[one] for one in self._apart}
        for members, needed, some in zip(self._classes, self._forwards(), self._some, strict=True):
            for one in members:
                found[one] = min(float(needed * self._believed[one] / some), 1.0 - LEAST)
        return found

    def _counted(self) -> dict[Change, float]:
        """The same by the samples; what is in none of them is as likely as before, or less."""
        found = {}
        for change, needed in self.samples.items():
            count = needed.bit_count()
            found[change] = count / SAMPLES or min(self._believed[change], 0.5 / SAMPLES)
        return {change: min(one, 1.0 - LEAST) for change, one in found.items()}

    # --- over the classes: the probability of each set of groups that are explained

    def _backwards(self) -> list[Vector]:
        """For each class, and at last for none: set of groups that the classes before it explain ->
        probability that it and the classes after it explain the others."""
        whole = (1 << len(self._exact)) - 1
        ahead = np.zeros(whole + 1)
        ahead[whole] = 1.0
        found = [ahead]
        sets = np.arange(whole + 1)
        for pattern, some in zip(self._patterns[::-1], self._some[::-1], strict=True):
            ahead = some * ahead[sets | pattern] + (1.0 - some) * ahead
            found.append(ahead)
        return found[::-1]

    def _forwards(self) -> list[float]:
        """For each class the probability that one of its members is needed, given all groups."""
        sets = np.arange(1 << len(self._exact))
        behind = np.zeros(len(sets))
        behind[0] = 1.0
        all_explained = max(self._ahead[0][0], np.finfo(float).tiny)
        found = []
        for pattern, some, ahead in zip(self._patterns, self._some, self._ahead[1:], strict=True):
            with_it = sets | pattern
            found.append(float(some * (behind * ahead[with_it]).sum() / all_explained))
            behind = (1.0 - some) * behind + np.bincount(with_it, some * behind, len(sets))
        return found

    # --- samples

    @cached_property
    def samples(self) -> dict[Change, int]:
        """change -> in which samples it is needed: one bit a sample, always the same ones."""
        drawn = self._drawn(np.random.default_rng(0))
        return {
            change: int.from_bytes(np.packbits(flags).tobytes()) for change, flags in drawn.items()
        }

    def _drawn(self, random: np.random.Generator) -> dict[Change, Flags]:
        found = {one: random.random(SAMPLES) < self._believed[one] for one in self._apart}
        explained = np.zeros(SAMPLES, dtype=int)
        for number, members in enumerate(self._classes):
            pattern, some = self._patterns[number], self._some[number]
            ahead = self._ahead[number + 1]
            with_it = some * ahead[explained | pattern]
            share = with_it / np.maximum(with_it + (1.0 - some) * ahead[explained], 1e-300)
            needed = random.random(SAMPLES) < share
            explained = np.where(needed, explained | pattern, explained)
            found |= self._members_needed(members, needed, random)
        for group in self.groups[MOST_GROUPS:]:
            open_ones = ~np.logical_or.reduce([found[one] for one in group])
            if open_ones.any():
                members = sorted(group)
                for one, flags in self._members_needed(members, open_ones, random).items():
                    found[one] |= flags
        return found

    def _members_needed(
        self, members: Sequence[Change], needed: Flags, random: np.random.Generator
    ) -> dict[Change, Flags]:
        """Which members of a class are needed in the samples in which at least one of them is."""
        found = {}
        none_yet = needed.copy()
        for number, one in enumerate(members):
            believed = self._believed[one]
            some_left = 1.0 - np.prod([1.0 - self._believed[other] for other in members[number:]])
            share = np.where(none_yet, believed / some_left, believed)
            found[one] = needed & (random.random(SAMPLES) < share)
            none_yet &= ~found[one]
        return found
