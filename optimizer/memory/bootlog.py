"""Kernel log and /proc/meminfo text -> figures. Pure functions: text in, numbers out."""

from __future__ import annotations

import re

from optimizer.records import Measurement

# "MemTotal:          25620 kB"; a count such as "HugePages_Total:       0" has no unit.
_MEMINFO_LINE = re.compile(
    r"^(?P<name>[A-Za-z][\w()]*):\s+(?P<value>\d+)(?: kB)?\s*$", re.MULTILINE
)
# mm/page_alloc.c and mm/mm_init.c: mem_init_print_info(); older kernels say "k" for "K".
_MEMORY_LINE = re.compile(
    r"^(?:<\d>)?(?:\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? )?"
    r"(?P<line>Memory: \d+[kK]/\d+[kK] available.*?)\s*$",
    re.MULTILINE,
)


def parse_meminfo(text: str) -> dict[str, int]:
    """Every line of /proc/meminfo: name -> kB (a bare count for the lines without a unit)."""
    return {found["name"]: int(found["value"]) for found in _MEMINFO_LINE.finditer(text)}


def memory_line(log: str) -> str:
    """The ``Memory: 24436K/32768K available (...)`` line without its stamp, '' when unknown."""
    found = _MEMORY_LINE.search(log)
    return found["line"] if found else ""


def measure(kernel_log: str, meminfo_text: str) -> Measurement:
    """The figures of a kernel that booted.

    Args:
        kernel_log: as dmesg or the console printed it; may be empty.
        meminfo_text: /proc/meminfo.

    Raises:
        ValueError: MemTotal is not in ``meminfo_text``.
    """
    meminfo = parse_meminfo(meminfo_text)
    if "MemTotal" not in meminfo:
        raise ValueError("no MemTotal line in /proc/meminfo")
    return Measurement(
        mem_total_kb=meminfo["MemTotal"],
        mem_available_kb=meminfo.get("MemAvailable"),
        meminfo_kb=meminfo,
        memory_line=memory_line(kernel_log),
    )
