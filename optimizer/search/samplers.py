"""Samplers by name: the project's own, and those of Optuna to compare it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from optimizer.search.elimination import EliminationSampler
from optimizer.search.knowledge import Belief
from optimizer.search.space import Space

SAMPLERS = ("elimination", "tpe", "random", "nsga2")


def make_sampler(
    name: str,
    space: Space,
    beliefs: Mapping[str, Belief],
    seed: int,
    tolerances: Sequence[float] = (0.0,),
) -> BaseSampler:
    """The sampler of that name, one of :data:`SAMPLERS`.

    Args:
        name: of the sampler.
        space: what it searches.
        beliefs: what is thought of each candidate beforehand; only elimination uses them.
        seed: of its random numbers; elimination has none.
        tolerances: for each objective the difference that is noise.
    """
    if name == "elimination":
        return EliminationSampler(space, beliefs, tolerances)
    if name == "tpe":
        return TPESampler(seed=seed, multivariate=True)
    if name == "nsga2":
        return NSGAIISampler(seed=seed)
    return RandomSampler(seed=seed)
