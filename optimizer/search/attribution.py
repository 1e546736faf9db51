"""What a single change saves: variants that differ in it alone, and which pairs of them to compare.

From the winner, a change is taken back with everything else as it is there. Kconfig ties some
together: an option whose menu is off cannot come back without it. Then both variants of the pair
have back what it stands on, and differ in the option only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from optimizer.records import Attribution, AttributionKind, Trial
from optimizer.search.series import Prepared, Request, prepare
from optimizer.search.space import Change, Space


@dataclass(frozen=True)
class Comparison:
    """Two variants that differ in one change, and what Kconfig changes along with it."""

    kind: AttributionKind
    option: str
    value: str
    having: Prepared
    lacking: Prepared
    tied: tuple[Change, ...] = ()

    def attribution(self, with_trial: int, without_trial: int) -> Attribution:
        """The record of it, once both variants have a trial."""
        return Attribution(self.kind, self.option, self.value, with_trial, without_trial, self.tied)


@dataclass(frozen=True)
class Unmeasurable:
    """A change that cannot be made or taken back alone, and why."""

    option: str
    value: str
    reason: str


def from_winner(
    space: Space, winner: Trial, changes: Iterable[Change]
) -> list[Comparison | Unmeasurable]:
    """Take each change of the winner back alone.

    Args:
        space: the search space.
        winner: the trial whose changes they are.
        changes: (option, the value that the winner has), in the order of their worth.
    """
    own = dict(winner.effective)
    asked = {name: own.get(name, value) for name, value in space.baseline.items()}
    return [_taken_back(space, asked, option, value) for option, value in changes]


def from_baseline(space: Space, changes: Iterable[Change]) -> list[Comparison | Unmeasurable]:
    """Make each change alone, everything else as in the baseline with the study's gate open."""
    lacking = prepare(space, Request(space.baseline))
    found: list[Comparison | Unmeasurable] = []
    for option, value in changes:
        having = prepare(space, Request(space.baseline | {option: value}))
        if having.effective[option] != value:
            found.append(Unmeasurable(option, value, _refusal(having, option)))
            continue
        tied = _tied(having, lacking, option)
        found.append(Comparison(AttributionKind.BASELINE, option, value, having, lacking, tied))
    return found


def of_kept(space: Space, winner: Trial, names: Iterable[str]) -> list[Comparison | Unmeasurable]:
    """Drop from the winner, one by one, what the study keeps: for the price alone."""
    params = {name: winner.effective.get(name, value) for name, value in space.baseline.items()}
    lacking = prepare(space, Request(params))
    found: list[Comparison | Unmeasurable] = []
    for name in names:
        before = space.tree.values(lacking.assignment, [name])[name]
        if before != "y":
            continue
        having = prepare(space, Request(params, {name: "n"}))
        if space.tree.values(having.assignment, [name])[name] == before:
            found.append(Unmeasurable(name, "n", _refusal(having, name)))
            continue
        tied = _tied(having, lacking, name)
        found.append(Comparison(AttributionKind.KEPT, name, "n", having, lacking, tied))
    return found


def _taken_back(
    space: Space, asked: Mapping[str, str], option: str, value: str
) -> Comparison | Unmeasurable:
    before = space.candidate(option).baseline
    above = {
        one.name: one.baseline
        for one in space.candidates
        if asked[one.name] != one.baseline
        and any(dropped == (option, value) for dropped in one.drops)
        and one.name != option
    }
    for needed in ({}, above):
        restored = {**asked, **needed}
        lacking = prepare(space, Request(restored | {option: before}))
        if lacking.effective[option] == before:
            having = prepare(space, Request(restored | {option: value}))
            if having.effective[option] != value:
                return Unmeasurable(option, value, _refusal(having, option))
            tied = _tied(having, lacking, option)
            return Comparison(AttributionKind.WINNER, option, value, having, lacking, tied)
    return Unmeasurable(option, value, f"cannot come back alone: {_refusal(lacking, option)}")


def _tied(having: Prepared, lacking: Prepared, option: str) -> tuple[Change, ...]:
    return tuple(
        (name, value)
        for name, value in having.effective.items()
        if lacking.effective.get(name) != value and name != option
    )


def _refusal(prepared: Prepared, option: str) -> str:
    names = option.split("|")
    return next(
        (one.reason for one in prepared.resolved.refused if one.symbol in names),
        "Kconfig does not let it",
    )
