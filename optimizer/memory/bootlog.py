"""Kernel log and /proc/meminfo text -> figures, Linux 2.6 to 6.x. Text in, numbers out.

A log may come from dmesg, a serial console, a syslog file or a pasted terminal: with or without
time stamps, CRLF, other programs' lines in between, cut off anywhere. What is not told is None.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from optimizer.errors import UserError
from optimizer.records import Measurement

# A log is a few hundred lines. These bound what a file of anything else can cost.
MOST_BYTES = 16 << 20
MOST_LINE_BYTES = 2048
MOST_LINES = 50_000
# No machine has so much memory; a longer number is no figure.
_NUMBER = r"\d{1,13}"

# "MemTotal:          25620 kB"; a count such as "HugePages_Total:       0" has no unit,
# any other line without one was cut off.
_MEMINFO_LINE = re.compile(
    rf"^(?P<name>HugePages_\w+(?=:\s+\d+\s*$)|[A-Za-z][\w()]*(?=:\s+\d+ kB\s*$)):"
    rf"\s+(?P<value>{_NUMBER})(?: kB)?\s*$",
    re.MULTILINE,
)
# Loglevel, time since power on with the printing thread or processor, in every mix that is seen.
_STAMP = re.compile(r"^(?:<\d{1,3}>)?(?:\[ *\d+\.\d{3,6}\](?:\[ *[TC]\d+\])? ?)?")
# What loggers put before: a date, a host, "kernel:", a test runner's tag.
_LOGGER = re.compile(r"^.{0,120}?(?=\[ *\d+\.\d{6}\])|^.{0,120}?\bkernel: ")
# What `dmesg -T`, ts, grabserial and terminal programs put before: a date, a time, two counters.
_DATE = r"(?:(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} +\d{1,2} |\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}[T ])?"
_TIME = r"\d{1,2}:\d\d:\d\d(?:[.,:]\d{1,9})?(?:Z| ?[+-]\d\d:?\d\d)?(?: \d{4})?"
_CLOCK = re.compile(
    rf"^(?:\[{_DATE}{_TIME}\]|{_DATE}{_TIME}|\[ *\d+\.\d{{3,6}} +\d+\.\d{{3,6}}\]):?\s+"
)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# mm/page_alloc.c and mm/mm_init.c: mem_init_print_info(); each architecture's mem_init() before.
_MEMORY_LINE = re.compile(rf"^Memory: {_NUMBER}[kK]/{_NUMBER}[kK] available\b.*")
_MEMORY = re.compile(
    rf"^Memory: (?P<available>{_NUMBER})[kK](?:B|/(?P<total>{_NUMBER})[kK])? available\b"
    r"(?P<rest>.*)"
)
_PARTS = re.compile(
    rf"(?<!\d)(?P<kb>{_NUMBER})[kK] (?P<what>(?:kernel )?code|rwdata|rodata|data|init|bss|reserved"
    r"|cma-reserved|highmem|absent)(?=\s*[,)]|\s*$)"
)
# arch/arm/mm/init.c until 4.20: "      .init : 0xc0311000 - 0xc102e000   (13428 kB)"
_LAYOUT = re.compile(
    rf"^\s*\.(?P<name>init|text|data|bss)\s*: \S+ ?- ?\S+\s*"
    rf"\(\s*(?P<size>{_NUMBER}) (?P<unit>kB|MB|KB)\)"
)
_VERSION = re.compile(r"\bLinux version (?P<version>\d+\.\d+\S*)")
# "Freeing init memory: 136K", "Freeing unused kernel memory: 264k freed", "... (initmem) ...";
# x86 gives back more: "Freeing SMP alternatives: 31k freed", "... image (text/rodata gap) ...".
_FREEING = re.compile(
    rf"^Freeing (?P<what>[\w ()/.-]{{1,60}}?)(?: memory)?: (?P<kb>{_NUMBER})[kK](?: freed)?"
)
_TABLE = re.compile(
    r"^(?P<name>[\w -]{1,40}?) hash table entries: \d+ \((?:order: -?\d+, )?(?P<bytes>"
    + _NUMBER
    + r") bytes(?P<rest>[^)]*)\)?"
)
_DMA_POOL = re.compile(
    rf"^DMA: preallocated (?P<kb>{_NUMBER}) KiB (?:pool|GFP_KERNEL pool) for atomic"
)
# Those made with HASH_EARLY, before the page allocator; where the Memory: line stands among them
# tells nothing since 6.11.
_EARLY_TABLES = frozenset({"PID", "Dentry cache", "Dentry-cache", "Inode-cache"})
_INTERESTING = (
    b"Memory: ", b"Linux version", b"Freeing ", b"hash table entries", b"memblock_", b"[0x",
    b".init", b".text", b".data", b".bss", b"DMA: pre", b" kB", b"HugePages", b"MEMBLOCK",
)  # fmt: skip
# "Mlocked:               0 kB" is among the shortest that tell something.
_SHORTEST_LINE = 9


@dataclass(frozen=True)
class HashTable:
    """A table that the kernel made while booting; ``virtual`` when it lies in vmalloc memory."""

    name: str
    bytes: int
    virtual: bool


@dataclass(frozen=True)
class LogFigures:
    """What a boot log tells, in kB; None for what it does not tell.

    ``total_kb`` is as the kernel counts it; ``absent_kb`` of it are holes without memory.
    ``data_kb`` is data with rodata, as kernels before 3.11 count it. ``freed_other_kb`` was given
    back after the Memory: line and is neither .init nor an initrd. ``mem_total_kb`` is that of
    /proc/meminfo where the log has it; else it follows from the other figures, and
    ``mem_total_derived`` is true. ``late_tables`` were made after the page allocator took over.
    """

    kernel_version: str | None = None
    memory_line: str = ""
    total_kb: int | None = None
    available_kb: int | None = None
    reserved_kb: int | None = None
    cma_reserved_kb: int | None = None
    highmem_kb: int | None = None
    absent_kb: int | None = None
    init_kb: int | None = None
    kernel_code_kb: int | None = None
    rwdata_kb: int | None = None
    rodata_kb: int | None = None
    data_kb: int | None = None
    bss_kb: int | None = None
    freed_init_kb: int | None = None
    freed_initrd_kb: int | None = None
    freed_other_kb: int | None = None
    mem_total_kb: int | None = None
    mem_total_derived: bool = False
    dma_pool_kb: int | None = None
    early_tables: tuple[HashTable, ...] = ()
    late_tables: tuple[HashTable, ...] = ()
    meminfo_kb: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def parse_meminfo(text: str) -> dict[str, int]:
    """Every line of /proc/meminfo: name -> kB (a bare count for the lines without a unit)."""
    return {found["name"]: int(found["value"]) for found in _MEMINFO_LINE.finditer(text)}


def memory_line(log: str) -> str:
    """The ``Memory: 24436K/32768K available (...)`` line without its stamp, '' when unknown."""
    for raw in log.splitlines():
        if match := _MEMORY_LINE.match(_STAMP.sub("", raw, count=1)):
            return match[0].rstrip()
    return ""


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


def lines_of(log: str) -> list[str]:
    """A log's lines without stamps, escapes and loggers' prefixes."""
    return [_clean(line) for line in log.splitlines()]


def read_lines(stream: BinaryIO, name: str) -> list[str]:
    """The lines of a file that may tell of memory, cleaned; of bounded size whatever the file is.

    Args:
        stream: opened for reading bytes.
        name: of the file, for messages.

    Raises:
        UserError: larger than any log is, or not text.
    """
    found: list[str] = []
    seen = controls = 0
    wide = False
    rest = b""
    while True:
        piece = stream.readline(MOST_LINE_BYTES)
        if not piece and not rest:
            break
        if not seen:
            wide = piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        seen += len(piece)
        if seen > MOST_BYTES:
            raise UserError(
                f"{name} is larger than {MOST_BYTES >> 20} MB: that is no boot log.",
                "Cut the boot out of it, from 'Linux version' to the first login.",
            )
        # PowerShell writes UTF-16, in which every other byte of a log is zero.
        controls += 0 if wide else piece.count(0)
        lines = (rest + piece.replace(b"\0", b"")).split(b"\r")
        # A terminal may have kept the carriage returns alone.
        rest = lines.pop() if piece and not piece.endswith(b"\n") and len(lines) > 1 else b""
        for line in lines:
            if len(line) < _SHORTEST_LINE or len(found) == MOST_LINES:
                continue
            if any(word in line for word in _INTERESTING):
                found.append(_clean(line.decode("utf-8", "replace")))
    # A serial line drops a zero byte now and then; a binary file has them everywhere.
    if controls > 64 and controls > seen // 64:
        raise UserError(
            f"{name} is a binary file, not a log.",
            "Give the text that the console or dmesg printed.",
        )
    return found


def _clean(raw: str) -> str:
    line = _ESCAPE.sub("", raw).lstrip("\ufeff\ufffd").rstrip("\r\n \t")
    line = _CLOCK.sub("", line, count=1)
    if "kernel: " in line or ("[" in line and not line.startswith(("[", "<"))):
        line = _LOGGER.sub("", line, count=1)
    return _STAMP.sub("", line.lstrip(), count=1).strip()


def read_figures(lines: Iterable[str]) -> LogFigures:
    """The figures of the first boot in a log.

    Args:
        lines: as :func:`lines_of` or :func:`read_lines` give them.
    """
    found = LogFigures()
    meminfo: dict[str, int] = {}
    early: list[HashTable] = []
    late: list[HashTable] = []
    layout: dict[str, int] = {}
    # Given back: what, how much, and whether the Memory: line came before.
    freed: dict[tuple[str, int], bool] = {}
    notes: list[str] = []
    for line in _first_boot(list(lines), notes):
        if match := _VERSION.search(line):
            found = replace(found, kernel_version=match["version"])
        elif match := _MEMORY.match(line):
            if not found.memory_line:
                found = _with_memory_line(found, match)
        elif match := _LAYOUT.match(line):
            size = int(match["size"]) * (1024 if match["unit"] == "MB" else 1)
            layout.setdefault(match["name"], size)
        elif match := _FREEING.match(line):
            # dmesg after a console's boot shows every line twice.
            freed.setdefault((match["what"], int(match["kb"])), bool(found.memory_line))
        elif match := _TABLE.match(line):
            table = HashTable(match["name"], int(match["bytes"]), "vmalloc" in match["rest"])
            if table not in early and table not in late:
                (early if table.name in _EARLY_TABLES and not table.virtual else late).append(table)
        elif match := _DMA_POOL.match(line):
            found = replace(found, dma_pool_kb=int(match["kb"]))
        elif match := _MEMINFO_LINE.match(line):
            meminfo.setdefault(match["name"], int(match["value"]))
    found = replace(
        found,
        early_tables=tuple(early),
        # One made from virtual memory is in vmalloc's figures.
        late_tables=tuple(one for one in late if not one.virtual),
        meminfo_kb=meminfo,
    )
    found = _with_layout(found, layout)
    found = _with_freed(found, freed)
    return _with_mem_total(found, meminfo, notes)


def _first_boot(lines: Sequence[str], notes: list[str]) -> list[str]:
    """The lines of the first boot.

    /proc/version is the same line as the one a boot begins with, and dmesg may follow the console's
    output: what begins with the same version and has no other Memory: line is the same boot.
    """
    starts = [number for number, line in enumerate(lines) if line.startswith("Linux version")]
    kept: list[str] = []
    memory = ""
    for begin, end in itertools.pairwise([0, *starts[1:], len(lines)]):
        part = lines[begin:end]
        theirs = next((line for line in part if _MEMORY.match(line)), "")
        if begin and (lines[begin] != lines[starts[0]] or (memory and theirs not in ("", memory))):
            notes.append("the log has more than one boot; this is the first")
            break
        memory = memory or theirs
        kept += part
    return kept


def _with_memory_line(found: LogFigures, match: re.Match[str]) -> LogFigures:
    parts = {one["what"]: int(one["kb"]) for one in _PARTS.finditer(match["rest"])}
    total = None if match["total"] is None else int(match["total"])
    reserved = parts.get("reserved")
    old_arm = total is not None and "kernel code" not in parts and reserved is not None
    if old_arm and total is not None and reserved is not None:
        # arch/arm/mm/init.c until 3.10 prints what is free twice: first as the page allocator has
        # it, then as counted page by page, beside the pages reserved.
        total += reserved
    elif total == int(match["available"]) or match["rest"].startswith(","):
        # The same, cut off before what is reserved.
        total = None
    return replace(
        found,
        memory_line=match[0],
        available_kb=int(match["available"]),
        total_kb=total,
        reserved_kb=reserved,
        cma_reserved_kb=parts.get("cma-reserved"),
        highmem_kb=parts.get("highmem"),
        absent_kb=parts.get("absent"),
        init_kb=parts.get("init"),
        kernel_code_kb=parts.get("kernel code", parts.get("code")),
        rwdata_kb=parts.get("rwdata"),
        rodata_kb=parts.get("rodata"),
        data_kb=parts.get("data"),
        bss_kb=parts.get("bss"),
    )


def _with_layout(found: LogFigures, layout: dict[str, int]) -> LogFigures:
    """Sizes of the ``Virtual kernel memory layout`` table for what the Memory: line leaves out."""
    bare = found.kernel_code_kb is None
    return replace(
        found,
        init_kb=layout.get("init") if found.init_kb is None else found.init_kb,
        kernel_code_kb=layout.get("text") if bare else found.kernel_code_kb,
        rwdata_kb=layout.get("data") if bare and found.data_kb is None else found.rwdata_kb,
        bss_kb=layout.get("bss") if found.bss_kb is None else found.bss_kb,
    )


def _with_freed(found: LogFigures, freed: Mapping[tuple[str, int], bool]) -> LogFigures:
    init: list[int] = []
    initrd: list[int] = []
    other: list[int] = []
    for (what, kb), after in freed.items():
        if what.startswith("initrd"):
            initrd.append(kb)
        elif what in ("init", "unused kernel image (initmem)") or (
            # x86 until 5.4 calls what lies between its sections the same, after .init itself.
            what.startswith("unused kernel") and "gap" not in what and not init
        ):
            init.append(kb)
        elif after:
            other.append(kb)
    return replace(
        found,
        freed_init_kb=sum(init) if init else None,
        freed_initrd_kb=sum(initrd) if initrd else None,
        freed_other_kb=sum(other) if other else None,
    )


def _with_mem_total(found: LogFigures, meminfo: dict[str, int], notes: list[str]) -> LogFigures:
    """MemTotal as /proc/meminfo has it, or as it follows: what the page allocator was given at
    first, and what was given back to it later.

    Since 3.11 what it was given is all that is not reserved; what is free when the line is printed
    is less since 6.11. Before, the total may count holes, and nothing is taken yet.
    """
    if "MemTotal" in meminfo:
        return replace(found, mem_total_kb=meminfo["MemTotal"], notes=tuple(notes))
    init = found.freed_init_kb if found.freed_init_kb is not None else found.init_kb
    if found.available_kb is None:
        notes.append("there is no Memory: line")
    elif not re.search(r"\)|highmem\s*$", found.memory_line):
        notes.append("MemTotal is not known: the Memory: line is cut off")
    elif init is None:
        notes.append("MemTotal is not known: the log does not say how much .init gave back")
    elif found.cma_reserved_kb:
        notes.append(
            "MemTotal is not known: whether it counts the CMA area depends on who owns that area"
        )
    else:
        given = found.available_kb
        new = "rwdata" in found.memory_line
        if new and found.total_kb is not None and found.reserved_kb is not None:
            given = found.total_kb - found.reserved_kb
        total = given + init + (found.freed_initrd_kb or 0) + (found.freed_other_kb or 0)
        if found.total_kb is not None and total > found.total_kb:
            notes.append("MemTotal is not known: the log's figures contradict each other")
            return replace(found, notes=tuple(notes))
        if found.freed_init_kb is None:
            notes.append("the log ends before .init is freed; an initrd would add to MemTotal")
        return replace(found, mem_total_kb=total, mem_total_derived=True, notes=tuple(notes))
    return replace(found, notes=tuple(notes))
