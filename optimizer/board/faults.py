"""What a kernel says when it is in trouble, as data: one line a pattern.

A pattern holds for one line of the console, at its start or after a time stamp, so that a command's
own text or its echo ("grep 'Kernel panic' log") is not taken for the kernel's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

# `printk.time=1` puts "[    1.234567] " first, CONFIG_PRINTK_CALLER adds "[    T1] " or "[C0] ".
STAMP = r"\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ?"


class Trouble(StrEnum):
    """How bad it is."""

    PANIC = "panic"  # the kernel gave up: nothing more will come
    HALTED = "halted"  # the machine stands still, on purpose or because a restart did not work
    OOPS = "oops"  # the kernel may go on, damaged


@dataclass(frozen=True)
class Pattern:
    """One kind of message: a name for reports, how bad it is, and a regular expression."""

    name: str
    trouble: Trouble
    text: str


@dataclass(frozen=True)
class Finding:
    """A line of the console in which a pattern was found, without its time stamp."""

    name: str
    trouble: Trouble
    line: str


PATTERNS: tuple[Pattern, ...] = (
    # kernel/panic.c: panic(); 2.4 and early 2.6 had no "not syncing".
    Pattern("panic", Trouble.PANIC, r"Kernel panic(?: - not syncing)?: "),
    # kernel/panic.c, after the stack dump; tells of a panic whose first line was torn apart.
    Pattern("panic_end", Trouble.PANIC, r"---\[ end Kernel panic"),
    # arch/arm/kernel/head-common.S and devtree.c: the loop after it never ends.
    Pattern(
        "machine_id", Trouble.PANIC, r"Error: .*unrecognized/unsupported (?:machine|processor)"
    ),
    # arch/*/boot/compressed/misc.c: error() of the decompressor; it has no time stamps.
    Pattern("decompressor", Trouble.PANIC, r" ?-- System halted"),
    # arch/arm/kernel/reboot.c: machine_restart() came back.
    Pattern("restart_failed", Trouble.HALTED, r"Reboot failed -- System halted"),
    # kernel/reboot.c: kernel_halt(), kernel_power_off() without a driver behind it.
    Pattern("halted", Trouble.HALTED, r"(?:reboot: )?(?:System halted|Power down)"),
    # arch/arm/mm/fault.c, arch/arm64/mm/fault.c: __do_kernel_fault(), die_kernel_fault().
    Pattern("bad_access", Trouble.OOPS, r"Unable to handle kernel "),
    # arch/arm/kernel/traps.c: __die(): "Internal error: Oops: 5 [#1] ARM".
    Pattern("internal_error", Trouble.OOPS, r"Internal error: "),
    # x86, MIPS, RISC-V, PowerPC: "Oops[#1]:", "Oops: 0002 [#1]", "Oops [#1]".
    Pattern("oops", Trouble.OOPS, r"Oops(?:\[|: | \[)"),
    # arch/arm/kernel/bugs and lib/bug.c: BUG().
    Pattern("bug_at", Trouble.OOPS, r"kernel BUG at "),
    # mm/, kernel/sched/core.c, lib/: "BUG: Bad page state", "BUG: scheduling while atomic", ... The
    # watchdogs' lockups are left out: a host that is short of CPU time makes them appear.
    Pattern("bug", Trouble.OOPS, r"BUG: (?!soft lockup|workqueue lockup)"),
    # arch/arm/mm/fault.c: do_DataAbort(), do_PrefetchAbort(): no handler for it.
    Pattern("abort", Trouble.OOPS, r"Unhandled (?:prefetch abort|fault): "),
    # arch/arm/kernel/traps.c: bad_mode().
    Pattern("bad_mode", Trouble.OOPS, r"Bad mode in "),
    # kernel/exit.c: an oops while a task was ending after an oops.
    Pattern("recursive", Trouble.OOPS, r"Fixing recursive fault but reboot is needed"),
)

_ANY = re.compile(
    rf"(?:^|{STAMP})(?:" + "|".join(f"(?P<{one.name}>{one.text}.*)" for one in PATTERNS) + ")"
)
_BY_NAME = {one.name: one for one in PATTERNS}


def find(line: str) -> Finding | None:
    """The first pattern that holds for one line of the console; None when all is well."""
    match = _ANY.search(line)
    if match is None or match.lastgroup is None:
        return None
    pattern = _BY_NAME[match.lastgroup]
    return Finding(pattern.name, pattern.trouble, match[pattern.name].strip())
