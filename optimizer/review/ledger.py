"""Where the RAM is, before and after: from two trials' ledgers, else from the kernels' boot line.

The kernel prints its sections in ``Memory: 24436K/32768K available (5011K kernel code, ...)``
(mm/page_alloc.c, mem_init_print_info). Init code and the initramfs are freed later and are then
part of MemTotal; what is in neither is the memory map, page tables, early hash tables and
alignment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from optimizer.records import Ledger, Measurement, Part, Trial

_SECTIONS = (
    ("kernel code", r"(\d+)[kK] (?:kernel )?code"),
    ("read-only data", r"(\d+)[kK] rodata"),
    ("data", r"(\d+)[kK] (?:rw)?data"),
    ("bss", r"(\d+)[kK] bss"),
)
USER = "user space (MemTotal)"
# More cannot be told apart in a bar.
MOST_PARTS = 8
OTHER = "other"
REST = "memory map, page tables, early tables"


@dataclass(frozen=True)
class LedgerPart:
    """One part of the RAM, in kB, in the baseline and in the winner."""

    name: str
    before_kb: float
    after_kb: float


def ledger(before: Trial, after: Trial) -> list[LedgerPart]:
    """The RAM of both, part by part; each side sums to the RAM given.

    Empty when neither a ledger nor the boot line tells it.
    """
    if before.ledger is not None and after.ledger is not None:
        one, other = _entries(before.ledger), _entries(after.ledger)
        if one and other:
            return _largest(one, other)
    if before.measurement is None or after.measurement is None:
        return []
    one, other = _parts(before.measurement), _parts(after.measurement)
    if not one or not other:
        return []
    return [LedgerPart(name, one[name], other.get(name, 0)) for name in one]


def _entries(found: Ledger) -> dict[str, float]:
    """What is between the RAM given and MemTotal, by name, and MemTotal; in kB."""
    if found.mem_total_bytes is None or found.unexplained_bytes != 0:
        return {}
    parts: dict[str, float] = {USER: found.mem_total_bytes / 1024}
    for entry in found.entries:
        if entry.part is Part.RESERVED:
            parts[entry.name] = parts.get(entry.name, 0.0) + entry.bytes / 1024
    return parts


def _largest(one: Mapping[str, float], other: Mapping[str, float]) -> list[LedgerPart]:
    """The parts that are large in either; the small ones together."""
    names = sorted(
        {*one, *other} - {USER}, key=lambda name: -(one.get(name, 0) + other.get(name, 0))
    )
    shown = [USER, *names[:MOST_PARTS]]
    parts = [LedgerPart(name, one.get(name, 0.0), other.get(name, 0.0)) for name in shown]
    rest = [sum(side.get(name, 0.0) for name in names[MOST_PARTS:]) for side in (one, other)]
    return [*parts, LedgerPart(OTHER, rest[0], rest[1])]


def _parts(measured: Measurement) -> dict[str, float]:
    given = re.match(r"Memory: \d+[kK]/(\d+)[kK]", measured.memory_line)
    if not given:
        return {}
    parts: dict[str, float] = {USER: measured.mem_total_kb}
    for name, pattern in _SECTIONS:
        found = re.search(pattern, measured.memory_line)
        parts[name] = float(found[1]) if found else 0.0
    parts[REST] = float(given[1]) - sum(parts.values())
    return parts if parts[REST] >= 0 else {}
