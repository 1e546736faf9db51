"""``memtotal verify``: does a configuration hold what its trial promised?"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import threading
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli import doctor, workshop
from optimizer.cli.results import chosen_trial, open_results
from optimizer.cli.screen import as_json_option, console, kb, results_option, span
from optimizer.errors import MachineFault, UserError
from optimizer.kernel.kbuild import remove_tree
from optimizer.records import Assignment, Trial
from optimizer.search.trial import Slot
from optimizer.search.verification import Verification
from optimizer.search.verification import verify as verify_config
from optimizer.settings import StudySettings, cache_folder, environment, load_study


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), default=None, help="This one, not the winner.")
@click.option(
    "--defconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="A file instead of a trial.",
)
@as_json_option
@results_option
def verify(
    study: str, trial: int | None, defconfig: Path | None, as_json: bool, results: str | None
) -> None:
    """Build STUDY's winner clean in a fresh tree, boot it three times, run every smoke check.

    Exit code 1 when it does not repeat, 0 when it does.
    """
    if trial is not None and defconfig is not None:
        raise click.UsageError("--trial and --defconfig exclude each other.")
    settings = load_study(study)
    doctor.require(settings)
    config, expected = _subject(study, settings, trial, defconfig, results)
    folder = Path(tempfile.mkdtemp(prefix="verify-", dir=_made(cache_folder())))
    logs = workshop.study_folder(settings.name, results) / "verify"
    tree = workshop.symbol_tree(settings)
    slot = Slot.open(
        settings, folder, environment(), doctor.cores(), workshop.tools(settings, tree)
    )
    if slot is None:
        raise MachineFault(f"The fresh tree {folder} is in use.")
    screen = console()
    said: set[str] = set()

    def on_phase(phase: str, detail: str) -> None:
        if phase not in said and not as_json:
            said.add(phase)
            screen.print(Text(f"verify: {phase}"))

    try:
        found = verify_config(slot, config, logs, expected, on_phase, threading.Event())
    finally:
        slot.close()
        remove_tree(folder)
    if as_json:
        click.echo(json.dumps(_document(found), indent=2))
    else:
        _print(found, expected, logs)
    if found.problems:
        raise click.exceptions.Exit(1)


def _subject(
    study: str,
    settings: StudySettings,
    trial: int | None,
    defconfig: Path | None,
    results: str | None,
) -> tuple[str, Trial | None]:
    """The .config to build, and the trial whose figures must repeat if there is one."""
    if defconfig is None:
        with open_results(study, results) as database:
            expected = chosen_trial(database, trial)
            return expected.resolved.text, expected
    tree = workshop.symbol_tree(settings)
    tree.load_base(defconfig)
    return tree.resolve(Assignment({})).text, None


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made: {error.strerror}.", "Set MEMTOTAL_CACHE."
        ) from error
    return folder


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
