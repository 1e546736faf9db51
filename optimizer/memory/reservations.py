"""Who reserved memory before the page allocator was up, and who gave some of it back.

The kernel tells with ``memblock=debug`` on its command line. A kernel without printk, or with a
ring smaller than what it has to tell, does not; an emulator's log of calls (QEMU: ``-d exec,cpu``
with ``-dfilter`` on the functions of :data:`TRACED`) tells the same and changes nothing in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from optimizer.memory.regions import Region, RegionMap

Resolve = Callable[[int], str]

# mm/memblock.c and mm/page_alloc.c, 2.6.39 to 6.x; until 5.15 memblock_free() took a physical
# address, as memblock_phys_free() does since.
TRACED = (
    *("memblock_add", "memblock_add_node", "memblock_remove", "memblock_reserve"),
    *("memblock_free", "memblock_phys_free", "memblock_free_late", "memblock_free_all"),
    *("memblock_alloc_try_nid", "memblock_alloc_try_nid_raw", "memblock_alloc_exact_nid_raw"),
    *("memblock_phys_alloc_range", "memblock_phys_alloc_try_nid", "memblock_alloc_range_nid"),
    *("alloc_large_system_hash", "free_reserved_area"),
)
_ALLOCATORS = frozenset(one for one in TRACED if one.startswith("memblock_") and "alloc" in one)
_RESERVED_BEFORE = "reserved before messages began"

_RANGE = r"\[(?:mem )?0x(?P<start>[0-9a-f]{1,16})-0x(?P<end>[0-9a-f]{1,16})\]"
_CALLER = r"(?:.*\s)?(?P<caller>(?:[A-Za-z_][\w.]*|0x[0-9a-f]{1,16})(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?)"
_CALL = re.compile(
    rf"memblock_(?P<what>reserve|phys_free|free|free_late|add|add_node|remove): *{_RANGE},?"
    rf"{_CALLER}?\s*$"
)
_ALLOC = re.compile(
    r"memblock_\w*alloc\w*: (?P<bytes>\d{1,15}) bytes align=(?P<align>0x[0-9a-f]{1,16})"
    rf"{_CALLER}\s*$"
)
_DUMP = re.compile(
    r"^\s*(?P<what>memory|reserved)(?:\[0x[0-9a-f]{1,8}\]|\.\w+\[\w+\])\s*" + _RANGE + r",?\s*0x"
)
_HASH = re.compile(
    r"^(?P<name>[\w -]{1,40}) hash table entries: \d+ \(order: -?\d+, (?P<bytes>\d+) by"
)
# The page allocator has taken over: its figures (much later since 6.11), the slab allocator's line.
_END = re.compile(r"^(Memory: \d|SLUB: |NR_IRQS)")
_TRACE = re.compile(r"^Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")
_REGISTER = re.compile(r"\bR(\d\d)=([0-9a-f]{8})\b")


@dataclass
class Reservations:
    """What was told: the RAM, what was reserved in it when the page allocator took over, and the
    ranges given back afterwards with who did that, by physical and by virtual addresses.

    ``complete`` says that the end was seen.
    """

    memory: RegionMap = field(default_factory=RegionMap)
    reserved: RegionMap = field(default_factory=RegionMap)
    released: list[tuple[int, int, str]] = field(default_factory=list)
    released_virtual: list[tuple[int, int, str]] = field(default_factory=list)
    complete: bool = False


def from_log(lines: Iterable[str], resolve: Resolve = lambda _address: "") -> Reservations:
    """What a log with ``memblock=debug`` tells.

    Args:
        lines: without time stamps.
        resolve: the name of a function by an address in it, '' when unknown. A kernel without
            kallsyms prints addresses.
    """
    told = list(lines)
    found = Reservations()
    inclusive = _inclusive(told)
    asked: tuple[int, int, str] | None = None
    for line in told:
        if match := _ALLOC.search(line):
            asked = (
                int(match["bytes"]),
                int(match["align"], 16),
                _named(match["caller"] or "", resolve),
            )
        elif match := _CALL.search(line):
            start, end = int(match["start"], 16), int(match["end"], 16) + inclusive
            caller = _named(match["caller"] or "", resolve)
            if match["what"] == "reserve":
                name = ""
                if asked is not None and asked[0] == end - start:
                    name, caller = purpose(asked[2], asked[0], asked[1]), asked[2]
                asked = None
                found.reserved.add(
                    Region(start, end, name or purpose(caller, end - start, 0), caller)
                )
            elif match["what"] in ("phys_free", "free"):
                found.reserved.remove(start, end)
            elif match["what"] in ("add", "add_node"):
                found.memory.add(Region(start, end, "RAM"))
            elif match["what"] == "remove":
                found.memory.remove(start, end)
        elif match := _DUMP.search(line):
            start, end = int(match["start"], 16), int(match["end"], 16) + inclusive
            if match["what"] == "memory":
                found.memory.add(Region(start, end, "RAM"))
            else:
                found.reserved.add(Region(start, end, _RESERVED_BEFORE))
        elif match := _HASH.search(line):
            _name_hash(found.reserved, match["name"], int(match["bytes"]))
        elif _END.search(line):
            found.complete = bool(found.reserved.regions)
            break
    return found


def from_trace(
    lines: Iterable[str],
    functions: Mapping[int, str],
    resolve: Resolve,
    text_at: Callable[[int], str],
) -> Reservations:
    """What QEMU's log of calls on 32-bit ARM tells.

    Arguments are in r0 to r3 and the address to return to in r14 when a function is entered
    (Procedure Call Standard for the Arm Architecture, 6.1.1).

    Args:
        lines: of the log.
        functions: entry address -> name, of those of :data:`TRACED` that the kernel has.
        resolve: the name of a function by an address in it.
        text_at: the text at an address of the image.
    """
    found = Reservations()
    asked: tuple[int, int, str] | None = None
    table = ""
    early = True
    new = "memblock_phys_free" in functions.values()
    frees = "memblock_phys_free" if new else "memblock_free"
    for address, registers in _calls(lines):
        name = functions.get(address, "")
        first, second, caller = registers[0], registers[1], resolve(registers[14])
        if name == "memblock_free_all":
            early, found.complete = False, True
        elif name == "alloc_large_system_hash":
            table = text_at(first)
        elif name in _ALLOCATORS:
            # They call each other; who called the first of them is who wants the memory.
            if asked is None or caller not in _ALLOCATORS | {"memblock_alloc_internal"}:
                asked = (first, second, caller)
        elif name == "memblock_reserve" and early:
            inner = caller in _ALLOCATORS | {"memblock_alloc_internal"}
            size, align, whose = asked if inner and asked else (second, 0, caller)
            what = purpose(whose, size, align)
            if whose == "alloc_large_system_hash":
                what = f"hash table: {table}"
            found.reserved.add(Region(first, first + second, what, whose))
            asked = None
        elif name == frees and early:
            found.reserved.remove(first, first + second)
        elif name in ("memblock_add", "memblock_add_node"):
            found.memory.add(Region(first, first + second, "RAM"))
        elif name == "memblock_remove":
            found.memory.remove(first, first + second)
        elif name == "memblock_free_late":
            found.released.append((first, first + second, caller))
        elif name == "free_reserved_area":
            found.released_virtual.append((first, second, caller))
    return found


def _calls(lines: Iterable[str]) -> Iterable[tuple[int, dict[int, int]]]:
    address: int | None = None
    registers: dict[int, int] = {}
    for line in lines:
        if match := _TRACE.match(line):
            address, registers = int(match.group(1), 16), {}
            continue
        for number, value in _REGISTER.findall(line):
            registers[int(number)] = int(value, 16)
        if address is not None and 14 in registers:
            yield address, registers
            address = None


def _inclusive(lines: Iterable[str]) -> int:
    """1 when the ends of the ranges belong to them, as since 4.0; 0 when not.

    Reservations end at even addresses nearly always, so ranges that exclude their end have even
    ends, those that include it have odd ones.
    """
    ends = [
        int(match["end"], 16)
        for line in lines
        if (match := _CALL.search(line)) and match["what"] == "reserve"
    ]
    return int(2 * sum(end & 1 for end in ends) >= len(ends))


def _named(caller: str, resolve: Resolve) -> str:
    name = caller.split("+")[0]
    if name.startswith("0x"):
        return resolve(int(name, 16)) or name
    return name


def _name_hash(reserved: RegionMap, name: str, size: int) -> None:
    """The line that names a hash table comes right after the reservation, which is the newest."""
    for one in reserved.regions:
        if one.source == "alloc_large_system_hash" and one.bytes == size and one.name == _HASHES:
            reserved.remove(one.start, one.end)
            reserved.add(Region(one.start, one.end, f"hash table: {name}", one.source))
            return


_HASHES = "hash tables"
# Function that asked -> what for; the first that matches.
_PURPOSES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"initrd", "initrd"),
        (r"^(early_init_d|early_init_fdt|(__)?unflatten|setup_machine_fdt)", "device tree"),
        (r"^(free_area_init|memmap_alloc|alloc_node_mem_map|sparse_|memmap_init)", "memmap"),
        (r"^(setup_usemap|memblocks_present|subsection_map)", "page block flags"),
        (r"^(pcpu_|setup_per_cpu_areas|ppc?_percpu)", "per-CPU"),
        (r"^alloc_large_system_hash", _HASHES),
        (r"^setup_log_buf", "printk ring"),
        (r"^(dma_contiguous|cma_|rmem_cma|dma_declare)", "CMA"),
        (r"^(early_alloc|early_pgtable|arm_mm_memblock|paging_init|create_mapping)", "page tables"),
        (r"^(start_kernel|setup_command_line)", "command line"),
        (r"^(request_standard_resources|setup_resources|init_resources)", "resources"),
        (r"^(iotable_init|debug_ll_io|pci_reserve)", "static mappings"),
        (r"^(arm_memblock_steal|fdt_|reserve_)", "firmware and device reservations"),
    )
)  # fmt: skip
# arch/arm/mm/mmu.c: devicemaps_init() asks for two pages that lie together; nothing else there.
_VECTORS = 0x2000


def purpose(caller: str, size: int, align: int) -> str:
    """What a reservation is for, by the function that made it; its own name when that is not known.

    Args:
        caller: the function.
        size: of the reservation, in bytes.
        align: that was asked for; 0 for memory that is reserved where it lies.
    """
    if caller == "early_alloc" and size == align == _VECTORS:
        return "vector pages"
    if caller == "setup_arch":
        # arch/arm/kernel/setup.c reserves the device tree it was given where that lies.
        return "resources" if align else "device tree"
    for pattern, name in _PURPOSES:
        if pattern.search(caller):
            return name
    return "other early reservations"
