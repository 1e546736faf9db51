"""``memtotal report`` and ``dashboard``: a study as a page, and for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import click

from optimizer import __version__
from optimizer.cli.export import command_line
from optimizer.cli.findings import Findings, find
from optimizer.cli.results import write_file
from optimizer.cli.screen import kb, results_option
from optimizer.cli.workshop import datasette_metadata
from optimizer.review.ledger import ledger
from optimizer.review.report import Subject, render
from optimizer.search.dashboard import write_dashboard


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), default=None, help="Of this one, not the winner.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("report.html"),
    show_default=True, help="File to write.",
)  # fmt: skip
@results_option
def report(study: str, trial: int | None, output: Path, results: str | None) -> None:
    """STUDY as one page: the search, savings, certificate, failures, how to reproduce."""
    found = find(study, results, trial)
    subject = _subject(found, study)
    text = render(subject)
    write_file(output, text)
    click.echo(
        f"Wrote {output}: {len(text.encode()) / 1000:,.0f} kB; trial {found.winner.number}, "
        f"{kb(found.winner.objective)}, {len(subject.certificate)} options with a reason."
    )
    if not found.facts:
        click.echo(
            "It has no help texts, and does not know what Kconfig forces. "
            f"Where the study's kernel tree is: memtotal certificate {study}"
        )


def _subject(found: Findings, study: str) -> Subject:
    winner = found.winner
    last = found.runs[-1] if found.runs else None
    facts = {
        "kernel source": found.study.tree_identity,
        "compiler": found.study.compiler,
        "emulator": found.study.emulator,
        ".config sha256": winner.resolved.digest,
        "image sha256": winner.build.image_sha256 if winner.build else "",
        "kernel command line": command_line(found, study, winner),
        "study digest": found.study.study_digest,
    }
    if last is not None:
        facts["last run"] = (
            f"sampler {last.sampler}, seed {last.seed}, {last.jobs} at once, {last.cores} cores; "
            f"{last.stop_reason or 'was killed'}"
        )
    return Subject(
        study=found.study.name,
        name=study,
        version=__version__,
        objective=found.objective,
        kernel=winner.tools.get("kernel", found.study.tree_identity),
        compiler=found.study.compiler,
        emulator=found.study.emulator,
        settings=found.study.settings_text,
        trials=found.trials,
        baseline=found.baseline,
        winner=winner,
        prices=found.prices,
        certificate=found.certificate(),
        steps=found.steps,
        ledger=ledger(found.baseline, winner),
        facts={title: text for title, text in facts.items() if text},
    )


@click.command()
@click.argument("study")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None,
    help="File to write (dashboard.journal beside the study's trials.db).",
)  # fmt: skip
@click.option("--metadata-only", is_flag=True, help="Only datasette's metadata.json.")
@results_option
def dashboard(study: str, output: Path | None, metadata_only: bool, results: str | None) -> None:
    """Write STUDY's trials for optuna-dashboard and datasette, and say how to start them."""
    found = find(study, results, None)
    metadata = found.folder / "metadata.json"
    text = json.dumps(datasette_metadata(found.study.name, found.views), indent=2) + "\n"
    write_file(metadata, text)
    if metadata_only:
        click.echo(f"Wrote {metadata}.")
        return
    path = (output or found.folder / "dashboard.journal").absolute()
    draft = path.with_name(f".{path.name}.part")
    varied = write_dashboard(found.trials, found.study.name, found.objective, draft)
    draft.replace(path)
    click.echo(f"Wrote {path}: {len(found.trials)} trials, {varied} options that varied.")
    click.echo(f"Start:  optuna-dashboard {path}   (pip install optuna-dashboard)")
    click.echo(f"Or:     datasette {found.folder / 'trials.db'} --metadata {metadata}")
