"""A ledger of the RAM: what was given, what is left, and an entry for all in between.

    RAM given - reserved = MemTotal         exact: every page is accounted for by who reserved it
    MemTotal - taken = MemFree              by /proc; the remainder is an entry of its own
    MemFree - held = MemAvailable           as mm/page_alloc.c: si_mem_available() has it

A page is kept back when one byte of it is reserved (memblock_free_all() rounds what is free
inwards), so what a page holds besides reserved bytes is an entry too, "page rounding".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from optimizer.memory.bootlog import LogFigures, parse_meminfo
from optimizer.memory.regions import Region, RegionMap
from optimizer.memory.reservations import Reservations
from optimizer.records import ImageLayout, Ledger, LedgerEntry, Part, Section, Symbol

PAGE_BYTES = 4096
KB = 1024

ROUNDING = "page rounding"
REMAINDER = "remainder, not told by the kernel"
UNKNOWN_RESERVED = "reserved otherwise, not told by the log"
_INIT = ".init"
_KERNEL = "kernel image"

# Section name -> entry; the first that matches. Gaps between sections are alignment.
_SECTIONS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^\.(head\.)?text$|^\.text\.", "kernel text"),
        (r"^(__ksymtab|__kcrctab)", "exported symbols"),
        (r"^\.(ARM\.(unwind|ex)|eh_frame|orc_)", "unwind tables"),
        (r"^(__bug_table|__ex_table|__mcount)", "bug and exception tables"),
        (r"^\.(rodata|notes|pci_fixup|builtin_fw)|^__(param|modver|tracepoints)", "kernel rodata"),
        (r"^\.data\.\.percpu", "per-CPU template"),
        (r"^\.(bss|sbss)", "kernel bss"),
        (r"", "kernel data"),
    )
)  # fmt: skip
_ALIGNMENT = "section alignment"
_PRINTK = ("__log_buf", "_printk_rb_static_descs", "_printk_rb_static_infos")
_KALLSYMS = "symbol names (kallsyms)"


def _symbol(image: ImageLayout, *names: str) -> Symbol | None:
    wanted = set(names)
    return next((one for one in image.symbols if one.name in wanted), None)


def image_offset(image: ImageLayout, reserved: Iterable[Region]) -> int | None:
    """What to add to a virtual address of the image for the physical one; None when not known.

    Some reservation is the image: from its first symbol to ``_end``, both of which vmlinux has.
    """
    end = _symbol(image, "_end")
    if end is None:
        return None
    for first in ("_stext", "_text", "_start", "KERNEL_START"):
        start = _symbol(image, first)
        if start is None:
            continue
        for one in reserved:
            if one.bytes == end.address - start.address:
                return one.start - start.address
    return None


def init_range(image: ImageLayout) -> tuple[int, int] | None:
    """Virtual addresses of what is freed after boot; None where the image does not say."""
    begin, end = _symbol(image, "__init_begin"), _symbol(image, "__init_end")
    return None if begin is None or end is None else (begin.address, end.address)


def image_parts(image: ImageLayout, first: int, last: int) -> list[Region]:
    """The image between two virtual addresses, by what is in it; without a gap.

    Sections linked to run elsewhere (ARM's vectors) lie in .init in the file, which covers them.
    """
    parts = RegionMap()
    init = init_range(image)
    if init is not None:
        parts.add(Region(*init, _INIT, "__init_begin"))
    for name in _PRINTK:
        if (one := _symbol(image, name)) is not None and one.bytes:
            parts.add(Region(one.address, one.address + one.bytes, "printk ring", name))
    if names := _kallsyms(image):
        parts.add(names)
    for section in image.sections:
        low, high = max(section.address, first), min(section.address + section.bytes, last)
        if low < high:
            parts.add(Region(low, high, _section_name(section), section.name))
    parts.add(Region(first, last, _ALIGNMENT, "linker"))
    # What lies before the first byte reserved (.head.text on ARM) is not in the reservation.
    return [one for one in parts.regions if first <= one.start < last]


def _section_name(section: Section) -> str:
    return next(name for pattern, name in _SECTIONS if pattern.search(section.name))


def _kallsyms(image: ImageLayout) -> Region | None:
    """The tables of scripts/kallsyms: labels without sizes, one after another in .rodata."""
    tables = [
        one.address
        for one in image.symbols
        if re.fullmatch(
            r"kallsyms_(offsets|addresses|relative_base|num_syms|names|markers|seqs_of_names|token_table|token_index)",
            one.name,
        )
    ]
    if not tables:
        return None
    after = [one.address for one in image.symbols if one.address > max(tables)]
    limit = next(
        (
            one.address + one.bytes
            for one in image.sections
            if one.address <= max(tables) < one.address + one.bytes
        ),
        None,
    )
    if limit is None:
        return None
    return Region(min(tables), min([limit, *after[:1]]), _KALLSYMS, "kallsyms_*")


def close(
    reservations: Reservations,
    image: ImageLayout | None,
    figures: LogFigures,
    meminfo_text: str,
    *,
    method: str,
    page_bytes: int = PAGE_BYTES,
) -> Ledger:
    """The ledger between the RAM given and MemTotal, page by page.

    Args:
        reservations: who reserved what; empty ones leave one entry for all that is reserved.
        image: vmlinux; without it the kernel image is split as the log's Memory: line has it.
        figures: the kernel's own, from its log.
        meminfo_text: /proc/meminfo, '' when there is none.
        method: how the reservations were had.
        page_bytes: the kernel's page size.
    """
    mem_total = parse_meminfo(meminfo_text).get("MemTotal", figures.mem_total_kb)
    if not reservations.complete or not reservations.memory.regions:
        return _coarse(figures, mem_total, image)
    reserved = reservations.reserved
    notes: list[str] = []
    offset = None if image is None else image_offset(image, reserved.regions)
    if image is not None and offset is not None:
        reserved = _with_image(reserved, image, offset)
    else:
        if image is not None:
            notes.append("no reservation is as large as the image, so it is one entry")
        reserved = _with_image_named(reserved, figures)
    given = RegionMap(
        Region(start // page_bytes * page_bytes, end // page_bytes * page_bytes, "RAM")
        for start, end in ((one.start, one.end) for one in reservations.memory.regions)
    )
    pages = RegionMap(
        Region(start, end, ROUNDING, "memblock_free_all")
        for start, end in reserved.pages(page_bytes)
    )
    whole = RegionMap([*reserved.regions, *pages.regions])
    outside = RegionMap(whole.regions)
    for one in given.regions:
        outside.remove(one.start, one.end)
    for one in outside.regions:
        whole.remove(one.start, one.end)
    releases = list(reservations.released)
    if offset is not None:
        # The linear mapping is the image's own.
        releases += [
            (start + offset, end + offset, caller)
            for start, end, caller in reservations.released_virtual
        ]
    releases = releases or _told_releases(figures, image, offset, whole)
    freed: list[Region] = []
    for start, end, caller in releases:
        first = -(-start // page_bytes) * page_bytes
        for one in whole.remove(first, end // page_bytes * page_bytes):
            freed.append(_freed(one, caller))
    entries = [
        *_summed(Part.RESERVED, whole.regions),
        *_summed(Part.FREED, freed),
    ]
    return Ledger(
        tuple(entries),
        given_bytes=given.bytes,
        mem_total_bytes=None if mem_total is None else mem_total * KB,
        method=method,
        notes=tuple(notes),
    )


def _with_image(reserved: RegionMap, image: ImageLayout, offset: int) -> RegionMap:
    first = min(one.start for one in reserved.regions if _is_image(one, image, offset)) - offset
    end = _symbol(image, "_end")
    assert end is not None  # noqa: S101 - image_offset() found it
    parts = [
        Region(one.start + offset, one.end + offset, one.name, one.source)
        for one in image_parts(image, first, end.address)
    ]
    named = reserved.replaced(parts)
    tables = _symbol(image, "swapper_pg_dir")
    if tables is not None:
        start = tables.address + offset
        for one in reserved.regions:
            if one.start == start and one.bytes % PAGE_BYTES == 0:
                named = named.replaced([Region(one.start, one.end, "page tables", one.source)])
    return named


def _with_image_named(reserved: RegionMap, figures: LogFigures) -> RegionMap:
    """Without vmlinux: the largest reservation is the image if what the log says of it fits in."""
    parts = (figures.kernel_code_kb, figures.rodata_kb, figures.rwdata_kb, figures.bss_kb)
    told = sum(part or 0 for part in parts) * KB
    largest = max(reserved.regions, key=lambda one: one.bytes, default=None)
    if not told or largest is None or largest.bytes < told:
        return reserved
    return reserved.replaced([Region(largest.start, largest.end, _KERNEL, largest.source)])


def _is_image(one: Region, image: ImageLayout, offset: int) -> bool:
    end = _symbol(image, "_end")
    return end is not None and one.end == end.address + offset


def _told_releases(
    figures: LogFigures, image: ImageLayout | None, offset: int | None, whole: RegionMap
) -> list[tuple[int, int, str]]:
    """What was given back, from a log that says only how much: .init is where vmlinux has it, the
    initrd where it was reserved."""
    found: list[tuple[int, int, str]] = []
    init = None if image is None else init_range(image)
    if figures.freed_init_kb and init is not None and offset is not None:
        found.append((init[0] + offset, init[1] + offset, "free_initmem"))
    elif figures.freed_init_kb:
        # Somewhere in the image; where, the log does not say.
        for one in whole.regions:
            if one.name == _KERNEL and one.bytes > figures.freed_init_kb * KB + PAGE_BYTES:
                start = -(-one.start // PAGE_BYTES) * PAGE_BYTES
                found.append((start, start + figures.freed_init_kb * KB, "free_initmem"))
    if figures.freed_initrd_kb:
        for one in whole.regions:
            if one.name == "initrd":
                found.append((one.start, one.end, "free_initrd_mem"))
    return found


def _freed(one: Region, caller: str) -> Region:
    if "initrd" in caller or one.name == "initrd":
        return Region(one.start, one.end, "initrd", caller)
    if caller.startswith("free_initmem") or one.name == _INIT:
        return Region(one.start, one.end, _INIT, caller)
    return Region(one.start, one.end, one.name, caller)


def _summed(part: Part, regions: Iterable[Region]) -> list[LedgerEntry]:
    sums: dict[tuple[str, str], int] = {}
    for one in regions:
        key = (one.name, one.source)
        sums[key] = sums.get(key, 0) + one.bytes
    return [
        LedgerEntry(part, name, size, source)
        for (name, source), size in sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    ]


def _coarse(figures: LogFigures, mem_total: int | None, image: ImageLayout | None) -> Ledger:
    """What a kernel tells without its early reservations: the image, and one sum for the rest."""
    entries: list[LedgerEntry] = []
    if image is not None:
        entries += _image_entries(image)
    else:
        for name, value in (
            ("kernel text", figures.kernel_code_kb),
            ("kernel rodata", figures.rodata_kb),
            ("kernel data", figures.rwdata_kb),
            ("kernel data and rodata", figures.data_kb),
            ("kernel bss", figures.bss_kb),
            ("holes without memory", figures.absent_kb),
        ):
            if value is not None:
                entries.append(LedgerEntry(Part.RESERVED, name, value * KB, "Memory:"))
    notes = ["the early reservations are not known"]
    freed = [
        LedgerEntry(Part.FREED, name, value * KB, "kernel log")
        for name, value in (
            (_INIT, figures.freed_init_kb or figures.init_kb),
            ("initrd", figures.freed_initrd_kb),
            ("other parts of the image", figures.freed_other_kb),
        )
        if value
    ]
    given = figures.total_kb
    if given is not None and mem_total is not None:
        rest = (given - mem_total) * KB - sum(one.bytes for one in entries)
        entries.append(LedgerEntry(Part.RESERVED, UNKNOWN_RESERVED, rest, "by difference"))
    return Ledger(
        (*entries, *freed),
        given_bytes=None if given is None else given * KB,
        mem_total_bytes=None if mem_total is None else mem_total * KB,
        method="the kernel's own figures",
        notes=tuple(notes),
    )


def _image_entries(image: ImageLayout) -> list[LedgerEntry]:
    first, last = _symbol(image, "_stext", "_text"), _symbol(image, "_end")
    if first is None or last is None:
        return []
    parts = [one for one in image_parts(image, first.address, last.address) if one.name != _INIT]
    return _summed(Part.RESERVED, parts)


def below(
    ledger: Ledger,
    figures: LogFigures,
    meminfo_text: str,
    *,
    zoneinfo: str = "",
    vmallocinfo: str = "",
    statm: str = "",
    resolve: Callable[[int], str] = lambda _address: "",
    page_bytes: int = PAGE_BYTES,
) -> Ledger:
    """The same ledger with what lies below MemTotal, down to MemFree and MemAvailable.

    Args:
        ledger: down to MemTotal.
        figures: of the log, for the hash tables and the DMA pool.
        meminfo_text: /proc/meminfo.
        zoneinfo: /proc/zoneinfo, for free pages on the processors' lists and the watermarks.
        vmallocinfo: /proc/vmallocinfo, for who asked for pages by vmalloc().
        statm: /proc/[0-9]*/statm, to count the processes with an address space.
        resolve: the name of a function by an address in it.
        page_bytes: the kernel's page size.
    """
    meminfo = parse_meminfo(meminfo_text)
    free = meminfo.get("MemFree")
    if ledger.mem_total_bytes is None or free is None:
        return ledger
    taken = [
        *_from_meminfo(meminfo, ledger),
        *_from_vmalloc(meminfo, vmallocinfo, figures, resolve, page_bytes),
        *_from_log(figures),
        *_page_directories(ledger, statm),
        *_per_cpu_lists(zoneinfo, page_bytes),
    ]
    rest = ledger.mem_total_bytes - free * KB - sum(one.bytes for one in taken)
    entries = [
        *ledger.entries,
        *sorted(taken, key=lambda one: -one.bytes),
        LedgerEntry(Part.TAKEN, REMAINDER, rest, "by difference"),
    ]
    available = meminfo.get("MemAvailable")
    if available is not None:
        entries += _held(meminfo, zoneinfo, free, available, page_bytes)
    return Ledger(
        tuple(entries),
        given_bytes=ledger.given_bytes,
        mem_total_bytes=ledger.mem_total_bytes,
        mem_free_bytes=free * KB,
        mem_available_bytes=None if available is None else available * KB,
        method=ledger.method,
        notes=ledger.notes,
    )


def _from_meminfo(meminfo: Mapping[str, int], ledger: Ledger) -> list[LedgerEntry]:
    found = []

    def take(name: str, *lines: str, less: int = 0) -> None:
        told = [meminfo[line] for line in lines if line in meminfo]
        if told and sum(told) * KB - less > 0:
            found.append(
                LedgerEntry(Part.TAKEN, name, sum(told) * KB - less, f"meminfo {'+'.join(lines)}")
            )

    if "SReclaimable" in meminfo:
        take("slab, reclaimable", "SReclaimable")
        take("slab, not reclaimable", "SUnreclaim")
    else:
        take("slab", "Slab")
    take("files in memory", "Cached", "Buffers", less=meminfo.get("Shmem", 0) * KB)
    take("shared memory and tmpfs", "Shmem")
    take("anonymous pages of programs", "AnonPages")
    take("kernel stacks", "KernelStack")
    take("page tables of programs", "PageTables", "SecPageTables")
    # The first chunk was reserved early, and is accounted for there.
    first = sum(
        one.bytes
        for one in ledger.entries
        if one.part is Part.RESERVED and one.source == "setup_per_cpu_areas"
    )
    take("per-CPU, taken later", "Percpu", less=first)
    return found


_AREA = re.compile(r"^\S+-\S+\s+(?P<bytes>\d{1,15}) (?P<caller>\S+)(?P<rest>.*)$", re.MULTILINE)
_STACKS = re.compile(r"kernel_clone|_do_fork|copy_process|dup_task_struct|alloc_thread_stack")


def _from_vmalloc(
    meminfo: Mapping[str, int],
    text: str,
    figures: LogFigures,
    resolve: Callable[[int], str],
    page_bytes: int,
) -> list[LedgerEntry]:
    """Pages behind virtual areas, by who asked; kernel stacks are counted elsewhere.

    Memory for devices (dma_alloc_coherent) is taken from the page allocator and mapped in an area
    too; the pool for atomic allocations is one of them.
    """
    sums: dict[tuple[str, str], int] = {}
    stacks = counted = 0
    pool = (figures.dma_pool_kb or 0) * KB
    for area in _AREA.finditer(text):
        caller = area["caller"].split("+")[0]
        if caller.startswith("0x"):
            caller = resolve(int(caller, 16)) if len(caller) <= 18 else caller
        if pages := re.search(r"\bpages=(\d{1,9})\b", area["rest"]):
            size = int(pages.group(1)) * page_bytes
            counted += size
            if size == 2 * page_bytes and (_STACKS.search(caller) or caller == "start_kernel"):
                stacks += size
                continue
            key = ("vmalloc", caller)
        elif "dma-coherent" in area["rest"]:
            size = int(area["bytes"]) - page_bytes  # the guard page is no memory
            if size == pool:
                pool = 0  # counted by the log's line
                continue
            key = ("memory for devices", caller)
        else:
            continue
        sums[key] = sums.get(key, 0) + size
    found = [LedgerEntry(Part.TAKEN, name, size, who) for (name, who), size in sums.items()]
    # VmallocUsed counts pages since 5.3; the size of the areas before, which is no memory.
    used = meminfo.get("VmallocUsed", 0) * KB
    if not text and used:
        stack_bytes = meminfo.get("KernelStack", 0) * KB
        found.append(
            LedgerEntry(
                Part.TAKEN, "vmalloc", max(0, used - stack_bytes), "meminfo VmallocUsed-KernelStack"
            )
        )
    elif used > counted > 0:
        found.append(LedgerEntry(Part.TAKEN, "vmalloc", used - counted, "areas not listed"))
    return found


def _from_log(figures: LogFigures) -> list[LedgerEntry]:
    found = [
        LedgerEntry(Part.TAKEN, f"hash table: {one.name}", one.bytes, "kernel log")
        for one in figures.late_tables
    ]
    if figures.dma_pool_kb:
        found.append(
            LedgerEntry(
                Part.TAKEN,
                "DMA pool for atomic allocations",
                figures.dma_pool_kb * KB,
                "kernel log",
            )
        )
    return found


def _page_directories(ledger: Ledger, statm: str) -> list[LedgerEntry]:
    """ARM's first-level tables, one a process: __get_free_pages() and in no line of meminfo.

    Their size is that of the kernel's own, which was reserved early.
    """
    size = next(
        (
            one.bytes
            for one in ledger.entries
            if one.part is Part.RESERVED
            and one.name == "page tables"
            and one.source in ("arm_memblock_init", "arm_mm_memblock_reserve")
        ),
        0,
    )
    spaces = sum(1 for line in statm.splitlines() if re.match(r"[1-9]\d*( \d+){6}\s*$", line))
    if not size or not spaces:
        return []
    spaces += 1  # the shell named the files before it started what reads them
    return [
        LedgerEntry(
            Part.TAKEN, "page directories of programs", size * spaces, f"{spaces} address spaces"
        )
    ]


def _per_cpu_lists(zoneinfo: str, page_bytes: int) -> list[LedgerEntry]:
    pages = sum(int(found) for found in re.findall(r"^\s+count:\s+(\d{1,9})\s*$", zoneinfo, re.M))
    if not pages:
        return []
    return [
        LedgerEntry(Part.TAKEN, "free, on the processors' lists", pages * page_bytes, "zoneinfo")
    ]


def _held(
    meminfo: Mapping[str, int], zoneinfo: str, free: int, available: int, page_bytes: int
) -> list[LedgerEntry]:
    """mm/page_alloc.c, si_mem_available(): free pages less the reserves, plus what can be dropped
    of page cache and slab; of each, half or the low watermark is left, whichever is less."""
    low = sum(int(found) for found in re.findall(r"^\s+low\s+(\d{1,9})\s*$", zoneinfo, re.M))
    low_kb = low * page_bytes // KB

    def droppable(value: int) -> int:
        return value - min(value // 2, low_kb)

    cache = droppable(meminfo.get("Active(file)", 0) + meminfo.get("Inactive(file)", 0))
    slab = droppable(meminfo.get("KReclaimable", meminfo.get("SReclaimable", 0)))
    kept = free + cache + slab - available
    found = [LedgerEntry(Part.HELD, "kept back for the kernel", kept * KB, "watermarks")]
    if cache:
        found.append(LedgerEntry(Part.HELD, "page cache that can go", -cache * KB, "meminfo"))
    if slab:
        found.append(LedgerEntry(Part.HELD, "slab that can go", -slab * KB, "meminfo"))
    return found
