"""``memtotal verify``: does a configuration hold what its trial promised?"""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli import doctor, workshop
from optimizer.cli.host import cores
from optimizer.cli.results import chosen_trial, open_results
from optimizer.cli.screen import Parameter, as_json_option, console, kb, results_option, span
from optimizer.kernel.kconfig import SymbolTree
from optimizer.records import Assignment, Trial
from optimizer.search.trial import Slot
from optimizer.search.verification import Verification
from optimizer.search.verification import verify as verify_config
from optimizer.settings import StudySettings, cache_folder, environment, load_study
from optimizer.store import Database


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), default=None, help="This one, not the winner.")
@click.option(
    "--defconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="A file instead of a trial.",
)
@click.option(
    "--boot-parameter", "parameters", type=Parameter(), multiple=True, metavar="NAME=VALUE",
    help="With --defconfig: more for the kernel's command line.",
)  # fmt: skip
@as_json_option
@results_option
def verify(
    study: str,
    trial: int | None,
    defconfig: Path | None,
    parameters: tuple[tuple[str, str], ...],
    as_json: bool,
    results: str | None,
) -> None:
    """Build STUDY's winner clean in a fresh tree, boot it three times, run every smoke check.

    Exit code 1 when it does not repeat, 0 when it does.
    """
    if trial is not None and defconfig is not None:
        raise click.UsageError("--trial and --defconfig exclude each other.")
    if parameters and defconfig is None:
        raise click.UsageError("A trial has its own boot parameters; the option needs --defconfig.")
    settings = load_study(study)
    doctor.require(settings)
    tree = workshop.symbol_tree(settings)
    config, expected = _subject(study, settings, tree, trial, defconfig, results, parameters)
    given = expected.assignment.parameters if expected is not None else dict(parameters)
    number, slot = fresh_slot(settings, workshop.tools(settings, tree))
    logs = workshop.study_folder(settings.name, results) / "verify" / str(number)
    said: set[str] = set()

    def on_phase(phase: str, _detail: str) -> None:
        if phase not in said and not as_json:
            said.add(phase)
            console(aside=True).print(f"verify: {phase}")

    try:
        found = verify_config(slot, config, logs, expected, on_phase, threading.Event(), given)
    finally:
        slot.empty()
        slot.close()
    if as_json:
        click.echo(json.dumps(_document(found), indent=2))
    else:
        _print(found, expected, logs)
    if found.problems:
        raise click.exceptions.Exit(1)


def fresh_slot(settings: StudySettings, tools: Mapping[str, str]) -> tuple[int, Slot]:
    """A slot whose tree is empty. What a killed verify left in it is removed now."""
    for number in itertools.count():
        folder = cache_folder() / "verify" / str(number)
        slot = Slot.open(settings, folder, environment(), cores(), tools)
        if slot is not None:
            slot.empty()
            return number, slot
    raise AssertionError("count() never ends")


def _subject(
    study: str,
    settings: StudySettings,
    tree: SymbolTree,
    trial: int | None,
    defconfig: Path | None,
    results: str | None,
    parameters: Sequence[tuple[str, str]],
) -> tuple[str, Trial | None]:
    """The .config to build, and the trial whose figures must repeat.

    A defconfig from outside has one if it comes to the same .config as a trial of the study.
    """
    if defconfig is None:
        with open_results(study, results) as database:
            expected = chosen_trial(database, trial)
            config = expected.resolved.text
            if expected.duplicate_of is not None:
                expected = database.trial(expected.duplicate_of)
            return config, expected
    tree.load_base(defconfig)
    resolved = tree.resolve(Assignment({}))
    path = workshop.study_folder(settings.name, results) / "trials.db"
    if not path.is_file():
        return resolved.text, None
    with Database.read(path) as database:
        return resolved.text, database.by_digest(resolved.digest, dict(parameters))


def _print(found: Verification, expected: Trial | None, logs: Path) -> None:
    screen = console()
    table = Table(box=None)
    for title in ("boot", "MemTotal", "MemAvailable", "checks", "seconds", ""):
        table.add_column(title, justify="left" if title in ("boot", "") else "right")
    for number, one in enumerate(found.boots, 1):
        measured = one.measurement
        passed = sum(check.passed for check in one.boot.checks)
        table.add_row(
            str(number),
            kb(measured.mem_total_kb) if measured else "",
            kb(measured.mem_available_kb) if measured else "",
            f"{passed}/{len(one.boot.checks)}",
            f"{one.boot.seconds:.1f}",
            f"{one.outcome.value} {one.reason}".strip(),
        )
    screen.print(table)
    build = found.build
    screen.print(Text(f"clean build  {span(build.seconds)}, {build.objects} objects"))
    screen.print(
        Text(f"image        {build.image_bytes:,} bytes, vmlinux {build.vmlinux_bytes:,} bytes")
    )
    screen.print(Text(f"             sha256 {build.image_sha256}"))
    screen.print(Text(f".config      sha256 {found.digest}"))
    if expected is not None:
        screen.print(Text(f"compared to  trial {expected.number}, {kb(expected.objective)}"))
    for problem in found.problems:
        screen.print(Text(f"does not repeat: {problem}", style="red"))
    if found.problems:
        screen.print(Text(f"logs in {logs}"))
    else:
        screen.print(Text("It repeats.", style="green"))


def _document(found: Verification) -> dict[str, object]:
    return {
        "repeats": not found.problems,
        "problems": list(found.problems),
        "config_sha256": found.digest,
        "image_bytes": found.build.image_bytes,
        "image_sha256": found.build.image_sha256,
        "vmlinux_bytes": found.build.vmlinux_bytes,
        "sections_bytes": dict(found.build.sections),
        "build_seconds": round(found.build.seconds, 1),
        "boots": [
            {
                "outcome": one.outcome.value,
                "reason": one.reason,
                "mem_total_kb": one.measurement.mem_total_kb if one.measurement else None,
                "mem_available_kb": one.measurement.mem_available_kb if one.measurement else None,
                "checks": [dataclasses.asdict(check) for check in one.boot.checks],
            }
            for one in found.boots
        ],
    }
