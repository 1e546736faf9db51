"""``memtotal init-audit``: what stays in memory though only the boot uses it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli.explain import WINNER, named_trial
from optimizer.cli.results import open_results
from optimizer.cli.screen import as_json_option, console, results_option
from optimizer.cli.workbench import Workbench
from optimizer.errors import UserError
from optimizer.memory.initaudit import Audit, audit
from optimizer.records import ObjectContents, Trial

ARCHITECTURES = ("arm",)


@click.command("init-audit")
@click.argument("study")
@click.argument("trial", required=False, default=WINNER)
@click.option("--top", type=click.IntRange(1), default=None, help="Only so many candidates.")
@as_json_option
@results_option
def init_audit(study: str, trial: str, top: int | None, as_json: bool, results: str | None) -> None:
    """Functions and values of TRIAL that only code which is freed after boot reaches.

    TRIAL is a number, 'baseline' or 'winner' (the default). It is built, and its objects are read:
    candidates for __init and __initdata in this configuration, with bytes, file and reason.
    """
    with open_results(study, results) as database:
        one = named_trial(database, trial)
    with Workbench.open(study, results, quiet=as_json) as bench:
        found = audit_of(bench, one)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "trial": one.number,
                    "bytes": found.bytes,
                    "pages": found.pages,
                    "candidates": [
                        asdict(each) | {"reason": each.reason} for each in found.candidates[:top]
                    ],
                },
                indent=2,
            )
        )
        return
    _print(one.number, found, top)


def audit_of(bench: Workbench, trial: Trial) -> Audit:
    """Build a trial and read its objects.

    Raises:
        UserError: its instructions cannot be read, or it does not build.
        MachineFault: the machine failed.
    """
    kernel = bench.settings.kernel
    if kernel.arch not in ARCHITECTURES:
        raise UserError(
            f"init-audit cannot tell a call from an address on {kernel.arch}.",
            f"It reads objects of {', '.join(ARCHITECTURES)}.",
        )
    if "CONFIG_THUMB2_KERNEL=y" in trial.resolved.text.splitlines():
        raise UserError(
            "init-audit reads ARM instructions, and this kernel is compiled to Thumb.",
            "Choose a trial without THUMB2_KERNEL.",
        )
    bench.build(trial.resolved.text, "init-audit")
    contents = bench.contents()
    return audit(contents, sources(kernel.tree, contents))


def sources(tree: Path, contents: Sequence[ObjectContents]) -> dict[str, str]:
    """The C source of each object that has one, by the object's path."""
    found = {}
    for one in contents:
        path = (tree / one.path).with_suffix(".c")
        if path.is_file():
            found[one.path] = path.read_text(encoding="utf-8", errors="replace")
    return found


def _print(number: int, found: Audit, top: int | None) -> None:
    screen = console()
    table = Table(box=None)
    table.add_column("bytes", justify="right")
    for title in ("name", "file", "mark", "why"):
        table.add_column(title)
    for one in found.candidates[:top]:
        table.add_row(
            f"{one.bytes:,}",
            one.name,
            one.object.removesuffix(".o") + ".c",
            one.attribute,
            Text(one.reason[:90]),
        )
    screen.print(table)
    screen.print(
        f"Trial {number}: {len(found.candidates)} candidates, {found.bytes:,} bytes: once grouped "
        f"in .init, {found.pages} whole page{'' if found.pages == 1 else 's'}."
    )
    screen.print(
        "In this configuration: another one may call them after boot. Mark, build, and look for "
        "'section mismatch' in what make prints."
    )
