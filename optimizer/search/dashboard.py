"""A study's trials as optuna-dashboard reads them.

The trials table stays the one truth; this is a copy to look at, made anew each time. Options that
never varied are left out: they say nothing, and the dashboard's time grows with them. The file is
Optuna's journal: its database takes half a second for each trial of some hundred options.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from optimizer.records import Outcome, Trial

# What optuna-dashboard reads a trial's constraints from: feasible where all are at most 0.
_CONSTRAINTS = "constraints"


def write_dashboard(trials: Sequence[Trial], study: str, objective: str, path: Path) -> int:
    """Write a new journal of Optuna's.

    Args:
        trials: all of the study's.
        study: its name.
        objective: name of the figure, in kB.
        path: the file; one that is there is replaced.

    Returns:
        The number of options that varied.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    values: dict[str, dict[str, None]] = {}
    for trial in trials:
        for name, value in trial.effective.items():
            values.setdefault(name, {})[value] = None
    varied = {
        name: CategoricalDistribution(tuple(seen)) for name, seen in values.items() if len(seen) > 1
    }
    path.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(path)))
    name = f"{study}: {objective} in kB"
    made = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    for trial in trials:
        works = trial.objective is not None and trial.outcome in (
            Outcome.PASSED,
            Outcome.DUPLICATE,
        )
        params = {name: trial.effective[name] for name in varied if name in trial.effective}
        frozen = optuna.trial.create_trial(
            state=TrialState.COMPLETE if works else TrialState.FAIL,
            params=params,
            distributions={name: varied[name] for name in params},
            value=trial.objective if works else None,
            user_attrs={
                "trial": trial.number,
                "outcome": trial.outcome.value,
                "reason": trial.reason,
                "sampler": trial.sampler,
            },
            system_attrs={_CONSTRAINTS: (0.0 if works else 1.0,)},
        )
        made.add_trial(frozen)
    return len(varied)
