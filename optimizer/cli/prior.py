"""``memtotal prior``: what is thought of every candidate before the first variant is built."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli import workshop
from optimizer.cli.screen import as_json_option, console, results_option
from optimizer.cli.session import Wishes, session
from optimizer.errors import MachineFault
from optimizer.search.knowledge import Belief
from optimizer.settings import load_study
from optimizer.store import Database


@click.command()
@click.argument("study")
@click.option("--top", type=click.IntRange(1), default=None, help="Only so many candidates.")
@click.option(
    "--anew", is_flag=True, help="Trace the baseline again: after an update of memtotal, say."
)
@as_json_option
@results_option
def prior(study: str, top: int | None, anew: bool, as_json: bool, results: str | None) -> None:
    """How likely STUDY needs each option, and what dropping it may save, before anything is tried.

    From one traced run of the baseline with its smoke checks, which is built and measured first
    unless a run did that already. The probabilities set the order of the search and no more: the
    trials overrule them.
    """
    beliefs = {} if anew else _stored(study, results)
    if not beliefs:
        with session(study, results, Wishes(aside=as_json)) as opened:
            beliefs = opened.prepare(anew=anew)
        if opened.ending.interrupted:
            raise click.exceptions.Exit(130)
    if not beliefs:
        raise MachineFault("The traced run failed.", "Run it again; the log says what happened.")
    ranked = sorted(beliefs.items(), key=lambda item: (-_worth(item[1]), item[0]))[:top]
    if as_json:
        document = {name: _document(one) for name, one in ranked}
        click.echo(json.dumps(document, indent=2))
        return
    table = Table(box=None)
    for title in ("option", "needed", "most for", "saves about", "objects", "what ran"):
        left = title in ("option", "most for", "what ran")
        table.add_column(title, justify="left" if left else "right")
    for name, one in ranked:
        most = max(one.needs, key=lambda what: one.needs[what], default="")
        table.add_row(
            Text(name[:40]),
            f"{one.needed:.1%}",
            most,
            f"{one.saving_kb:,.1f} kB",
            str(one.objects),
            Text(one.ran[:90]),
        )
    screen = console()
    screen.print(table)
    screen.print(
        "needed: probability that something breaks without it. objects: compiled again for it."
    )


def _document(belief: Belief) -> dict[str, object]:
    told = asdict(belief) | {"needed": belief.needed, "objects": belief.objects}
    del told["compiled"]
    return told


def _stored(study: str, results: str | None) -> dict[str, Belief]:
    path = workshop.study_folder(load_study(study).name, results) / "trials.db"
    if not path.is_file():
        return {}
    with Database.read(path) as database:
        return workshop.stored_beliefs(database)


def _worth(belief: Belief) -> float:
    """What trying it is expected to bring, in kB."""
    return belief.saving_kb * (1.0 - belief.needed)
