"""Why each option that is still on is still on: what the trials say, change by change."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from optimizer.records import Judgement, Verdict
from optimizer.search.knowledge import Failure, Knowledge
from optimizer.search.space import Candidate, Change, Space

# The failures, each with what is left to blame for it.
Left = Sequence[tuple[Failure, frozenset[Change]]]


def verdicts(space: Space, known: Knowledge) -> list[Verdict]:
    """A verdict for every value that the best variant could have instead of the baseline's.

    Candidates that the best variant changed have none: nothing of them stayed.

    Args:
        space: the search space.
        known: all trials, read.
    """
    start = space.start
    left = [(one, known.left_of(one)) for one in known.failures]
    found = []
    for candidate in space.candidates:
        if known.best.get(candidate.name) != start[candidate.name]:
            continue
        for value in candidate.alternatives:
            found.append(_verdict(candidate, value, start, known, left))
    return found


def _verdict(
    candidate: Candidate,
    value: str,
    start: Mapping[str, str],
    known: Knowledge,
    left: Left,
) -> Verdict:
    change = (candidate.name, value)
    drops = {one for one in candidate.drops if known.best.get(one[0]) == start[one[0]]}
    stays = Verdict(candidate.name, candidate.baseline, value, Judgement.UNSETTLED)
    blamed = _blamed(change, {change, *drops}, left)
    if broke := [one for one in blamed if not one.worse]:
        last = max(broke, key=lambda one: (_alone(one, change, drops), one.number))
        return replace(
            stays,
            judgement=Judgement.NEEDED,
            broken=last.broken[0],
            trial=last.number,
            alone=_alone(last, change, drops),
        )
    for drop in sorted(drops):
        if broke := [one for one in _blamed(drop, {drop}, left) if not one.worse]:
            last = max(broke, key=lambda one: one.number)
            return replace(
                stays,
                judgement=Judgement.REQUIRED,
                broken=last.broken[0],
                trial=last.number,
                through=drop[0],
            )
    gained, number = known.gains.get(change, (0.0, None))
    if number is not None and gained <= 0:
        return replace(
            stays, judgement=Judgement.NO_SAVING, trial=number, alone=True, gained=gained
        )
    if blamed:
        return replace(stays, judgement=Judgement.NO_SAVING, trial=blamed[-1].number)
    return stays


def _blamed(change: Change, group: Collection[Change], left: Left) -> list[Failure]:
    """The failures of which nothing is left but this change, when what works is taken away."""
    return [one for one, rest in left if change in rest and rest.issubset(group)]


def _alone(failure: Failure, change: Change, drops: Collection[Change]) -> bool:
    return (failure.changes - failure.base).issubset({change, *drops})
