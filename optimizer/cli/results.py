"""``memtotal status, review, show, export``: what the trials say, also while a run is under way."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli.screen import as_json_option, console, kb, results_option, span
from optimizer.cli.workshop import study_folder
from optimizer.errors import MachineFault, UserError
from optimizer.records import Trial
from optimizer.review.savings import differences
from optimizer.review.summary import summarize
from optimizer.settings import load_study
from optimizer.store import Database, Run

# Of some 40 lines those that say where the RAM is; --json has them all.
MEMINFO_SHOWN = (
    *("MemTotal", "MemFree", "MemAvailable", "Cached", "AnonPages"),
    *("Slab", "KernelStack", "PageTables", "VmallocUsed", "Percpu"),
)


def open_results(study: str, results: str | None) -> Database:
    """A study's database for reading.

    Args:
        study: a study, or a folder that holds a trials.db.
        results: the results folder, None for the usual one.

    Raises:
        UserError: the study was not run yet, or its database is damaged.
    """
    direct = Path(study) / "trials.db"
    path = (
        direct if direct.is_file() else study_folder(load_study(study).name, results) / "trials.db"
    )
    if not path.is_file():
        raise UserError(f"There are no trials yet in {path}.", f"Run: memtotal run {study}")
    return Database.read(path)


def chosen_trial(database: Database, number: int | None) -> Trial:
    """A trial by number, the best one without; its configuration's text is loaded.

    Raises:
        UserError: no such trial, or none has passed yet.
    """
    if number is None:
        number = database.best()
        if number is None:
            raise UserError("No trial has passed yet.", "Look at: memtotal review STUDY")
    return database.trial(number)


@click.command()
@click.argument("study")
@as_json_option
@results_option
def status(study: str, as_json: bool, results: str | None) -> None:
    """Trials done and by outcome, best against baseline, rate, what is going on now."""
    with open_results(study, results) as database:
        trials, activity, runs = database.trials(), database.activity(), database.runs()
    figures = summarize(trials)
    last = runs[-1] if runs else None
    alive = last is not None and last.ended_at is None and _lives(last.pid)
    left = _seconds_left(last, trials, alive)
    now = [asdict(one) for one in activity if _lives(one.pid)]
    if as_json:
        running = {"running": alive, "seconds_left": left, "activity": now}
        past = {"runs": [asdict(one) for one in runs]}
        click.echo(json.dumps(asdict(figures) | running | past, indent=2))
        return
    screen = console()
    table = Table.grid(padding=(0, 2))
    counts = ", ".join(f"{count} {name}" for name, count in figures.outcomes.items())
    table.add_row("trials", f"{figures.trials} ({counts})" if counts else "none yet")
    table.add_row("baseline", kb(figures.baseline_kb) or "not measured yet")
    if figures.gain_kb is not None:
        table.add_row("best", f"{kb(figures.best_kb)} in trial {figures.best_trial}")
        table.add_row("gain", f"{figures.gain_kb:+,.0f} kB")
    table.add_row("builds", f"{figures.builds}, {figures.builds_per_hour or 0:.0f} an hour")
    table.add_row("time in trials", span(figures.seconds))
    if alive and last is not None:
        table.add_row("running", f"process {last.pid}, sampler {last.sampler}")
        for one in now:
            table.add_row("", f"trial {one['trial']}: {one['phase']} {one['detail']}")
        if left is not None:
            table.add_row("time left", span(left))
    elif last is not None:
        table.add_row("last run", last.stop_reason or "was killed")
    screen.print(table)


@click.command()
@click.argument("study")
@click.argument("trial", type=click.IntRange(0))
@as_json_option
@results_option
def show(study: str, trial: int, as_json: bool, results: str | None) -> None:
    """One TRIAL: what differs from the baseline, outcome, sizes, meminfo, checks, logs."""
    with open_results(study, results) as database:
        one, baseline = database.trial(trial), database.trial(0)
    if as_json:
        click.echo(json.dumps(_whole(one, baseline), indent=2))
        return
    screen = console()
    head = Table.grid(padding=(0, 2))
    head.add_row("trial", f"{one.number}, by {one.sampler}, {one.started_at}, {span(one.seconds)}")
    head.add_row("outcome", Text(f"{one.outcome.value} {one.reason}".strip()))
    head.add_row("objective", kb(one.objective))
    head.add_row(".config", f"sha256 {one.resolved.digest}")
    if one.build is not None:
        sizes = ", ".join(f"{name} {size:,}" for name, size in _largest(one.build.sections))
        head.add_row("build", f"{span(one.build.seconds)}, {one.build.objects} objects compiled")
        if one.build.ok:
            head.add_row(
                "image", f"{one.build.image_bytes:,} bytes; vmlinux {one.build.vmlinux_bytes:,}"
            )
            head.add_row("sections", f"{sizes} bytes")
        for line in one.build.errors[:5]:
            head.add_row("", Text(line))
    if one.measurement is not None:
        head.add_row("kernel", Text(one.measurement.memory_line))
        told = one.measurement.meminfo_kb
        figures = (f"{name} {told[name]:,}" for name in MEMINFO_SHOWN if name in told)
        head.add_row("meminfo", ", ".join(figures) + " kB")
    head.add_row("logs", str(one.log_dir or ""))
    screen.print(head)
    if one.boot is not None and one.boot.checks:
        checks = Table("check", "", "seconds", "seen", box=None)
        for check in one.boot.checks:
            mark = Text("passed", "green") if check.passed else Text("failed", "red")
            checks.add_row(
                f"{check.suite}/{check.name}", mark, f"{check.seconds:.1f}", Text(check.detail[:90])
            )
        screen.print()
        screen.print(checks)
    changed = differences(one, baseline)
    screen.print()
    screen.print(f"Differs from the baseline in {len(changed)} candidates:")
    table = Table("option", "baseline", "here", box=None)
    for name, before, after in changed:
        table.add_row(name, before, after)
    screen.print(table)
    if one.resolved.refused:
        refusals = Table("asked for, but refused", "asked", "is", "because", box=None)
        for refusal in one.resolved.refused:
            refusals.add_row(refusal.symbol, refusal.asked, refusal.got, Text(refusal.reason))
        screen.print()
        screen.print(refusals)


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: the folder cannot be written.
        MachineFault: the disk is full.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise MachineFault(f"{path} cannot be written: {error.strerror}.") from error


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _largest(sections: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(sections.items(), key=lambda item: -item[1])[:6]


def _seconds_left(run: Run | None, trials: Sequence[Trial], alive: bool) -> float | None:
    """What a run that lives has left by its limits; None when it has none."""
    if run is None or not alive:
        return None
    elapsed = (datetime.now(UTC) - datetime.fromisoformat(run.started_at)).total_seconds()
    left = []
    if run.budget_seconds is not None:
        left.append(run.budget_seconds - elapsed)
    mine = [one for one in trials if one.started_at >= run.started_at]
    if run.budget_trials is not None and mine:
        left.append((run.budget_trials - len(trials)) * elapsed / len(mine))
    return max(0.0, min(left)) if left else None


def trial_row(trial: Trial) -> dict[str, object]:
    """A trial as a row for programs."""
    return {
        "trial": trial.number,
        "outcome": trial.outcome.value,
        "reason": trial.reason,
        "objective_kb": trial.objective,
        "image_bytes": trial.build.image_bytes if trial.build and trial.build.ok else None,
        "asked": dict(trial.assignment.values),
        "refused": [asdict(one) for one in trial.resolved.refused],
        "objects_compiled": trial.build.objects if trial.build else None,
        "seconds": round(trial.seconds, 1),
    }


def _whole(trial: Trial, baseline: Trial) -> dict[str, object]:
    boot, measured = trial.boot, trial.measurement
    return trial_row(trial) | {
        "sampler": trial.sampler,
        "started_at": trial.started_at,
        "config_sha256": trial.resolved.digest,
        "differences": [list(one) for one in differences(trial, baseline)],
        "sections_bytes": dict(trial.build.sections) if trial.build else {},
        "build_errors": list(trial.build.errors) if trial.build else [],
        "boot": boot.state.value if boot else None,
        "boot_seconds": round(boot.seconds, 2) if boot else None,
        "memory_line": measured.memory_line if measured else None,
        "meminfo_kb": dict(measured.meminfo_kb) if measured else {},
        "checks": [asdict(one) for one in boot.checks] if boot else [],
        "logs": str(trial.log_dir) if trial.log_dir else None,
        "tools": dict(trial.tools),
    }
