"""One boot that is asked nothing but where its memory is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from optimizer.board.qemu import QemuMachine
from optimizer.process import Deadline
from optimizer.records import BootState, Inspection
from optimizer.settings import BoardSettings

_READING_SECONDS = 20.0
_TRACE = "calls.log"


def inspect(
    board: BoardSettings,
    image: Path,
    device_tree: Path | None,
    initramfs: Path,
    workdir: Path,
    *,
    traced: Sequence[int] = (),
    command_line: str = "",
    cancel: threading.Event | None = None,
) -> Inspection:
    """Boot a kernel and read what it tells of its memory.

    Args:
        board: the machine.
        image: the kernel.
        device_tree: the .dtb, None when the machine needs none.
        initramfs: the root file system.
        workdir: a folder of this boot; gets console.log and the trace.
        traced: entry addresses of functions whose calls the emulator notes, with the processor's
            registers. The kernel runs as it would without, only slower.
        command_line: words to add to the kernel's command line.
        cancel: when set, the machine is stopped at once.

    Raises:
        UserError: the emulator is missing, or a setting cannot be used.
        MachineFault: the emulator could not run or was killed, or ``cancel`` was set.
    """
    trace = workdir.absolute() / _TRACE
    changes: dict[str, object] = {}
    if traced:
        # nochain: else a call from the same page would not come by where calls are noted.
        places = ",".join(f"0x{address:x}+4" for address in traced)
        changes["arguments"] = (
            *board.arguments,
            # A bare name: the emulator runs in the work folder, and a % in a path has a meaning.
            *("-d", "exec,cpu,nochain", "-dfilter", places, "-D", _TRACE),
        )
    if command_line:
        changes["command_line"] = f"{board.command_line} {command_line}"
    board = board.model_copy(update=changes)
    with QemuMachine(board, image, device_tree, initramfs, workdir, cancel=cancel) as machine:
        console = machine.start()
        arrival = console.wait_for_prompt(
            Deadline(board.boot_timeout_seconds), board.silence_timeout_seconds
        )
        if arrival.state is not BootState.READY:
            return Inspection(arrival.state, arrival.text)

        def read(command: str) -> str:
            reply = console.run(command, Deadline(_READING_SECONDS))
            return reply.output if reply.ok else ""

        # One process reads both, one after the other: what they tell has to fit together.
        both = read("cat /proc/meminfo /proc/zoneinfo")
        meminfo, mark, zoneinfo = both.partition("Node 0")
        if not both:
            meminfo, mark, zoneinfo = read("cat /proc/meminfo"), "", ""
        statm = read("cat /proc/[0-9]*/statm; true")
        vmallocinfo = read("cat /proc/vmallocinfo")
        log = console.run("dmesg", Deadline(_READING_SECONDS))
    return Inspection(
        arrival.state,
        arrival.text,
        kernel_log=log.raw if log.ok else "",
        meminfo=meminfo,
        zoneinfo=mark + zoneinfo,
        vmallocinfo=vmallocinfo,
        statm=statm,
        trace=trace if trace.is_file() else None,
    )
