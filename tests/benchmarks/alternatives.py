"""What the other alternatives of choices did in the studies that were really run.

    PYTHONPATH=tests python -m benchmarks.alternatives results/reference/*/trials.db \\
        --output tests/benchmarks/data/alternatives.json

Two trials of a study that differ in one choice alone tell what that alternative does. All that is
known of one choice in one study is kept together, since its alternatives are not independent: where
the first one does nothing, the next one hardly ever does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from optimizer.errors import MemtotalError
from optimizer.records import MEASURING_SAMPLERS, Outcome, Trial
from optimizer.store import Database

SEPARATOR = "|"
_BROKEN = (Outcome.BUILD_FAILED, Outcome.BOOT_FAILED, Outcome.SMOKE_FAILED)


@dataclass(frozen=True)
class MeasuredChoice:
    """What the alternatives of a choice did in one study.

    ``effects`` has, by member and in the order in which the study tried them, the kB that it saves
    over the baseline's member (below 0 where it costs), or None where something broke.
    """

    study: str
    choice: str
    effects: Mapping[str, float | None]


def measured(study: str, trials: Iterable[Trial]) -> list[MeasuredChoice]:
    """What a study's trials tell of single alternatives.

    Args:
        study: its name.
        trials: in order, the baseline first. That one's values are those without effect.
    """
    finished = [
        one
        for one in trials
        # Those that measure single steps do not say all that they changed by their params.
        if one.outcome in (Outcome.PASSED, *_BROKEN) and one.sampler not in MEASURING_SAMPLERS
    ]
    if not finished:
        return []
    start = finished[0].effective
    found: dict[str, dict[str, float | None]] = {}
    before: dict[tuple[str, frozenset[tuple[str, str]]], list[Trial]] = {}
    for trial in finished:
        for choice, value in trial.params.items():
            if SEPARATOR not in choice or choice not in start:
                continue
            others = frozenset(
                (name, one)
                for name, one in trial.params.items()
                if name != choice and one != start.get(name)
            )
            alike = before.setdefault((choice, others), [])
            effects = found.setdefault(choice, {start[choice]: 0.0})
            if value not in effects and trial.effective[choice] == value:
                effect = _effect(trial, alike, effects, choice)
                if effect is not None:
                    effects[value] = effect[0]
            if trial.outcome is Outcome.PASSED:
                alike.append(trial)
    return [
        MeasuredChoice(study, choice, known)
        for choice, effects in found.items()
        if (known := {value: kb for value, kb in effects.items() if value != start[choice]})
    ]


def _effect(
    trial: Trial, alike: Sequence[Trial], effects: Mapping[str, float | None], choice: str
) -> tuple[float | None] | None:
    """What the trial's alternative does, from one that passed with another whose effect is known;
    None when there is no such trial."""
    for other in reversed(alike):
        known = effects.get(other.params[choice])
        if known is not None and other.objective is not None:
            return (None if trial.objective is None else known + trial.objective - other.objective,)
    return None


def read(path: Path) -> tuple[MeasuredChoice, ...]:
    """Read what :func:`write` wrote."""
    return tuple(MeasuredChoice(**one) for one in json.loads(path.read_text(encoding="utf-8")))


def write(choices: Sequence[MeasuredChoice], path: Path) -> None:
    """Write them, a choice a line."""
    lines = ",\n".join(json.dumps(asdict(one)) for one in choices)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


@click.command()
@click.argument("databases", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(databases: Sequence[Path], output: Path) -> None:
    """Write to OUTPUT what the trials in DATABASES tell of single alternatives."""
    found: list[MeasuredChoice] = []
    try:
        for path in databases:
            with Database.read(path) as database:
                found += measured(path.parent.name, database.trials())
    except MemtotalError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    write(found, output)
    print(f"{output}: {len(found)} choices, {sum(len(one.effects) for one in found)} alternatives")


if __name__ == "__main__":
    main()
