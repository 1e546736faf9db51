"""What to expect of changes that nobody expects to save anything: other alternatives of choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optimizer.search.space import Change

# The belief in them weighs as much as so many choices tried.
WEIGHT = 4.0
# For each alternative of a choice that gained nothing, the next one is believed to gain this part
# of what was believed of it: in three real studies none of 27 gained, but 6 of 30 first ones.
AFTER_NOTHING = 0.1
# Where one gained, this part of it is expected of the next: of CRC-32's tables the third gained
# 8 kB after 12, the fourth 4 after 8; but of what is written to a stack the next one lost 20.
AFTER_GAIN = 0.5


@dataclass(frozen=True)
class Speculation:
    """What was seen of such changes, and what follows for those not tried yet.

    Args:
        gains: the kB that each of those tried gained over the best of its time, in their order.
        believed: what is believed of a change, in kB.
        tolerance: a gain of no more than this is none.
    """

    gains: Mapping[Change, float]
    believed: Callable[[Change], float]
    tolerance: float = 0.0

    def expected_kb(self, change: Change) -> float:
        """What the change is expected to gain over the best, if it breaks nothing."""
        siblings = [gain for (name, _value), gain in self.gains.items() if name == change[0]]
        if not siblings:
            return self.factor * self.believed(change)
        if siblings[-1] > self.tolerance:
            return AFTER_GAIN * siblings[-1]
        return AFTER_NOTHING ** len(siblings) * self.factor * self.believed(change)

    @property
    def factor(self) -> float:
        """By how much each choice's first alternative gained more or less than was believed: the
        sum of the gains over that of the beliefs, with :data:`WEIGHT` more of the latter's mean."""
        first: dict[str, Change] = {}
        for change in self.gains:
            first.setdefault(change[0], change)
        if not first:
            return 1.0
        believed = sum(map(self.believed, first.values()))
        gained = sum(max(0.0, self.gains[change]) for change in first.values())
        before = WEIGHT * believed / len(first)
        return (before + gained) / (before + believed)
