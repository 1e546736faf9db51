"""``memtotal floor``: the least memory with which a variant still passes."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli.explain import WINNER, named_trial
from optimizer.cli.results import open_results
from optimizer.cli.screen import as_json_option, console, kb, results_option
from optimizer.cli.workbench import Workbench
from optimizer.search.floor import Floor, Step, find_floor
from optimizer.search.trial import judge


@click.command()
@click.argument("study")
@click.argument("trial", required=False, default=WINNER)
@click.option("--step", "step_kb", type=click.IntRange(64), default=256, show_default=True,
              help="How fine to search, in kB.")  # fmt: skip
@as_json_option
@results_option
def floor(study: str, trial: str, step_kb: int, as_json: bool, results: str | None) -> None:
    """The smallest mem= with which TRIAL still boots and passes its suite, by bisection.

    TRIAL is a number, 'baseline' or 'winner' (the default).
    """
    with open_results(study, results) as database:
        one = named_trial(database, trial)
    screen = console()
    with Workbench.open(study, results, quiet=as_json) as bench:
        build = bench.build(one.resolved.text, "floor")
        board = bench.settings.board.with_parameters(one.assignment.parameters)

        def attempt(memory_kb: int, number: int) -> Step:
            boot = bench.boot(
                build,
                f"floor/mem-{memory_kb}K-{number}",
                # The emulator's loader puts the initramfs in the middle of the machine's memory.
                memory_mb=min(board.memory_mb, -(-memory_kb // 1024)),
                command_line=limited(board.command_line, memory_kb),
            )
            outcome, reason, measured = judge(boot)
            step = Step(
                memory_kb,
                outcome,
                reason,
                measured.mem_total_kb if measured else None,
                measured.mem_available_kb if measured else None,
            )
            if not as_json:
                screen.print(Text(f"mem={memory_kb:,} kB  {outcome.value} {reason[:100]}".rstrip()))
            return step

        found = find_floor(board.memory_mb * 1024, step_kb, attempt)
    if as_json:
        click.echo(json.dumps(_document(one.number, found), indent=2))
        return
    table = Table(box=None)
    for title in ("mem=", "", "MemTotal", "MemAvailable"):
        table.add_column(title, justify="left" if title == "" else "right")
    for step in sorted(found.steps, key=lambda each: -each.memory_kb):
        table.add_row(
            kb(step.memory_kb), step.outcome.value, kb(step.mem_total_kb), kb(step.mem_available_kb)
        )
    screen.print(table)
    screen.print(
        f"Trial {one.number} passes with mem={found.floor_kb}K ({kb(found.floor_kb)}); it failed "
        f"with {kb(found.failed_kb) if found.failed_kb else 'nothing that was tried'}."
    )


def limited(command_line: str, memory_kb: int) -> str:
    """The command line with no ``mem=`` but one: ARM adds up all that it is given."""
    words = [word for word in command_line.split(" ") if not word.startswith("mem=")]
    return " ".join([*words, f"mem={memory_kb}K"])


def _document(number: int, found: Floor) -> dict[str, object]:
    return {
        "trial": number,
        "floor_kb": found.floor_kb,
        "failed_kb": found.failed_kb,
        "steps": [asdict(step) | {"outcome": step.outcome.value} for step in found.steps],
    }
