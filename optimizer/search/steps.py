"""The way from the baseline to a winner in a few steps that a person can review one by one.

The changes are put into groups by the menu that they are in, the group with the greatest saving
first; each step has the changes of all steps before it too. Menus that save much are taken apart,
those that save little are put together, so that no step hides most of the saving. A step that does
not work by itself (something in it needs what comes later) is made one with the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optimizer.records import Step, Trial
from optimizer.search.series import Prepared, Request, prepare
from optimizer.search.space import Change, Space

OPENING = "Make the prompts of experts' options visible"


@dataclass(frozen=True)
class PlannedStep:
    """A step before it is measured."""

    title: str
    changes: tuple[Change, ...]
    prepared: Prepared


def plan(
    space: Space,
    winner: Trial,
    changes: Sequence[Change],
    savings_kb: Mapping[Change, float],
    most: int,
) -> list[PlannedStep]:
    """The steps to build, the last of which is the winner.

    Args:
        space: the search space.
        winner: where they lead.
        changes: what differs between the baseline and the winner.
        savings_kb: what each change saves, as far as that is known.
        most: so many steps at most (the first, which only opens prompts, not counted).
    """
    menus = {change: space.candidate(change[0]).menu for change in changes}
    groups = grouped(menus, savings_kb, most)
    planned = [PlannedStep(OPENING, (), prepare(space, Request({})))]
    params: dict[str, str] = {}
    for index, (title, members) in enumerate(groups, 1):
        params |= dict(members)
        last = index == len(groups)
        # The winner is what was asked for there, also where Kconfig gave something else.
        request = Request(winner.params if last else params)
        planned.append(PlannedStep(title, members, prepare(space, request)))
    return planned


def grouped(
    menus: Mapping[Change, Sequence[str]], savings_kb: Mapping[Change, float], most: int
) -> list[tuple[str, tuple[Change, ...]]]:
    """Changes in groups by menu, at most so many, the greatest saving first: (title, changes).

    It begins with the outermost menus, the smallest of them put together as "Everything else" where
    there are too many. Then the group that saves most gives its greatest submenu away, again and
    again, as long as what has to be put together for that saves less than what it shows.

    Args:
        menus: the menus that each change is in, the outermost first.
        savings_kb: what each change saves, as far as that is known.
        most: so many groups, at least one.
    """

    def worth(members: Sequence[Change]) -> float:
        return sum(savings_kb.get(change, 0.0) for change in members)

    def largest_first(one: tuple[Sequence[str], Sequence[Change]]) -> tuple[float, Sequence[str]]:
        return -worth(one[1]), one[0]

    groups: dict[tuple[str, ...], list[Change]] = {}
    for change, menu in menus.items():
        groups.setdefault(tuple(menu[:1]) or (_TOP,), []).append(change)
    groups, rest = _at_most(groups, [], most, worth)
    while True:
        for menu, members in sorted(groups.items(), key=largest_first):
            inside: dict[tuple[str, ...], list[Change]] = {}
            for change in members:
                inside.setdefault(tuple(menus[change][: len(menu) + 1]), []).append(change)
            inside.pop(menu, None)  # what is in the menu itself
            shown, given = min(inside.items(), key=largest_first, default=(menu, []))
            if 0.0 < worth(given) < worth(members):
                break
        else:
            break
        split = {**groups, menu: [one for one in members if one not in given], shown: given}
        split, more = _at_most(split, rest, most, worth)
        if more != rest and worth(more) >= worth(given):
            break
        groups, rest = split, more
    found = sorted(groups.items(), key=largest_first)
    titled = [(" > ".join(menu), tuple(members)) for menu, members in found]
    return [*titled, (_REST, tuple(rest))] if rest else titled


_TOP = "Top menu"
_REST = "Everything else"


def _at_most(
    groups: Mapping[tuple[str, ...], list[Change]],
    rest: Sequence[Change],
    most: int,
    worth: Callable[[Sequence[Change]], float],
) -> tuple[dict[tuple[str, ...], list[Change]], list[Change]]:
    """The groups that save most, and what is put together of the others."""
    left, together = dict(groups), list(rest)
    while len(left) + bool(together) > most and left:
        least = min(left, key=lambda menu: (worth(left[menu]), menu))
        together += left.pop(least)
    return left, together


def measured(planned: Sequence[PlannedStep], trials: Mapping[int, Trial]) -> list[Step]:
    """The steps that work, by the trials of the planned ones (index -> trial).

    What does not pass, or comes to nothing, is part of the next step.
    """
    found: list[Step] = []
    titles: list[str] = []
    changes: list[Change] = []
    before: object = None
    for index, step in enumerate(planned):
        if step.changes:
            titles.append(step.title)
        changes += step.changes
        trial = trials.get(index)
        if trial is None or trial.objective is None:
            continue
        # Parameters of the command line change what boots, not what is built.
        here = (trial.resolved.digest, dict(trial.assignment.parameters))
        if here == before:
            continue
        if index + 1 < len(planned) and trial.number == 0:
            continue
        title = "; ".join(titles) or step.title
        found.append(Step(len(found) + 1, title, tuple(changes), trial.number))
        titles, changes, before = [], [], here
    return found
