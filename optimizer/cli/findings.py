"""All that is known of a study after its search, read from its database alone."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.cli import workshop
from optimizer.cli.results import chosen_trial, open_results
from optimizer.errors import UserError
from optimizer.records import Attribution, Step, SymbolFacts, Trial, Verdict
from optimizer.review.certificate import CertificateLine, Evidence, certify
from optimizer.review.prices import Price, prices
from optimizer.review.savings import Expectation
from optimizer.settings import Mark, load_marks
from optimizer.store import Database, Run, Study


@dataclass(frozen=True)
class Findings:
    """A study, its winner (or another trial), and what is known of its options.

    ``facts`` is empty when the database was never used on a machine with the kernel tree.
    """

    study: Study
    folder: Path
    settings: Mapping[str, Any]
    trials: list[Trial]
    runs: list[Run]
    baseline: Trial
    winner: Trial
    attributions: list[Attribution]
    steps: list[Step]
    facts: Mapping[str, SymbolFacts]
    baseline_facts: Mapping[str, SymbolFacts]
    left_out: Mapping[str, str]
    kept: tuple[str, ...]
    marks: Mapping[str, Mark]
    prices: list[Price]
    verdicts: list[Verdict]
    views: Mapping[str, str]

    @property
    def objectives(self) -> tuple[str, ...]:
        """The figures that the study optimizes: one or two."""
        return objectives_of(self.settings)

    @property
    def objective(self) -> str:
        """The first of them."""
        return self.objectives[0]

    @property
    def options(self) -> Mapping[str, Any]:
        """The study's options table, as written."""
        return dict(self.settings.get("options", {}))

    def certificate(self) -> list[CertificateLine]:
        """Why each option that is on in the winner is on."""
        options = self.options
        return certify(
            Evidence(
                trials=self.trials,
                winner=self.winner,
                verdicts=self.verdicts,
                kept=self.kept,
                gate=_names(options, "gate"),
                leave=_names(options, "leave"),
                left_out=self.left_out,
                facts=self.facts,
                prices=self.prices,
                marks=self.marks,
            )
        )


def find(study: str, results: str | None, trial: int | None) -> Findings:
    """Read what is known.

    Args:
        study: a study, or a folder that holds a trials.db.
        results: the results folder, None for the usual one.
        trial: the one to tell of, None for the best.

    Raises:
        UserError: the study was not run yet, nothing passed, no such trial, or a damaged file.
    """
    with open_results(study, results) as database:
        return gather(database, trial)


def gather(database: Database, trial: int | None) -> Findings:
    """What a database knows; see :func:`find`."""
    bound, trials = database.study(), database.trials()
    if bound is None or not trials:
        raise UserError(f"There are no trials yet in {database.path}.", "Run: memtotal run STUDY")
    winner = chosen_trial(database, trial)
    if winner.duplicate_of is not None:
        winner = database.trial(winner.duplicate_of)
    settings = tomllib.loads(bound.settings_text)
    kept = tuple(
        dict.fromkeys(
            (
                *_names(settings.get("options", {}), "keep"),
                *(
                    name
                    for name, one in bound.candidates.items()
                    if isinstance(one, Mapping) and "kept" in one
                ),
            )
        )
    )
    attributions = database.attributions()
    facts, marks = database.symbols(winner.number), load_marks()
    before = database.symbols(0)
    return Findings(
        study=bound,
        folder=database.folder,
        settings=settings,
        trials=trials,
        runs=database.runs(),
        baseline=database.trial(0),
        winner=winner,
        attributions=attributions,
        steps=database.steps(winner.number),
        facts=facts,
        baseline_facts=before,
        left_out=workshop.left_out(database),
        kept=kept,
        marks=marks,
        prices=prices(
            trials,
            winner,
            attributions,
            kept=kept,
            # What the winner has off is described by the baseline.
            facts={**before, **facts},
            marks=marks,
            objective=objectives_of(settings)[0],
            expected=_expected(database, settings),
        ),
        verdicts=database.verdicts(),
        views=database.view_descriptions(),
    )


def _expected(database: Database, settings: Mapping[str, Any]) -> dict[str, Expectation]:
    """What the traced baseline says of the candidates; in kB of MemTotal, so of no other goal."""
    if objectives_of(settings)[0] not in {"mem_total", "mem_available"}:
        return {}
    return {
        name: Expectation(one.saving_kb, one.doubt_kb)
        for name, one in workshop.stored_beliefs(database).items()
    }


def objectives_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a study's ``objective``: a word or a list of two."""
    given = settings.get("objective", "mem_total")
    return (given,) if isinstance(given, str) else tuple(given)


def _names(options: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(str(name).removeprefix("CONFIG_") for name in options.get(key, ()))
