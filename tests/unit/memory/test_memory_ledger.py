"""The ledger of a real boot (6.1, versatile_defconfig, memblock=debug), and of maps made up."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.memory import ledger, reservations
from optimizer.memory.bootlog import LogFigures, lines_of, read_figures
from optimizer.memory.ledger import REMAINDER, ROUNDING, UNKNOWN_RESERVED
from optimizer.memory.regions import Region, RegionMap
from optimizer.records import ImageLayout, Ledger, LedgerEntry, Part, Section, Symbol

LOG = (Path(__file__).parent / "logs" / "memblock-debug.txt").read_text()
MEMINFO = LOG[LOG.index("MemTotal:") :]
KB = 1024

# What readelf and nm say of the vmlinux that printed LOG.
IMAGE = ImageLayout(
    tuple(
        Section(name, address, size)
        for name, address, size in (
            (".head.text", 0xC0008000, 0x218),
            (".text", 0xC0008400, 0x4E4CB0),
            (".rodata", 0xC04EE000, 0x1045A8),
            ("__ksymtab", 0xC05F25A8, 0xC978),
            ("__ksymtab_gpl", 0xC05FEF20, 0x8A30),
            ("__ksymtab_strings", 0xC0607950, 0x21A0C),
            ("__param", 0xC062935C, 0x8AC),
            ("__modver", 0xC0629C08, 0x48),
            (".notes", 0xC0629C50, 0x54),
            ("__ex_table", 0xC062A000, 0xAA8),
            (".ARM.unwind_idx", 0xC062AAA8, 0x20DE0),
            (".ARM.unwind_tab", 0xC064B888, 0x744),
            (".init.text", 0xC064C2E0, 0x22754),
            (".init.data", 0xC0670000, 0xCB34),
            (".data", 0xC0680000, 0x2B760),
            ("__bug_table", 0xC06AB760, 0x3150),
            (".bss", 0xC06AE8C0, 0x1E3B8),
            (".vectors", 0xFFFF0000, 0x20),
        )
    ),
    tuple(
        Symbol(address, size, name)
        for name, address, size in (
            ("swapper_pg_dir", 0xC0004000, 0),
            ("_text", 0xC0008000, 0),
            ("_stext", 0xC0008400, 0),
            ("__init_begin", 0xC064C000, 0),
            ("__init_end", 0xC0680000, 0),
            ("_printk_rb_static_infos", 0xC068A310, 45056),
            ("_printk_rb_static_descs", 0xC0695310, 6144),
            ("__log_buf", 0xC06B327C, 16384),
            ("_end", 0xC06CCC78, 0),
        )
    ),
)


def told(log: str = LOG) -> Ledger:
    lines = lines_of(log)
    return ledger.close(
        reservations.from_log(lines), IMAGE, read_figures(lines), MEMINFO, method="memblock=debug"
    )


def kb(found: Ledger, part: Part) -> dict[str, float]:
    sums: dict[str, float] = {}
    for one in found.entries:
        if one.part is part:
            sums[one.name] = sums.get(one.name, 0) + one.bytes / KB
    return sums


def test_every_kilobyte_between_ram_and_mem_total() -> None:
    found = told()
    assert (found.given_bytes, found.mem_total_bytes) == (32768 * KB, 25620 * KB)
    assert found.unexplained_bytes == 0
    assert found.sum_bytes(Part.RESERVED) == (32768 - 25620) * KB


def test_each_has_its_name() -> None:
    reserved = kb(told(), Part.RESERVED)
    assert reserved["kernel text"] == pytest.approx(5011.17, abs=0.01)
    assert reserved["memmap"] == 256  # 8192 pages of 32 bytes
    assert reserved["printk ring"] == 44 + 6 + 16
    assert reserved["hash table: Dentry cache"] == 16
    assert reserved["hash table: Inode-cache"] == 8
    assert reserved["vector pages"] == 8
    assert reserved["page tables"] == 16 + 16
    assert reserved["per-CPU"] == pytest.approx(34.5, abs=0.1)
    assert reserved["device tree"] == pytest.approx(26.6, abs=0.1)
    assert 0 < reserved[ROUNDING] < 20
    assert kb(told(), Part.FREED) == {"initrd": 976, ".init": 208}


def test_a_kernel_without_kallsyms_prints_addresses() -> None:
    names = {"early_alloc": 0xC0651000, "free_area_init": 0xC0652000}
    log = LOG
    for name, address in names.items():
        log = "\n".join(
            line.split(f" {name}+")[0] + f" 0x{address + 36:x}" if f" {name}+" in line else line
            for line in log.splitlines()
        )
    lines = lines_of(log)

    def resolve(address: int) -> str:
        return next((name for name, at in names.items() if at <= address < at + 4096), "")

    found = ledger.close(
        reservations.from_log(lines, resolve),
        IMAGE,
        read_figures(lines),
        MEMINFO,
        method="memblock=debug",
    )
    assert found.unexplained_bytes == 0
    assert kb(found, Part.RESERVED) == kb(told(), Part.RESERVED)


def test_without_vmlinux_the_sum_is_as_exact() -> None:
    lines = lines_of(LOG)
    found = ledger.close(
        reservations.from_log(lines), None, read_figures(lines), MEMINFO, method="memblock=debug"
    )
    assert found.unexplained_bytes == 0
    assert kb(found, Part.FREED) == {"initrd": 976, ".init": 208}
    assert kb(found, Part.RESERVED)["kernel image"] == pytest.approx(6930.1 - 208, abs=0.1)


@pytest.mark.parametrize("lost", [20, 60])
def test_a_ring_that_lost_its_beginning_says_so(lost: int) -> None:
    lines = LOG.splitlines()
    reserves = [number for number, line in enumerate(lines) if "memblock_reserve" in line]
    found = told("\n".join(lines[reserves[0] + lost :]))
    rest = kb(found, Part.RESERVED).get(UNKNOWN_RESERVED)
    assert found.notes or found.unexplained_bytes != 0 or rest


def test_a_kernel_that_tells_nothing() -> None:
    found = ledger.close(
        reservations.from_log([]), IMAGE, LogFigures(), MEMINFO, method="memblock=debug"
    )
    assert found.given_bytes is None
    assert found.unexplained_bytes is None
    assert found.mem_total_bytes == 25620 * KB
    assert kb(found, Part.RESERVED)["kernel text"] == pytest.approx(5011.7, abs=0.1)
    assert "not known" in found.notes[0]


def test_only_the_memory_line() -> None:
    figures = read_figures(lines_of(LOG))
    found = ledger.close(reservations.from_log([]), None, figures, MEMINFO, method="")
    assert kb(found, Part.RESERVED)[UNKNOWN_RESERVED] == 32768 - 25620 - 5011 - 1264 - 186 - 120
    assert found.unexplained_bytes == 0


# --- below MemTotal

ZONEINFO = """\
Node 0, zone   Normal
  pages free     4703
        min      156
        low      195
        high     234
  pagesets
    cpu: 0
              count: 155
              high:  195
"""
VMALLOC = """\
0x(ptrval)-0x(ptrval)   12288 kernel_clone+0xa8/0x348 pages=2 vmalloc
0x(ptrval)-0x(ptrval)    8192 vic_of_init+0x30/0xf4 phys=0x10140000 ioremap
0x(ptrval)-0x(ptrval)  266240 dma_common_contiguous_remap+0x6c/0x88 dma-coherent
0x(ptrval)-0x(ptrval)  966656 dma_common_contiguous_remap+0x6c/0x88 dma-coherent
0xc2800000-0xc2843000  274432 0xc032dec8 pages=66 vmalloc
0x(ptrval)-0x(ptrval)   16384 unpurged vm_area
"""


def test_down_to_mem_free_and_mem_available() -> None:
    figures = read_figures(lines_of(LOG))
    found = ledger.below(
        told(),
        figures,
        MEMINFO,
        zoneinfo=ZONEINFO,
        vmallocinfo=VMALLOC,
        statm="426 1 0 462 0 64 0\n0 0 0 0 0 0 0\n426 300 2 462 0 64 0\n",
        resolve=lambda address: "jffs2_zlib_init" if address == 0xC032DEC8 else "",
    )
    taken = kb(found, Part.TAKEN)
    assert taken["hash table: Table-perturb"] == 256
    assert taken["DMA pool for atomic allocations"] == 256
    assert taken["memory for devices"] == 940
    assert taken["page directories of programs"] == 3 * 16
    assert taken["free, on the processors' lists"] == 155 * 4
    assert taken["kernel stacks"] == 232
    assert taken["per-CPU, taken later"] == 64 - 32
    assert any(one.source == "jffs2_zlib_init" for one in found.entries)
    assert found.mem_free_bytes == 18816 * KB
    assert sum(taken.values()) == 25620 - 18816
    assert abs(taken[REMAINDER]) < 0.02 * 32768
    assert found.mem_available_bytes is not None
    held = found.sum_bytes(Part.HELD)
    assert found.mem_free_bytes - held == found.mem_available_bytes
    # 312 kB of slab can go, half of it is kept; the reserve is the high watermark.
    assert kb(found, Part.HELD) == {"kept back for the kernel": 936, "slab that can go": -156}


def test_without_meminfo_nothing_is_said_below() -> None:
    found = told()
    assert ledger.below(found, LogFigures(), "") == found


# --- the emulator's log of calls


def call(address: int, first: int, second: int, caller: int) -> str:
    return (
        f"Trace 0: 0x7f [00000400/{address:08x}/00000420/ff000200] \n"
        f"R00={first:08x} R01={second:08x} R02=00000000 R03=00000000\n"
        "R04=00000000 R05=00000000 R06=00000000 R07=00000000\n"
        "R08=00000000 R09=00000000 R10=00000000 R11=00000000\n"
        f"R12=00000000 R13=c0681f00 R14={caller:08x} R15={address:08x}\n"
        "PSR=600001d3 -ZC- A svc32\n"
    )


FUNCTIONS = {
    0x100: "memblock_add",
    0x200: "memblock_reserve",
    0x300: "memblock_alloc_try_nid",
    0x400: "memblock_alloc_range_nid",
    0x500: "memblock_phys_free",
    0x600: "memblock_free_all",
    0x700: "free_reserved_area",
    0x800: "alloc_large_system_hash",
    0x900: "memblock_remove",
}
CALLERS = {
    0x1: "setup_arch",
    0x2: "start_kernel",
    0x3: "memblock_alloc_internal",
    0x4: "memblock_alloc_range_nid",
    0x5: "alloc_large_system_hash",
    0x6: "free_area_init",
    0x7: "kernel_init",
}


def traced(*calls: tuple[int, int, int, int]) -> reservations.Reservations:
    lines = "".join(call(*one) for one in calls).splitlines()
    return reservations.from_trace(
        lines, FUNCTIONS, lambda at: CALLERS.get(at, ""), lambda at: "Dentry cache" if at else ""
    )


def test_calls_that_the_emulator_noted() -> None:
    found = traced(
        (0x100, 0, 0x4000000, 0x1),
        (0x900, 0x2000000, 0x2000000, 0x1),
        (0x200, 0x8000, 0x10000, 0x1),
        (0x300, 0x40000, 0x20, 0x6),
        (0x400, 0x40000, 0x20, 0x3),
        (0x200, 0x100000, 0x40000, 0x4),
        (0x800, 0xABC, 0, 0x2),
        (0x300, 0x4000, 0x20, 0x5),
        (0x400, 0x4000, 0x20, 0x3),
        (0x200, 0x200000, 0x4000, 0x4),
        (0x500, 0x203000, 0x1000, 0x2),
        (0x600, 0, 0, 0x2),
        (0x700, 0xC0008000, 0xC0009000, 0x7),
        (0x200, 0x900000, 0x1000, 0x2),
    )
    assert found.complete
    assert found.memory.bytes == 0x2000000
    assert found.reserved.regions == (
        Region(0x8000, 0x18000, "device tree", "setup_arch"),
        Region(0x100000, 0x140000, "memmap", "free_area_init"),
        Region(0x200000, 0x203000, "hash table: Dentry cache", "alloc_large_system_hash"),
    )
    assert found.released_virtual == [(0xC0008000, 0xC0009000, "kernel_init")]


def test_a_trace_that_was_cut_off_is_not_complete() -> None:
    assert not traced((0x100, 0, 0x4000000, 0x1), (0x200, 0x8000, 0x10000, 0x1)).complete


# --- maps in general

PAGES = 12
regions = st.lists(
    st.tuples(st.integers(0, PAGES * 4096 - 1), st.integers(1, 9000)).map(
        lambda one: (one[0], min(one[0] + one[1], PAGES * 4096))
    ),
    max_size=12,
)


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@UNHURRIED
@given(regions, regions)
def test_a_map_is_a_set_of_bytes(
    added: list[tuple[int, int]], taken: list[tuple[int, int]]
) -> None:
    found = RegionMap(Region(start, end, "x") for start, end in added)
    bytes_ = bytearray(PAGES * 4096)
    for start, end in added:
        bytes_[start:end] = b"\1" * (end - start)
    for start, end in taken:
        gone = sum(one.bytes for one in found.remove(start, end))
        assert gone == sum(bytes_[start:end])
        bytes_[start:end] = bytes(end - start)
    assert found.bytes == sum(bytes_)
    order = [(one.start, one.end) for one in found.regions]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(order))


@UNHURRIED
@given(regions, st.lists(st.tuples(st.integers(0, PAGES), st.integers(0, PAGES)), max_size=4))
def test_the_sum_is_exact_whatever_was_reserved(
    added: list[tuple[int, int]], freed: list[tuple[int, int]]
) -> None:
    """Against a count of whole pages, as memblock_free_all() and free_reserved_area() have it."""
    told_ = reservations.Reservations(
        RegionMap([Region(0, PAGES * 4096, "RAM")]),
        RegionMap(Region(start, end, f"r{number}") for number, (start, end) in enumerate(added)),
        [(low * 4096, max(low, high) * 4096, "f") for low, high in freed],
        complete=True,
    )
    kept = {page for start, end in added for page in range(start // 4096, -(-end // 4096))}
    kept -= {page for low, high in freed for page in range(low, max(low, high))}
    mem_total = (PAGES - len(kept)) * 4
    found = ledger.close(told_, None, LogFigures(), f"MemTotal: {mem_total} kB\n", method="")
    assert found.unexplained_bytes == 0
    assert all(isinstance(one, LedgerEntry) and one.bytes > 0 for one in found.entries)


def test_as_many_reservations_as_a_log_may_have_take_no_minutes() -> None:
    lines = [f"memblock_reserve: [0x{n * 64:x}-0x{n * 64 + 15:x}] f+0x1/0x2" for n in range(40_000)]
    started = time.monotonic()
    found = reservations.from_log([*lines, "Memory: 1K/2K available"])
    assert len(found.reserved.regions) == 40_000
    assert time.monotonic() - started < 30
