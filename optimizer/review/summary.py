"""A study in a few figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optimizer.records import Outcome, Trial


@dataclass(frozen=True)
class Summary:
    """Figures of a study so far; None where there is none yet.

    ``seconds`` is the time spent in trials, ``builds_per_hour`` refers to it.
    """

    trials: int
    outcomes: Mapping[str, int]
    builds: int
    baseline_kb: float | None
    best_kb: float | None
    best_trial: int | None
    gain_kb: float | None
    seconds: float
    builds_per_hour: float | None


def summarize(trials: Sequence[Trial]) -> Summary:
    """The figures of those trials, which are one study's."""
    baseline = next((one.objective for one in trials if one.number == 0), None)
    passed = [one for one in trials if one.outcome is Outcome.PASSED and one.objective is not None]
    best = max(passed, key=lambda one: one.rank, default=None)
    best_kb = best.objective if best else None
    builds = sum(one.build is not None for one in trials)
    seconds = sum(one.seconds for one in trials)
    return Summary(
        trials=len(trials),
        outcomes={
            outcome.value: count
            for outcome in Outcome
            if (count := sum(one.outcome is outcome for one in trials))
        },
        builds=builds,
        baseline_kb=baseline,
        best_kb=best_kb,
        best_trial=best.number if best else None,
        gain_kb=None if best_kb is None or baseline is None else best_kb - baseline,
        seconds=round(seconds, 1),
        builds_per_hour=round(builds / seconds * 3600, 1) if seconds else None,
    )
