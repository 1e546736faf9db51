"""What each option saves, estimated from the trials that passed; differences.

The method. Each passed trial is a row: which options had another value than in the baseline, and
by how many kB its objective differs from the baseline's. Before any trial, each change is expected
to save what the traced baseline has of it, more or less (nothing is known of a change that was not
looked at: 0 kB, give or take :data:`_SPREAD_KB`). The trials correct that: the savings are normally
distributed around what is expected, the measurements around the savings' sum, and the estimate is
the mean of what both leave (Bayesian linear regression; Bishop, Pattern Recognition and Machine
Learning, 2006, section 3.3). How far off the expectations are as a whole, the trials say too: all
doubts are scaled by the factor that makes what was measured likeliest (section 3.5 there).

Its limits. It is additive: what two options save only together is shared out between them. Options
that always changed together are told apart by what was expected of them alone: the trials know
their sum. Options that changed in failed trials alone have no estimate. The figures rank what to
look at; only a trial that changes one option is a measurement of it.

Its interval holds 90 % of that distribution; it is as good as the additive model is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from optimizer.records import PRICE_SAMPLER, Outcome, Trial

# Standard deviations in kB, as seen in small kernels: of what the sum of savings leaves unexplained
# (pages and alignment), and of the saving of a change of which nothing is known.
_UNEXPLAINED_KB = 8.0
_SPREAD_KB = 64.0
# What the doubts may be scaled by. Never down: the trials of one study are few, and alike.
_SCALES = tuple(2.0 ** (step / 2) for step in range(17))
# 90 % of a normal distribution lie within so many standard deviations.
_INTERVAL = 1.645

Change = tuple[str, str]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Expectation:
    """What changing an option is expected to save before any trial: mean and standard deviation."""

    saving_kb: float = 0.0
    doubt_kb: float = _SPREAD_KB


@dataclass(frozen=True)
class OptionSaving:
    """What changing an option saved, by estimate.

    ``value`` is what it was changed to. ``together_with`` names the other changes (option, value)
    that came with this one in every passed trial that has either: of these only the sum was seen.
    ``trials`` counts the trials in which it was made (duplicates aside), ``passed``
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


def option_savings(
    trials: Iterable[Trial], expected: Mapping[str, Expectation] | None = None
) -> list[OptionSaving]:
    """The estimated saving of every change made in any trial: greatest first, unknown ones last.

    Args:
        trials: of one study; number 0 is the baseline. Without a passed baseline there is nothing
            to compare with and every estimate is None. Duplicates tell nothing new: left out.
        expected: what each option was expected to save.
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
    together = _together(made, list(objectives))
    estimates = _estimates(list(together), made, objectives, expected or {})
    found = []
    for change, estimate in zip(together, estimates, strict=True):
        outcomes = [trial.outcome for trial in told if change in made[trial.number]]
        failed = [one for one in outcomes if one is not Outcome.PASSED]
        found.append(
            OptionSaving(
                option=change[0],
                value=change[1],
                saving_kb=None if estimate is None else estimate.saving_kb,
                low_kb=None if estimate is None else estimate.saving_kb - estimate.margin_kb,
                high_kb=None if estimate is None else estimate.saving_kb + estimate.margin_kb,
                trials=len(outcomes),
                passed=len(outcomes) - len(failed),
                failed={one: failed.count(one) for one in Outcome if one in failed},
                together_with=together[change],
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


def _together(
    changes: Mapping[int, frozenset[Change]], passed: Sequence[int]
) -> dict[Change, tuple[Change, ...]]:
    """Each change, and the others made in just the same passed trials; none if in no trial."""
    seen = {
        change: tuple(number for number in passed if change in changes[number])
        for change in sorted(frozenset().union(*changes.values()))
    }
    alike: dict[tuple[int, ...], list[Change]] = {}
    for change, numbers in seen.items():
        alike.setdefault(numbers, []).append(change)
    return {
        change: tuple(one for one in alike[numbers] if one != change) if numbers else ()
        for change, numbers in seen.items()
    }


@dataclass(frozen=True)
class _Estimate:
    saving_kb: float
    margin_kb: float


def _estimates(
    columns: Sequence[Change],
    changes: Mapping[int, frozenset[Change]],
    objectives: Mapping[int, float],
    expected: Mapping[str, Expectation],
) -> list[_Estimate | None]:
    """The saving of each change in kB; ``objectives`` are those of the passed trials by number."""
    if 0 not in objectives or not columns:
        return [None] * len(columns)
    # The baseline is the point of departure itself, not one observation among others: its row is
    # empty and there is no intercept.
    made = np.array(
        [[change in changes[number] for change in columns] for number in objectives], dtype=float
    )
    gained = np.array([objective - objectives[0] for objective in objectives.values()])
    # No value at all is what an option has whose menu is off: its going along saves nothing itself.
    before = [
        expected.get(option, Expectation()) if value else Expectation(0.0, 0.0)
        for option, value in columns
    ]
    means = np.array([one.saving_kb for one in before])
    variances = np.array([one.doubt_kb**2 for one in before])
    surprise = gained - made @ means
    # What the measurements have in common: they are of the same changes.
    shared = (made * variances) @ made.T
    noise = np.eye(len(gained)) * _UNEXPLAINED_KB**2
    scale = max(_SCALES, key=lambda one: _likelihood(surprise, one**2 * shared + noise))
    variances *= scale**2
    gain = np.linalg.solve(scale**2 * shared + noise, made * variances).T
    weights = means + gain @ surprise
    left = variances - np.einsum("ij,ji->i", gain, made * variances)
    margins = _INTERVAL * np.sqrt(np.maximum(left, 0.0))
    return [
        _Estimate(float(weight), float(margin)) if column.any() else None
        for weight, margin, column in zip(weights, margins, made.T, strict=True)
    ]


def _likelihood(surprise: Vector, covariance: Vector) -> float:
    """Logarithm of how likely the measurements are, less what is the same for any covariance."""
    _sign, logarithm = np.linalg.slogdet(covariance)
    return float(-0.5 * (logarithm + surprise @ np.linalg.solve(covariance, surprise)))
