"""What each option saves, estimated from the trials that passed; differences.

The method. Each passed trial is a row: which options had another value than in the baseline, and
by how many kB its objective differs from the baseline's. The savings are the weights that explain
those differences best when summed, found by least squares with a penalty on their squares (ridge
regression), which also has one answer when there are fewer trials than options.

Its limits. It is additive: what two options save only together is shared out between them. Options
that always changed together cannot be told apart and are one entry; those that nearly always did
are told apart by little evidence. An option seen in few trials is drawn towards 0. Options that
changed in failed trials alone have no estimate. The figures rank what to look at; only a trial that
changes one option is a measurement of it.

Its interval. The same penalty read as Bayes does: savings spread around 0, measurements around
their sum, both normally. Then the estimate is a normal distribution too, and the interval holds 90
% of it (Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3). It is as good as the
additive model is; the spread of the savings is taken from the trials where they show a greater one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from optimizer.records import PRICE_SAMPLER, Outcome, Trial

# The penalty is the ratio of two variances: of what the sum of savings leaves unexplained (pages
# and alignment), and of the savings themselves. Both in kB, as seen in small kernels.
_UNEXPLAINED_KB = 8.0
_SPREAD_KB = 64.0
# 90 % of a normal distribution lie within so many standard deviations.
_INTERVAL = 1.645

Change = tuple[str, str]


@dataclass(frozen=True)
class OptionSaving:
    """What changing an option saved, by estimate.

    ``value`` is what it was changed to. ``together_with`` names the other changes (option, value)
    that came with this one in every passed trial that has either: the estimate is of all of them at
    once. ``trials`` counts the trials in which any of them was made (duplicates aside), ``passed``
    those that passed, ``failed`` the others by outcome. ``saving_kb`` is what the objective gains
    over the baseline; None without a passed trial to tell from. ``low_kb`` and ``high_kb`` are the
    ends of its 90 % interval.
    """

    option: str
    value: str
    saving_kb: float | None
    trials: int
    passed: int
    failed: Mapping[Outcome, int] = field(default_factory=dict)
    together_with: tuple[Change, ...] = ()
    low_kb: float | None = None
    high_kb: float | None = None


def option_savings(trials: Iterable[Trial]) -> list[OptionSaving]:
    """The estimated saving of every change made in any trial: greatest first, unknown ones last.

    Args:
        trials: of one study; number 0 is the baseline. Without a passed baseline there is nothing
            to compare with and every estimate is None. Duplicates tell nothing new: left out.
    """
    told = sorted(
        (
            trial
            for trial in trials
            if trial.outcome is not Outcome.DUPLICATE and trial.sampler != PRICE_SAMPLER
        ),
        key=lambda trial: trial.number,
    )
    baseline = next((trial for trial in told if trial.number == 0), None)
    if baseline is None:
        return []
    made = {trial.number: changes(trial, baseline) for trial in told}
    objectives = {
        trial.number: objective for trial in told if (objective := _objective(trial)) is not None
    }
    groups = _groups(made, list(objectives))
    estimates = _estimates(groups, made, objectives)
    found = []
    for group, estimate in zip(groups, estimates, strict=True):
        touched = [trial for trial in told if not made[trial.number].isdisjoint(group)]
        outcomes = [trial.outcome for trial in touched if trial.outcome is not Outcome.PASSED]
        (option, value), *others = group
        found.append(
            OptionSaving(
                option=option,
                value=value,
                saving_kb=None if estimate is None else estimate.saving_kb,
                low_kb=None if estimate is None else estimate.saving_kb - estimate.margin_kb,
                high_kb=None if estimate is None else estimate.saving_kb + estimate.margin_kb,
                trials=len(touched),
                passed=len(touched) - len(outcomes),
                failed={one: outcomes.count(one) for one in Outcome if one in outcomes},
                together_with=tuple(others),
            )
        )
    return sorted(
        found,
        key=lambda one: (one.saving_kb is None, -(one.saving_kb or 0.0), one.option, one.value),
    )


def differences(trial: Trial, baseline: Trial) -> list[tuple[str, str, str]]:
    """(option, its value in the baseline, its value in the trial) where they differ, by name.

    An option that only one of them has among its candidates is no difference: nothing is known of
    it in the other.
    """
    return [
        (name, baseline.effective[name], value)
        for name, value in sorted(trial.effective.items())
        if name in baseline.effective and baseline.effective[name] != value
    ]


def _objective(trial: Trial) -> float | None:
    return trial.objective if trial.outcome is Outcome.PASSED else None


def changes(trial: Trial, baseline: Trial) -> frozenset[Change]:
    """(option, value) where a trial differs from the baseline; see :func:`differences`."""
    before = baseline.effective
    return frozenset(
        change for change in trial.effective.items() - before.items() if change[0] in before
    )


def _groups(changes: Mapping[int, frozenset[Change]], passed: Sequence[int]) -> list[list[Change]]:
    """Changes made in exactly the same passed trials; one made in none of them is by itself."""
    together: dict[tuple[object, ...], list[Change]] = {}
    for change in sorted(frozenset().union(*changes.values())):
        seen = tuple(number for number in passed if change in changes[number])
        together.setdefault(seen or ("never passed", change), []).append(change)
    return list(together.values())


@dataclass(frozen=True)
class _Estimate:
    saving_kb: float
    margin_kb: float


def _estimates(
    groups: Sequence[Sequence[Change]],
    changes: Mapping[int, frozenset[Change]],
    objectives: Mapping[int, float],
) -> list[_Estimate | None]:
    """The saving of each group in kB; ``objectives`` are those of the passed trials by number."""
    if 0 not in objectives:
        return [None] * len(groups)
    made = np.array(
        [[group[0] in changes[number] for group in groups] for number in objectives], dtype=float
    )
    gained = np.array([objective - objectives[0] for objective in objectives.values()])
    # A group is a sum of savings, and in a few trials large groups are all there is: what they gain
    # says how far savings spread.
    seen = [
        abs(objective - objectives[0]) / np.sqrt(max(1, len(changes[number])))
        for number, objective in objectives.items()
    ]
    spread = max(_SPREAD_KB, *seen)
    sizes = np.array([len(group) for group in groups], dtype=float)
    # The baseline is the point of departure itself, not one observation among others: its row is
    # empty and there is no intercept.
    inverse = np.linalg.inv(
        made.T @ made + np.diag((_UNEXPLAINED_KB / spread) ** 2 / np.maximum(sizes, 1.0))
    )
    weights = inverse @ made.T @ gained
    margins = _INTERVAL * _UNEXPLAINED_KB * np.sqrt(np.diag(inverse))
    return [
        _Estimate(float(weight), float(margin)) if column.any() else None
        for weight, margin, column in zip(weights, margins, made.T, strict=True)
    ]
