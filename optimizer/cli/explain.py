"""``memtotal explain``: where the RAM went, by a trial, by two that differ, or by a bare log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli.results import chosen_trial, open_results
from optimizer.cli.screen import as_json_option, console, results_option
from optimizer.cli.workbench import Workbench
from optimizer.errors import UserError
from optimizer.kernel import elf
from optimizer.memory import bootlog, ledger, reservations
from optimizer.records import ImageLayout, Ledger, Part, Trial
from optimizer.review.ledgers import Difference, Largest, by_name, difference, largest
from optimizer.store import Database

BASELINE, WINNER = "baseline", "winner"
KB = 1024.0
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("study", required=False)
@click.argument("trial", required=False)
@click.option(
    "--log",
    type=EXISTING,
    default=None,
    help="A boot log instead of a study, of any board; /proc/meminfo in it helps.",
)
@click.option(
    "--vmlinux",
    type=EXISTING,
    default=None,
    help="With --log: the kernel's vmlinux, for sections and names.",
)
@click.option(
    "--diff",
    nargs=2,
    default=None,
    metavar="A B",
    help="What changed between two trials, entry by entry.",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=None,
    help="The largest symbols and objects, and the option that brings each; builds it.",
)
@click.option("--build", is_flag=True, help="Build and boot it now, stored or not.")
@as_json_option
@results_option
def explain(
    study: str | None,
    trial: str | None,
    log: Path | None,
    vmlinux: Path | None,
    diff: tuple[str, str] | None,
    top: int | None,
    build: bool,
    as_json: bool,
    results: str | None,
) -> None:
    """Where the RAM went: a ledger of TRIAL (a number, 'baseline' or 'winner') of STUDY.

    From the RAM given down to MemTotal every page has an entry; below, down to MemFree and
    MemAvailable, what the kernel tells.
    """
    if log is not None:
        if study is not None or diff is not None or top is not None or build:
            raise click.UsageError("--log stands alone (with --vmlinux and --json).")
        _explain_log(log, vmlinux, as_json)
        return
    if study is None:
        raise click.UsageError("Missing argument 'STUDY' (or --log FILE).")
    if vmlinux is not None:
        raise click.UsageError("--vmlinux goes with --log.")
    if diff is not None:
        if trial is not None or top is not None:
            raise click.UsageError("--diff takes two trials and excludes TRIAL and --top.")
        _explain_difference(study, diff, build, results, as_json)
    elif top is not None:
        _explain_top(study, trial, top, results, as_json)
    else:
        with open_results(study, results) as database:
            one = named_trial(database, trial or WINNER)
        found = _ledger(study, one, build, results, as_json)
        if as_json:
            click.echo(json.dumps({"trial": one.number} | document(found), indent=2))
        else:
            console().print(f"Trial {one.number}: where its RAM went")
            _print_ledger(found)


def named_trial(database: Database, name: str) -> Trial:
    """A trial by number, 'baseline' or 'winner'; of a duplicate the one that was built.

    Raises:
        UserError: no such trial, or none has passed yet.
    """
    if name == BASELINE:
        one = database.trial(0)
    elif name == WINNER:
        one = chosen_trial(database, None)
    elif name.isascii() and name.isdigit() and len(name) < 19:
        one = database.trial(int(name))
    else:
        raise UserError(
            f"{name!r} is no trial.", "Give its number, or one of the words baseline and winner."
        )
    return one if one.duplicate_of is None else database.trial(one.duplicate_of)


def _ledger(study: str, one: Trial, build: bool, results: str | None, quiet: bool) -> Ledger:
    if not build:
        if one.ledger is None:
            raise UserError(
                f"Trial {one.number} has no ledger stored ({one.outcome.value}).",
                f"Make one now, which builds and boots it: memtotal explain {study} "
                f"{one.number} --build",
            )
        return one.ledger
    with Workbench.open(study, results, quiet=quiet) as bench:
        made = bench.build(one.resolved.text, "explain")
        found = bench.explain(made, one.assignment.parameters)
    if found is None:
        raise UserError(
            f"Trial {one.number} does not come to its shell, so it cannot tell.",
            f"See: memtotal show {study} {one.number}",
        )
    return found


def _explain_difference(
    study: str, names: tuple[str, str], build: bool, results: str | None, as_json: bool
) -> None:
    with open_results(study, results) as database:
        first, second = (named_trial(database, name) for name in names)
    before = _ledger(study, first, build, results, as_json)
    after = _ledger(study, second, build, results, as_json)
    rows = difference(before, after)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "from": {"trial": first.number} | document(before),
                    "to": {"trial": second.number} | document(after),
                    "difference": [asdict(row) for row in rows],
                },
                indent=2,
            )
        )
        return
    screen = console()
    screen.print(f"Trial {first.number} -> trial {second.number}: what changed, in kB")
    screen.print(_difference_table(first.number, second.number, before, after, rows))


def _explain_top(
    study: str, trial: str | None, top: int, results: str | None, as_json: bool
) -> None:
    with open_results(study, results) as database:
        one = named_trial(database, trial or WINNER)
    with Workbench.open(study, results, quiet=as_json) as bench:
        bench.build(one.resolved.text, "explain")
        found = largest(bench.contents(), top)
    if as_json:
        click.echo(json.dumps({"trial": one.number} | asdict(found), indent=2))
        return
    console().print(f"Trial {one.number}: what takes most of the image, .init left out")
    _print_largest(found)


# --- a log alone


def _explain_log(path: Path, vmlinux: Path | None, as_json: bool) -> None:
    try:
        with path.open("rb") as stream:
            lines = bootlog.read_lines(stream, str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    figures = bootlog.read_figures(lines)
    if figures.total_kb is None and figures.available_kb is None and not figures.meminfo_kb:
        raise UserError(
            f"{path} has no line that tells of memory.",
            "A boot log has one that begins with 'Memory:'; give all of dmesg, or the console's "
            "output from power on. /proc/meminfo appended to it helps.",
        )
    image = _layout(vmlinux)
    resolver = elf.Resolver(image) if image is not None else None
    told = reservations.from_log(lines, resolver.name if resolver else lambda _address: "")
    meminfo = "".join(f"{name}: {value} kB\n" for name, value in figures.meminfo_kb.items())
    found = ledger.close(told, image, figures, meminfo, method="memblock=debug")
    found = ledger.below(found, figures, meminfo)
    if as_json:
        click.echo(json.dumps(log_document(figures) | {"ledger": document(found)}, indent=2))
        return
    _print_figures(figures)
    _print_ledger(found)


def _layout(vmlinux: Path | None) -> ImageLayout | None:
    if vmlinux is None:
        return None
    try:
        return elf.layout(vmlinux)
    except ValueError as error:
        raise UserError(
            f"{error}.", "Give the vmlinux of the kernel's build folder, not zImage or uImage."
        ) from error
    except OSError as error:
        raise UserError(f"{vmlinux} cannot be read: {error.strerror}.") from error


FIGURES = (
    *("total_kb", "available_kb", "reserved_kb", "init_kb", "mem_total_kb", "kernel_code_kb"),
    *("rwdata_kb", "rodata_kb", "data_kb", "bss_kb", "cma_reserved_kb", "highmem_kb"),
    *("absent_kb", "freed_init_kb", "freed_initrd_kb", "freed_other_kb", "dma_pool_kb"),
)


def log_document(figures: bootlog.LogFigures) -> dict[str, object]:
    """The figures of a log for programs: null is unknown."""
    return {
        "kernel_version": figures.kernel_version,
        **{name: getattr(figures, name) for name in FIGURES},
        "mem_total_derived": figures.mem_total_derived,
        "memory_line": figures.memory_line or None,
        "hash_tables": [
            asdict(one) | {"early": early}
            for early, tables in ((True, figures.early_tables), (False, figures.late_tables))
            for one in tables
        ],
        "notes": list(figures.notes),
    }


def document(found: Ledger) -> dict[str, object]:
    """A ledger for programs, in bytes."""
    return {
        "given_bytes": found.given_bytes,
        "reserved_bytes": found.sum_bytes(Part.RESERVED),
        "unexplained_bytes": found.unexplained_bytes,
        "mem_total_bytes": found.mem_total_bytes,
        "mem_free_bytes": found.mem_free_bytes,
        "mem_available_bytes": found.mem_available_bytes,
        "method": found.method,
        "notes": list(found.notes),
        "entries": [asdict(one) | {"part": one.part.value} for one in found.entries],
    }


# --- tables


def _print_figures(figures: bootlog.LogFigures) -> None:
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("kernel", figures.kernel_version or "unknown")
    for name in FIGURES[:11]:
        value = getattr(figures, name)
        mark = " (derived)" if name == "mem_total_kb" and figures.mem_total_derived else ""
        table.add_row(
            name.removesuffix("_kb").replace("_", " "),
            "unknown" if value is None else f"{value:,} kB{mark}",
        )
    screen = console()
    screen.print(table)
    for note in figures.notes:
        screen.print(Text(f"note: {note}"))
    screen.print()


def _print_ledger(found: Ledger) -> None:
    screen = console()
    table = Table(box=None)
    table.add_column("kB", justify="right")
    table.add_column("% of RAM", justify="right")
    table.add_column("what")
    table.add_column("told by")
    _total(table, "RAM given", found.given_bytes, found)
    _entries(table, found, Part.RESERVED)
    _total(table, "MemTotal", found.mem_total_bytes, found)
    _entries(table, found, Part.FREED)
    if found.mem_free_bytes is not None:
        _entries(table, found, Part.TAKEN)
        _total(table, "MemFree", found.mem_free_bytes, found)
    if found.mem_available_bytes is not None:
        _entries(table, found, Part.HELD)
        _total(table, "MemAvailable", found.mem_available_bytes, found)
    screen.print(table)
    rest = found.unexplained_bytes
    told = "unknown" if rest is None else f"{rest / KB:,.0f} kB"
    screen.print(f"unexplained between RAM given and MemTotal: {told}; told by {found.method}")
    for note in found.notes:
        screen.print(Text(f"note: {note}"))


def _total(table: Table, name: str, value: int | None, found: Ledger) -> None:
    shown = "unknown" if value is None else f"{value / KB:,.1f}"
    table.add_row(Text(shown, "bold"), _share(value, found), Text(name, "bold"), "")


def _share(value: int | None, found: Ledger) -> str:
    return f"{value / found.given_bytes:.1%}" if value is not None and found.given_bytes else ""


_SIGNS = {
    Part.RESERVED: "- ",
    Part.FREED: "  of it given back: ",
    Part.TAKEN: "- ",
    Part.HELD: "- ",
}


def _entries(table: Table, found: Ledger, part: Part) -> None:
    for name, size, sources in by_name(found, part):
        sign = "+ " if part is Part.HELD and size < 0 else _SIGNS[part]
        table.add_row(
            f"{abs(size) / KB if part is Part.HELD else size / KB:,.1f}",
            _share(abs(size), found),
            Text(f"{sign}{name}"),
            Text(", ".join(sources)[:70]),
        )


def _difference_table(
    first: int, second: int, before: Ledger, after: Ledger, rows: Sequence[Difference]
) -> Table:
    table = Table(box=None)
    for title in (f"trial {first}", f"trial {second}", "change"):
        table.add_column(title, justify="right")
    table.add_column("what")
    totals: Mapping[str, tuple[int | None, int | None]] = {
        "RAM given": (before.given_bytes, after.given_bytes),
        "MemTotal": (before.mem_total_bytes, after.mem_total_bytes),
        "MemFree": (before.mem_free_bytes, after.mem_free_bytes),
        "MemAvailable": (before.mem_available_bytes, after.mem_available_bytes),
    }

    def total(name: str) -> None:
        old, new = totals[name]
        if old is not None and new is not None:
            cells = (f"{old / KB:,.1f}", f"{new / KB:,.1f}", f"{(new - old) / KB:+,.1f}", name)
            table.add_row(*(Text(cell, "bold") for cell in cells))

    total("RAM given")
    for part, after_it in (
        (Part.RESERVED, "MemTotal"),
        (Part.TAKEN, "MemFree"),
        (Part.HELD, "MemAvailable"),
    ):
        for row in rows:
            if row.part is part:
                table.add_row(
                    f"{row.before_bytes / KB:,.1f}",
                    f"{row.after_bytes / KB:,.1f}",
                    f"{row.change_bytes / KB:+,.1f}",
                    Text(f"- {row.name}"),
                )
        total(after_it)
    return table


def _print_largest(found: Largest) -> None:
    screen = console()
    symbols = Table(box=None)
    symbols.add_column("bytes", justify="right")
    for title in ("symbol", "kind", "object", "brought by"):
        symbols.add_column(title)
    for symbol in found.symbols:
        symbols.add_row(
            f"{symbol.bytes:,}", symbol.name, symbol.kind, symbol.object, " ".join(symbol.options)
        )
    screen.print(symbols)
    screen.print()
    objects = Table(box=None)
    objects.add_column("bytes", justify="right")
    for title in ("object", "brought by"):
        objects.add_column(title)
    for one in found.objects:
        objects.add_row(f"{one.bytes:,}", one.path, " ".join(one.options))
    screen.print(objects)
