"""``memtotal cache``: the store of compiled objects, its size and its use."""

from __future__ import annotations

import json

import click
from rich.table import Table

from optimizer.cli.screen import as_json_option, console
from optimizer.kernel import objects
from optimizer.settings import cache_folder


@click.command()
@click.option("--clear", is_flag=True, help="Remove every object.")
@as_json_option
def cache(clear: bool, as_json: bool) -> None:
    """Show what the store of compiled objects holds and what it was good for, or clear it.

    How large it may grow is the study's: cache_gb under [kernel]. Builds compile what is missing,
    so clearing it costs time and nothing else.
    """
    if clear:
        freed = objects.clear(cache_folder())
        click.echo(f"Removed {freed / 1e6:,.0f} MB of compiled objects.")
        return
    found = objects.usage(cache_folder())
    counts = found.counts
    asked = counts.reused + counts.compiled
    share = counts.reused / asked if asked else 0.0
    if as_json:
        document = {
            "folder": str(found.folder),
            "objects": found.entries,
            "bytes": found.bytes,
            "builds": counts.builds,
            "reused": counts.reused,
            "kept": counts.kept,
            "compiled": counts.compiled,
            "distrusted": list(found.distrusted),
        }
        click.echo(json.dumps(document, indent=2))
        return
    table = Table(box=None, show_header=False)
    table.add_row("folder", str(found.folder))
    table.add_row("objects", f"{found.entries:,}, {found.bytes / 1e6:,.0f} MB")
    table.add_row("builds", f"{counts.builds:,} since it was last cleared")
    table.add_row("reused", f"{counts.reused:,} of {asked:,} objects asked for ({share:.0%})")
    table.add_row("left in place", f"{counts.kept:,} of those")
    if found.distrusted:
        table.add_row("never reused", ", ".join(found.distrusted))
    console().print(table)
