"""``memtotal review``, ``certificate`` and ``why``: what each option saves, and why others stay."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli import workshop
from optimizer.cli.findings import Findings, find
from optimizer.cli.results import trial_row, write_file
from optimizer.cli.screen import as_json_option, console, kb, results_option, span
from optimizer.errors import UserError
from optimizer.records import Outcome, SymbolFacts, Trial
from optimizer.review.certificate import OPEN, CertificateLine, Reason
from optimizer.review.prices import Basis, Measured, Price, Role
from optimizer.review.savings import differences
from optimizer.search.objectives import objectives, pareto_front
from optimizer.settings import load_study

KINDS = ("table", "csv", "json", "markdown")
SORTS = ("saving", "option", "trials")
COLUMNS = (
    *("option", "value", "before", "role", "saving_kb", "basis", "low_kb", "high_kb"),
    "measured_at",
    *("mem_total_kb", "mem_available_kb", "image_bytes", "baseline_saving_kb", "interaction_kb"),
    *("trials", "passed", "failed", "together_with", "prompt", "mark", "loses", "does"),
)


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), default=None, help="Of this one, not the winner.")
@click.option("--top", type=click.IntRange(1), default=None, help="Only so many options.")
@click.option("--failed", is_flag=True, help="Only the trials that failed, and no options.")
@click.option(
    "--grep", default="", metavar="TEXT", help="Only options with this in name or prompt."
)
@click.option("--measured", is_flag=True, help="Only options that were measured.")
@click.option("--kept", is_flag=True, help="Only what the study keeps.")
@click.option("--sort", type=click.Choice(SORTS), default="saving", show_default=True)
@click.option(
    "--format", "kind", type=click.Choice(KINDS), default="table", show_default=True,
    help="csv and markdown have the options alone.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None,
    help="File to write (else standard output).",
)  # fmt: skip
@as_json_option
@results_option
def review(
    study: str,
    trial: int | None,
    top: int | None,
    failed: bool,
    grep: str,
    measured: bool,
    kept: bool,
    sort: str,
    kind: str,
    output: Path | None,
    as_json: bool,
    results: str | None,
) -> None:
    """The trials as a table, and what each option saves: measured, or estimated where it was
    not."""
    kind = "json" if as_json else kind
    if failed and (kind in ("csv", "markdown") or (output is not None and kind != "json")):
        raise click.UsageError("--failed shows trials: as a table on the screen, or as json.")
    found = find(study, results, trial)
    chosen = [
        one
        for one in found.prices
        if (not grep or grep.lower() in f"{one.option} {one.prompt}".lower())
        and (not measured or one.basis in (Basis.MEASURED, Basis.SECTIONS))
        and (not kept or one.role is Role.KEPT)
    ]
    if sort != "saving":
        chosen.sort(key=lambda one: (0 if sort == "option" else -one.trials, one.option))
    chosen = [] if failed else chosen[:top]
    shown = [
        one
        for one in found.trials
        if not failed or one.outcome not in (Outcome.PASSED, Outcome.DUPLICATE)
    ]
    if kind == "table" and output is None:
        _print(found, shown, chosen)
        return
    if kind == "json":
        document = {
            "trials": [trial_row(one) for one in shown],
            "savings": [price_row(one) for one in chosen],
            "left_out": dict(found.left_out),
        }
        text = json.dumps(document, indent=2) + "\n"
    elif kind == "csv":
        text = savings_csv(chosen)
    else:
        text = savings_markdown(chosen, found)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text)
        click.echo(f"Wrote {output}: {len(chosen)} options.")


def price_row(price: Price) -> dict[str, object]:
    """A price as a flat row for programs."""
    near, at_baseline = price.at_winner or price.elsewhere, price.at_baseline
    return {
        "option": price.option,
        "value": price.value,
        "before": price.before,
        "role": price.role.value,
        "saving_kb": price.saving_kb,
        "basis": price.basis.value,
        "estimate_kb": price.estimate_kb,
        "low_kb": price.low_kb,
        "high_kb": price.high_kb,
        "measured_at": price.told.at_trial if price.told else None,
        "mem_total_kb": near.mem_total_kb if near else None,
        "mem_available_kb": near.mem_available_kb if near else None,
        "image_bytes": near.image_bytes if near else None,
        "baseline_saving_kb": at_baseline.saving_kb if at_baseline else None,
        "interaction_kb": price.interaction_kb,
        "measured_by": [one.with_trial for one in (near, at_baseline) if one],
        "trials": price.trials,
        "passed": price.passed,
        "failed": dict(price.failed),
        "together_with": [list(one) for one in price.together_with],
        "prompt": price.prompt,
        "mark": price.mark.kind if price.mark else None,
        "loses": price.mark.loses if price.mark else None,
        "does": price.does,
    }


def savings_csv(found: Sequence[Price]) -> str:
    """The savings as a CSV file with a header."""
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for one in found:
        row = price_row(one)
        row["failed"] = sum(one.failed.values())
        row["together_with"] = " ".join(f"{name}={value}" for name, value in one.together_with)
        for key in ("saving_kb", "low_kb", "high_kb"):
            row[key] = None if row[key] is None else round(float(str(row[key])), 1)
        writer.writerow(row)
    return sheet.getvalue()


def savings_markdown(found: Sequence[Price], about: Findings) -> str:
    """The savings as a Markdown table."""
    baseline, winner = about.baseline.objective or 0.0, about.winner.objective or 0.0
    lines = [
        f"# Savings of {about.study.name}",
        "",
        f"Trial {about.winner.number}: {kb(winner)}, {winner - baseline:+,.0f} kB on the baseline. "
        "Figures with ± are estimates (90 % interval); the others are measured.",
        "",
        "| option | to | saves | trials | note |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for one in found:
        cells = (one.option, one.value, saving_text(one), str(one.trials), note(one))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def saving_text(price: Price) -> str:
    """A saving as people read it: 24 kB, or 24 ± 6 kB for an estimate."""
    if price.saving_kb is None:
        return "not known"
    if price.basis is Basis.ESTIMATED and price.high_kb is not None:
        return f"{price.saving_kb:,.0f} ± {price.high_kb - price.saving_kb:,.0f} kB"
    mark = " (image)" if price.basis is Basis.SECTIONS else ""
    return f"{price.saving_kb:,.0f} kB{mark}"


def note(price: Price) -> str:
    """What else to know of an option."""
    parts = []
    if price.mark:
        parts.append(f"{price.mark.kind.upper()}: {price.mark.loses}")
    if price.role is Role.KEPT:
        parts.append("kept by the study")
    if price.elsewhere:
        parts.append(f"measured at trial {price.elsewhere.at_trial}, not at this one")
    if price.interaction_kb:
        parts.append(f"{price.interaction_kb:+,.0f} kB of it with others only")
    if price.together_with:
        others = ", ".join(name for name, _ in price.together_with[:3])
        more = len(price.together_with) - 3
        seen = "never seen without" if price.basis is Basis.ESTIMATED else "together with"
        parts.append(f"{seen} {others}" + (f" and {more} more" if more > 0 else ""))
    return "; ".join(parts)


def _print(found: Findings, shown: Sequence[Trial], chosen: Sequence[Price]) -> None:
    screen = console()
    screen.print(_trial_table(shown, found.baseline.objective))
    if chosen:
        screen.print()
        screen.print(_price_table(chosen))
        screen.print(
            "± marks an estimate with its 90 % interval: what the traced baseline has of the "
            "option, corrected by the passed trials. `memtotal attribute` measures."
        )
    if len(found.objectives) > 1:
        screen.print()
        screen.print(_front_table(found))
    for name, reason in found.left_out.items():
        screen.print(f"Left out of the search: {name}: {reason}")


def _front_table(found: Findings) -> Table:
    """The variants of which no other is better in both objectives."""
    wanted = objectives(found.objectives)
    table = Table("trial", title="Pareto front", box=None, title_justify="left")
    for one in wanted:
        table.add_column(one.name, justify="right")
    passed = [one for one in found.trials if one.outcome is Outcome.PASSED]
    for trial in pareto_front(wanted, passed):
        table.add_row(str(trial.number), *(one.text(one.of(trial)) for one in wanted))
    return table


def _trial_table(shown: Sequence[Trial], baseline: float | None) -> Table:
    table = Table(box=None)
    for title in (
        *("trial", "outcome", "figure", "gain", "image", "asked", "refused", "objects", "took"),
        "why",
    ):
        table.add_column(title, justify="left" if title in ("outcome", "why") else "right")
    for one in shown:
        gain = (
            "" if one.objective is None or baseline is None else f"{one.objective - baseline:+,.0f}"
        )
        table.add_row(
            str(one.number),
            one.outcome.value,
            kb(one.objective),
            gain,
            f"{one.build.image_bytes:,}" if one.build and one.build.ok else "",
            str(len(one.assignment.values)),
            str(len(one.resolved.refused)),
            str(one.build.objects) if one.build else "",
            span(one.seconds),
            Text(one.reason[:60]),
        )
    return table


def _price_table(chosen: Sequence[Price]) -> Table:
    table = Table(box=None)
    for title in ("option", "to", "saves", "from", "trials", "passed", "failed", "note"):
        left = title in ("option", "to", "from", "note")
        table.add_column(title, justify="left" if left else "right")
    for one in chosen:
        style = "yellow" if one.mark and one.mark.kind != "diagnosis" else ""
        table.add_row(
            Text(one.option),
            Text(one.value),
            saving_text(one),
            one.basis.value if one.basis is not Basis.NONE else "",
            str(one.trials),
            str(one.passed),
            str(sum(one.failed.values())),
            Text(note(one), style=style),
        )
    return table


# --- certificate


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), default=None, help="Of this one, not the winner.")
@click.option("--open", "only_open", is_flag=True, help="Only what the search did not settle.")
@click.option(
    "--format", "kind", type=click.Choice(("table", "json", "markdown")), default="table",
    show_default=True,
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None,
    help="File to write (else standard output).",
)  # fmt: skip
@as_json_option
@results_option
def certificate(
    study: str,
    trial: int | None,
    only_open: bool,
    kind: str,
    output: Path | None,
    as_json: bool,
    results: str | None,
) -> None:
    """Why each option that is on in STUDY's winner is on."""
    found = described(study, results, trial)
    lines = [one for one in found.certificate() if not only_open or one.reason in OPEN]
    kind = "json" if as_json else kind
    if kind == "table" and output is None:
        _print_certificate(lines, bool(found.facts))
        return
    text = (
        json.dumps([certificate_row(one) for one in lines], indent=2) + "\n"
        if kind == "json"
        else certificate_markdown(lines, found)
    )
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text)
        click.echo(f"Wrote {output}: {len(lines)} options.")


def certificate_row(line: CertificateLine) -> dict[str, object]:
    """A certificate's line as a row for programs."""
    return {
        "symbol": line.symbol,
        "value": line.value,
        "reason": line.reason.value,
        "says": line.says,
        "check": line.check or None,
        "trial": line.trial,
        "seen": line.seen or None,
        "saving_kb": line.saving_kb,
        "prompt": line.prompt,
        "mark": line.mark.kind if line.mark else None,
    }


def certificate_markdown(lines: Sequence[CertificateLine], about: Findings) -> str:
    """The certificate as a Markdown document."""
    winner = about.winner
    text = [
        f"# Certificate of {about.study.name}, trial {winner.number}",
        "",
        f"{kb(winner.objective)}; kernel {about.study.tree_identity}; {about.study.compiler}.",
        "",
        _counts(lines) + ".",
        "",
        "| option | value | reason | why | console |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        trial = (
            f" (trial {line.trial})" if line.trial is not None and "trial" not in line.says else ""
        )
        cells = (line.symbol, line.value, line.reason.value, line.says + trial, line.seen)
        text.append(
            "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
        )
    return "\n".join(text) + "\n"


def _counts(lines: Sequence[CertificateLine]) -> str:
    counted = {reason: sum(one.reason is reason for one in lines) for reason in Reason}
    return ", ".join(f"{count} {reason.value}" for reason, count in counted.items() if count)


def _print_certificate(lines: Sequence[CertificateLine], described: bool) -> None:
    screen = console()
    table = Table("option", "value", "reason", "why", "trial", "seen", box=None)
    for line in lines:
        style = "yellow" if line.reason in OPEN else ""
        table.add_row(
            Text(line.symbol),
            Text(line.value[:20]),
            Text(line.reason.value, style=style),
            Text(line.says),
            "" if line.trial is None else str(line.trial),
            Text(line.seen[:50]),
        )
    screen.print(table)
    screen.print(Text(_counts(lines)))
    if not described:
        screen.print(
            "The kernel's Kconfig files were not at hand: what they force is not told. "
            "Run this where the study's kernel tree is."
        )


# --- why


@click.command()
@click.argument("study")
@click.argument("symbol")
@click.option("--trial", type=click.IntRange(0), default=None, help="In this one, not the winner.")
@as_json_option
@results_option
def why(study: str, symbol: str, trial: int | None, as_json: bool, results: str | None) -> None:
    """All that is known of one option: what it is, why it is on or off, every trial that touched
    it."""
    name = symbol.removeprefix("CONFIG_")
    found = described(study, results, trial, name)
    facts = found.facts.get(name) or found.baseline_facts.get(name)
    candidate = next((one for one in found.winner.effective if name in one.split("|")), name)
    touched = [one for one in found.trials if _touches(one, found.baseline, candidate, name)]
    lines = [one for one in found.certificate() if one.symbol == name]
    told = [one for one in found.prices if one.option == candidate]
    if facts is None and not touched and not lines and not told:
        known = {*found.facts, *found.baseline_facts, *found.winner.effective}
        close = [one for one in sorted(known) if name in one][:5]
        raise UserError(
            f"Nothing is known of {name} in study {found.study.name}.",
            f"Did you mean {', '.join(close)}?" if close else "Is it spelt right?",
        )
    if as_json:
        click.echo(json.dumps(_story(name, facts, lines, told, touched, found), indent=2))
        return
    _print_story(name, facts, lines, told, touched, found)


def described(study: str, results: str | None, trial: int | None, symbol: str = "") -> Findings:
    """What is known, with Kconfig's own words: read from the study's kernel tree, and stored, when
    the database does not have them yet.

    Args:
        study: a study, or a folder that holds a trials.db.
        results: the results folder, None for the usual one.
        trial: the one to tell of, None for the best.
        symbol: one more that must be described.

    Raises:
        UserError: as :func:`optimizer.cli.findings.find`.
    """
    found = find(study, results, trial)
    known = found.facts and (not symbol or symbol in found.facts)
    if known or (Path(study) / "trials.db").is_file():
        return found
    settings = load_study(study)
    if not (settings.kernel.tree / "Kconfig").is_file():
        return found
    more = workshop.described(settings, found.folder, found.winner, symbol)
    return find(study, results, trial) if more else found


def _touches(trial: Trial, baseline: Trial, candidate: str, name: str) -> bool:
    return (
        trial.effective.get(candidate) != baseline.effective.get(candidate)
        or any(one in trial.assignment.values for one in candidate.split("|"))
        or name in trial.assignment.values
    )


def _story(
    name: str,
    facts: SymbolFacts | None,
    lines: Sequence[CertificateLine],
    told: Sequence[Price],
    touched: Sequence[Trial],
    found: Findings,
) -> dict[str, object]:
    return {
        "symbol": name,
        "kconfig": None if facts is None else asdict(facts),
        "mark": None
        if name not in found.marks
        else {"kind": found.marks[name].kind, "loses": found.marks[name].loses},
        "certificate": [certificate_row(one) for one in lines],
        "savings": [price_row(one) for one in told],
        "left_out": found.left_out.get(name),
        "kept": name in found.kept,
        "trials": [_touch(one, name, found.baseline) for one in touched],
    }


def _touch(trial: Trial, name: str, baseline: Trial) -> dict[str, object]:
    candidate = next((one for one in trial.effective if name in one.split("|")), name)
    refused = [one.reason for one in trial.resolved.refused if one.symbol == name]
    return {
        "trial": trial.number,
        "asked": trial.assignment.values.get(name),
        "became": trial.effective.get(candidate),
        "outcome": trial.outcome.value,
        "objective_kb": trial.objective,
        "changes": len(differences(trial, baseline)),
        "refused": refused[0] if refused else None,
        "reason": trial.reason,
    }


def _print_story(
    name: str,
    facts: SymbolFacts | None,
    lines: Sequence[CertificateLine],
    told: Sequence[Price],
    touched: Sequence[Trial],
    found: Findings,
) -> None:
    screen = console()
    head = Table.grid(padding=(0, 2))
    head.add_row("option", Text(f"{name}  {facts.prompt if facts else ''}".strip()))
    if facts is not None:
        head.add_row("menu", Text(" > ".join(facts.menu)))
        head.add_row("type", facts.type)
        if facts.depends:
            head.add_row("depends on", Text(facts.depends[:600]))
        if facts.holders:
            head.add_row("selected by", Text(", ".join(facts.holders)))
        head.add_row("in the winner", Text(facts.value or "not set"))
    if (mark := found.marks.get(name)) is not None:
        head.add_row(mark.kind, Text(f"without it {mark.loses}", style="yellow"))
    if name in found.kept:
        head.add_row("kept", "by the study")
    if name in found.left_out:
        head.add_row("left out", Text(found.left_out[name]))
    for line in lines:
        head.add_row("why it is on", Text(f"{line.reason.value}: {line.says}"))
        if line.seen:
            head.add_row("", Text(f"trial {line.trial}: {line.seen[:300]}"))
    for one in told:
        said = [saving_text(one), one.basis.value if one.basis is not Basis.NONE else "", note(one)]
        head.add_row(f"as {one.value}", Text("; ".join(filter(None, said))))
        for measured in (one.at_winner, one.elsewhere, one.at_baseline):
            if measured is not None:
                head.add_row("", Text(_measured_text(measured)))
    screen.print(head)
    if facts is not None and facts.help:
        screen.print()
        screen.print(Text(facts.help))
    screen.print()
    table = Table("trial", "asked", "became", "outcome", "figure", "changes", "why", box=None)
    for trial in touched:
        row = _touch(trial, name, found.baseline)
        table.add_row(
            str(trial.number),
            str(row["asked"] or ""),
            str(row["became"] or ""),
            trial.outcome.value,
            kb(trial.objective),
            str(row["changes"]),
            Text(str(row["refused"] or trial.reason)[:70]),
        )
    screen.print(f"Trials that touched it: {len(touched)}")
    if touched:
        screen.print(table)


def _measured_text(measured: Measured) -> str:
    figures: Mapping[str, int | None] = {
        "kB MemTotal": measured.mem_total_kb,
        "kB MemAvailable": measured.mem_available_kb,
        "bytes of image": measured.image_bytes,
    }
    said = ", ".join(f"{value:+,} {unit}" for unit, value in figures.items() if value is not None)
    return f"trial {measured.with_trial} against {measured.without_trial}: {said or 'no figures'}"
