"""``memtotal doctor``: what is missing, and the line that installs it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass

import click
from rich.table import Table
from rich.text import Text

from optimizer.cli.host import memory_gb
from optimizer.cli.screen import as_json_option, console
from optimizer.errors import UserError
from optimizer.kernel.kconfig import kernel_version
from optimizer.settings import StudySettings, cache_folder, load_study

LEAST_DISK_GB = 4.0
LEAST_MEMORY_GB = 1.5

# Program -> Debian package. The compiler and the emulator come from the study.
PROGRAMS = {
    "make": "make",
    "gcc": "gcc libc6-dev",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "cpio": "cpio",
    "xz": "xz-utils",
    "gzip": "gzip",
    "setpriv": "util-linux",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``remedy`` is a command line, '' when all is well."""

    what: str
    ok: bool
    found: str
    remedy: str


@click.command()
@click.argument("study", default="versatilepb")
@as_json_option
def doctor(study: str, as_json: bool) -> None:
    """Check the tools, the kernel tree, disk and memory that STUDY needs.

    Exit code 2 when something is missing.
    """
    findings = examine(load_study(study))
    if as_json:
        click.echo(json.dumps([asdict(one) for one in findings], indent=2))
    else:
        table = Table(box=None)
        for title in ("", "what", "found", "how to get it"):
            table.add_column(title, overflow="fold")
        for one in findings:
            mark = Text("ok", "green") if one.ok else Text("missing", "red")
            table.add_row(mark, one.what, one.found, one.remedy)
        console().print(table)
    if not all(one.ok for one in findings):
        raise click.exceptions.Exit(2)


def examine(settings: StudySettings) -> list[Finding]:
    """Look at everything a study needs."""
    prefix = settings.kernel.cross_compile
    target = f"-{prefix.rstrip('-')}" if prefix else ""
    programs = {
        f"{prefix}gcc": f"gcc{target}",
        f"{prefix}ld": f"binutils{target}",
        settings.board.emulator: _emulator_package(settings.board.emulator),
        **PROGRAMS,
    }
    findings = [_program(name, package) for name, package in programs.items()]
    findings += [_tree(settings), _initramfs(settings), _disk(), _memory()]
    return findings


def _emulator_package(emulator: str) -> str:
    return "qemu-system-arm" if emulator.endswith(("arm", "aarch64")) else "qemu-system"


def _program(name: str, package: str) -> Finding:
    path = shutil.which(name)
    return Finding(
        name, path is not None, path or "", "" if path else f"sudo apt install {package}"
    )


def _tree(settings: StudySettings) -> Finding:
    try:
        version = kernel_version(settings.kernel.tree)
    except UserError:
        remedy = f"make setup, or correct 'tree' in {settings.source.name}"
        return Finding("kernel tree", False, f"none in {settings.kernel.tree}", remedy)
    return Finding("kernel tree", True, f"Linux {version} in {settings.kernel.tree}", "")


def _initramfs(settings: StudySettings) -> Finding:
    if settings.initramfs.is_file():
        return Finding("initramfs", True, str(settings.initramfs), "")
    remedy = f"make setup, or correct 'initramfs' in {settings.source.name}"
    return Finding("initramfs", False, f"no {settings.initramfs}", remedy)


def _disk() -> Finding:
    folder = cache_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    enough = free >= LEAST_DISK_GB
    remedy = "" if enough else f"free {LEAST_DISK_GB:.0f} GB there, or set MEMTOTAL_CACHE"
    return Finding("disk", enough, f"{free:.1f} GB free in {folder}", remedy)


def _memory() -> Finding:
    total = memory_gb()
    enough = total >= LEAST_MEMORY_GB
    return Finding("memory", enough, f"{total:.1f} GB", "" if enough else "use --jobs 1")


def require(settings: StudySettings) -> None:
    """Stop early when a study cannot run here.

    Raises:
        UserError: what is missing, and what to do about each. Little memory is no reason.
    """
    missing = [one for one in examine(settings) if not one.ok and one.what != "memory"]
    if missing:
        found = (f"{one.what} ({one.found})" if one.found else one.what for one in missing)
        raise UserError(
            f"Missing: {', '.join(found)}.", "\n".join(f"Run: {one.remedy}" for one in missing)
        )
