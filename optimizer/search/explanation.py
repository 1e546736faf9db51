"""From a built kernel to its ledger: one more boot, and what vmlinux says of the image.

The boot is one of its own, because noting calls slows the kernel down, and checks have deadlines.
Nothing about the kernel differs from the boot that was measured: its command line is the same.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from optimizer.board.inspection import inspect
from optimizer.kernel import elf
from optimizer.memory import bootlog, ledger, reservations
from optimizer.records import BootState, ImageLayout, Inspection, Ledger
from optimizer.settings import BoardSettings

# The emulator's log of calls is read for 32-bit ARM; other kernels are asked to tell themselves.
_TRACED = "qemu-system-arm"
_TELL = "memblock=debug"
# Idle, a watched boot takes twice as long as another.
SLOWDOWN = 4
_TRACE_METHOD = "calls noted by the emulator"
_LOG_METHOD = "memblock=debug"


def explain(
    board: BoardSettings,
    image: Path,
    vmlinux: Path,
    device_tree: Path | None,
    initramfs: Path,
    workdir: Path,
    *,
    cancel: threading.Event | None = None,
) -> Ledger | None:
    """The ledger of a built kernel.

    Args:
        board: the machine.
        image: what boots.
        vmlinux: the same, with symbols.
        device_tree: the .dtb, None when the machine needs none.
        initramfs: the root file system.
        workdir: a folder of this boot.
        cancel: when set, the machine is stopped at once.

    Returns:
        None when this kernel does not boot, or vmlinux has no symbols.

    Raises:
        UserError, MachineFault: as :func:`optimizer.board.inspection.inspect`.
    """
    try:
        layout = elf.layout(vmlinux)
    except (ValueError, OSError):
        return None
    functions = _functions(layout) if board.emulator == _TRACED else {}
    found = inspect(
        _patient(board),
        image,
        device_tree,
        initramfs,
        workdir,
        traced=sorted(functions),
        command_line="" if functions else _TELL,
        cancel=cancel,
    )
    if found.state is not BootState.READY:
        return None
    try:
        return ledger_of(found, layout, vmlinux, functions)
    finally:
        if found.trace is not None:
            found.trace.unlink(missing_ok=True)


def _patient(board: BoardSettings) -> BoardSettings:
    """The board with deadlines for a kernel that is watched: this boot decides nothing."""
    return board.model_copy(
        update={
            "boot_timeout_seconds": SLOWDOWN * board.boot_timeout_seconds,
            "silence_timeout_seconds": SLOWDOWN * board.silence_timeout_seconds,
        }
    )


def ledger_of(
    found: Inspection, layout: ImageLayout, vmlinux: Path, functions: Mapping[int, str]
) -> Ledger:
    """The ledger from what a boot told.

    Args:
        found: what it told.
        layout: of vmlinux.
        vmlinux: the file, for the names of hash tables.
        functions: traced functions by address; empty when the kernel told by itself.
    """
    resolver = elf.Resolver(layout)
    lines = bootlog.lines_of(whole_log(found.console, found.kernel_log))
    figures = bootlog.read_figures(lines)
    if found.trace is not None and functions:
        with found.trace.open(encoding="ascii", errors="replace") as calls:
            told = reservations.from_trace(
                calls,
                functions,
                resolver.name,
                lambda address: elf.string_at(vmlinux, address),
            )
        method = _TRACE_METHOD
    else:
        told, method = reservations.from_log(lines, resolver.name), _LOG_METHOD
    down_to_mem_total = ledger.close(told, layout, figures, found.meminfo, method=method)
    return ledger.below(
        down_to_mem_total,
        figures,
        found.meminfo,
        zoneinfo=found.zoneinfo,
        vmallocinfo=found.vmallocinfo,
        statm=found.statm,
        resolve=resolver.name,
    )


def whole_log(console: str, kernel_log: str) -> str:
    """The console's text and those lines of the kernel's log that the console did not show.

    A small ring has lost its beginning, and a console shows only what is loud enough.
    """
    shown = {line.rstrip() for line in console.splitlines()}
    more = [line for line in kernel_log.splitlines() if line.rstrip() not in shown]
    first = next((line for line in more if "Linux version" in line), None)
    return "\n".join([*more, console] if first else [console, *more])


def _functions(layout: ImageLayout) -> dict[int, str]:
    wanted = set(reservations.TRACED)
    return {one.address & ~1: one.name for one in layout.symbols if one.name in wanted}
