"""The way from the baseline to a winner in a few steps that a person can review one by one.

The changes are put into groups by the menu that they are in, the group with the greatest saving
first; each step has the changes of all steps before it too. A step that does not work by itself
(something in it needs what comes later) is made one with the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(_menu(space, change[0]), []).append(change)
    worth = {
        menu: sum(savings_kb.get(change, 0.0) for change in members)
        for menu, members in groups.items()
    }
    titles = sorted(groups, key=lambda menu: (-worth[menu], menu))
    if len(titles) > most:
        rest = [change for menu in titles[most - 1 :] for change in groups[menu]]
        titles = titles[: most - 1]
        groups["Everything else"] = rest
        titles.append("Everything else")
    planned = [PlannedStep(OPENING, (), prepare(space, Request({})))]
    params: dict[str, str] = {}
    for title in titles:
        params |= dict(groups[title])
        last = title == titles[-1]
        # The winner is what was asked for there, also where Kconfig gave something else.
        request = Request(winner.params if last else params)
        planned.append(PlannedStep(title, tuple(groups[title]), prepare(space, request)))
    return planned


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


def _menu(space: Space, option: str) -> str:
    menu = space.candidate(option).menu
    return " > ".join(menu[:2]) or "Top menu"
