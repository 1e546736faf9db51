"""Ask and tell: the Optuna study, kept in memory and rebuilt from the stored trials at start.

Only this module and :mod:`optimizer.search.samplers` know Optuna.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import optuna

from optimizer.records import PRICE_SAMPLER, Outcome, Trial
from optimizer.search.samplers import EFFECTIVE, WORKS, Belief, distributions, make_sampler
from optimizer.search.space import Space


class Study:
    """The search's memory of what was asked and what came of it.

    Args:
        space: the search space.
        sampler: a name of :data:`optimizer.search.samplers.SAMPLERS`.
        seed: of the sampler's random numbers. Each ask is seeded by this and its trial's number, so
            that a resumed study asks what an uninterrupted one would have asked.
        beliefs: what is thought of each candidate beforehand.
        past: the stored trials, in order.
    """

    def __init__(
        self,
        space: Space,
        sampler: str,
        seed: int,
        beliefs: Mapping[str, Belief],
        past: Iterable[Trial],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._sampler = sampler
        self._seed = seed
        self._beliefs = beliefs
        self._distributions = distributions(space)
        self._asked: dict[int, optuna.Trial] = {}
        self._study = optuna.create_study(direction="maximize")
        for trial in past:
            # What a kept option would save tells nothing of the candidates.
            if trial.sampler != PRICE_SAMPLER:
                self._replay(trial)

    def ask(self, number: int) -> dict[str, str]:
        """The params of the next variant.

        Args:
            number: the trial's number in the store.

        Raises:
            optimizer.search.samplers.NothingLeftError: the sampler has nothing left to try.
        """
        self._study.sampler = make_sampler(
            self._sampler, self._space, self._beliefs, (self._seed * 1_000_003 + number) % 2**32
        )
        trial = self._study.ask(self._distributions)
        self._asked[number] = trial
        return dict(trial.params)

    def tell(self, trial: Trial) -> None:
        """What came of an asked variant (or of one that was not asked, such as the baseline)."""
        asked = self._asked.pop(trial.number, None)
        if asked is None:
            self._replay(trial)
            return
        asked.set_user_attr(EFFECTIVE, dict(trial.effective))
        asked.set_constraint(WORKS, _violation(trial))
        self._study.tell(asked, trial.objective or 0.0)

    def _replay(self, trial: Trial) -> None:
        params = self._space.baseline | {
            name: value
            for name, value in trial.params.items()
            if name in self._distributions and value in self._space.candidate(name).values
        }
        self._study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions=self._distributions,
                value=trial.objective or 0.0,
                user_attrs={EFFECTIVE: dict(trial.effective)},
                constraints={WORKS: _violation(trial)},
            )
        )


def _violation(trial: Trial) -> float:
    """Optuna's constraint: 0 for a variant that works. A kernel that does not boot is knowledge, so
    it is told as complete but infeasible; samplers would ignore it as failed."""
    works = trial.objective is not None and trial.outcome in (Outcome.PASSED, Outcome.DUPLICATE)
    return 0.0 if works else 1.0
