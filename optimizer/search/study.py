"""Ask and tell: the Optuna study, kept in memory and rebuilt from the stored trials at start.

Only this module, :mod:`optimizer.search.samplers` and :mod:`optimizer.search.elimination` know
Optuna.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import optuna

from optimizer.records import PRICE_SAMPLER, BootState, Outcome, Trial
from optimizer.search.elimination import (
    BROKEN,
    EFFECTIVE,
    FIGURES,
    IMAGE,
    NUMBER,
    PASSED,
    EliminationSampler,
    distributions,
)
from optimizer.search.knowledge import BOOT, BUILD, Belief, Knowledge
from optimizer.search.objectives import OBJECTIVES, Objective, scores
from optimizer.search.samplers import make_sampler
from optimizer.search.space import Space

# Optuna's constraint: feasible at 0 and below.
WORKS = "works"


class Study:
    """The search's memory of what was asked and what came of it.

    Args:
        space: the search space.
        sampler: a name of :data:`optimizer.search.samplers.SAMPLERS`.
        seed: of the sampler's random numbers. Each ask is seeded by this and its trial's number, so
            that a resumed study asks what an uninterrupted one would have asked.
        beliefs: what is thought of each candidate beforehand.
        past: the stored trials, in order.
        objectives: one figure to optimize, or two for a Pareto front.
    """

    def __init__(
        self,
        space: Space,
        sampler: str,
        seed: int,
        beliefs: Mapping[str, Belief],
        past: Iterable[Trial],
        objectives: Sequence[Objective] = (OBJECTIVES["mem_total"],),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._sampler = sampler
        self._seed = seed
        self._beliefs = beliefs
        self._objectives = objectives
        self._tolerances = [one.scale * one.tolerance for one in objectives]
        # It keeps what it has read of the trials; the others are made anew for each ask.
        self._elimination = EliminationSampler(space, beliefs, self._tolerances)
        self._distributions = distributions(space)
        self._asked: dict[int, optuna.Trial] = {}
        self._told: dict[int, Trial] = {}
        self._study = optuna.create_study(directions=["maximize"] * len(objectives))
        for trial in past:
            # What a kept option would save tells nothing of the candidates.
            if trial.sampler != PRICE_SAMPLER:
                self._replay(trial)

    def ask(self, number: int) -> dict[str, str]:
        """The params of the next variant.

        Args:
            number: the trial's number in the store.

        Raises:
            optimizer.search.elimination.NothingLeftError: the sampler has nothing left to try.
        """
        if self._sampler == "elimination":
            self._study.sampler = self._elimination
        else:
            seed = (self._seed * 1_000_003 + number) % 2**32
            self._study.sampler = make_sampler(
                self._sampler, self._space, self._beliefs, seed, self._tolerances
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
        for name, value in self._attributes(trial).items():
            asked.set_user_attr(name, value)
        asked.set_constraint(WORKS, _violation(trial))
        self._study.tell(asked, self._values(trial))

    def knowledge(self) -> Knowledge:
        """What the trials told so far, whoever asked for them."""
        return self._elimination.knowledge(self._study)

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
                values=self._values(trial),
                user_attrs=self._attributes(trial),
                constraints={WORKS: _violation(trial)},
            )
        )

    def _values(self, trial: Trial) -> list[float]:
        """What Optuna's own samplers see: 0 for what failed, which the constraint sets apart."""
        figures = scores(self._objectives, self._source(trial)) if _works(trial) else None
        return list(figures or (0.0,) * len(self._objectives))

    def _attributes(self, trial: Trial) -> dict[str, object]:
        """The trial as the elimination sampler reads it."""
        source = self._source(trial)
        self._told[trial.number] = source
        found = scores(self._objectives, source)
        effective = dict(trial.effective)
        if effective.keys() != self._distributions.keys():
            # The study's lists of options have changed since.
            effective = self._space.effective_of(trial.assignment)
        return {
            NUMBER: trial.number,
            EFFECTIVE: effective,
            BROKEN: list(broken(source)),
            PASSED: sorted(passed(source)),
            FIGURES: None if found is None else list(found),
            IMAGE: source.build.image_bytes if source.build else 0,
        }

    def _source(self, trial: Trial) -> Trial:
        """The trial that was built: of a duplicate the one that it repeats."""
        if trial.outcome is Outcome.DUPLICATE and trial.duplicate_of is not None:
            return self._told.get(trial.duplicate_of, trial)
        return trial


def broken(trial: Trial) -> tuple[str, ...]:
    """What broke: "build", "boot", the checks' "suite/name" in order; empty when all works.

    A check that could not be made because of another one's failure is left out.
    """
    if _works(trial):
        return ()
    if trial.boot is None:
        return (BUILD,)
    if trial.boot.state is not BootState.READY:
        return (BOOT,)
    failed = (one for one in trial.boot.checks if not one.passed and not one.skipped)
    # None of them: no figures could be read.
    return tuple(f"{one.suite}/{one.name}" for one in failed) or (BOOT,)


def passed(trial: Trial) -> frozenset[str]:
    """What was seen to work, whatever else did not."""
    if trial.boot is None or trial.boot.state is not BootState.READY:
        return frozenset({BUILD} if trial.build is not None and trial.build.ok else ())
    checks = (f"{one.suite}/{one.name}" for one in trial.boot.checks if one.passed)
    return frozenset({BUILD, BOOT, *checks})


def _works(trial: Trial) -> bool:
    return trial.objective is not None and trial.outcome in (Outcome.PASSED, Outcome.DUPLICATE)


def _violation(trial: Trial) -> float:
    """Optuna's constraint: 0 for a variant that works. A kernel that does not boot is knowledge, so
    it is told as complete but infeasible; samplers would ignore it as failed."""
    return 0.0 if _works(trial) else 1.0
