"""Where the RAM is, before and after: the parts that the kernel's own boot line tells.

The kernel prints its sections in ``Memory: 24436K/32768K available (5011K kernel code, ...)``
(mm/page_alloc.c, mem_init_print_info). Init code and the initramfs are freed later and are then
part of MemTotal; what is in neither is the memory map, page tables, early hash tables and
alignment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from optimizer.records import Measurement

_SECTIONS = (
    ("kernel code", r"(\d+)[kK] (?:kernel )?code"),
    ("read-only data", r"(\d+)[kK] rodata"),
    ("data", r"(\d+)[kK] (?:rw)?data"),
    ("bss", r"(\d+)[kK] bss"),
)
USER = "user space (MemTotal)"
REST = "memory map, page tables, early tables"


@dataclass(frozen=True)
class LedgerPart:
    """One part of the RAM, in kB, in the baseline and in the winner."""

    name: str
    before_kb: float
    after_kb: float


def ledger(before: Measurement | None, after: Measurement | None) -> list[LedgerPart]:
    """The RAM of both, part by part; each side sums to the RAM given. Empty when either's boot line
    does not tell it."""
    if before is None or after is None:
        return []
    one, other = _parts(before), _parts(after)
    if not one or not other:
        return []
    return [LedgerPart(name, one[name], other.get(name, 0)) for name in one]


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
