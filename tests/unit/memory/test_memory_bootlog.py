"""Figures from the text that kernels print."""

from __future__ import annotations

import pytest

from optimizer.memory.bootlog import measure, memory_line, parse_meminfo

MEMINFO = """\
MemTotal:          25620 kB
MemFree:           18812 kB
MemAvailable:      18032 kB
Active(anon):         12 kB\r
HugePages_Total:       3
DirectMap4k:        1024 kB
nonsense
"""
LINE = (
    "Memory: 24436K/32768K available (5011K kernel code, 186K rwdata, 1264K rodata, 208K init, "
    "120K bss, 8332K reserved, 0K cma-reserved)"
)


def test_every_line_of_meminfo() -> None:
    assert parse_meminfo(MEMINFO) == {
        "MemTotal": 25620,
        "MemFree": 18812,
        "MemAvailable": 18032,
        "Active(anon)": 12,
        "HugePages_Total": 3,
        "DirectMap4k": 1024,
    }


@pytest.mark.parametrize("stamp", ["", "[    0.000000] ", "[    0.000000][    T0] ", "<6>"])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_memory_line_without_its_stamp(stamp: str, end: str) -> None:
    assert memory_line(f"[    0.000000] x\n{stamp}{LINE}{end}") == LINE


def test_the_line_of_an_old_kernel() -> None:
    log = "Memory: 32MB = 32MB total\nMemory: 26264k/26264k available, 6504k reserved, 0K highmem\n"
    assert memory_line(log) == "Memory: 26264k/26264k available, 6504k reserved, 0K highmem"


def test_a_log_without_the_line() -> None:
    assert memory_line("[    0.000000] Memory policy: Data cache writeback\n") == ""


def test_a_measurement() -> None:
    measured = measure(f"[    0.000000] {LINE}\n", MEMINFO)
    assert measured.mem_total_kb == 25620
    assert measured.mem_available_kb == 18032
    assert measured.meminfo_kb["MemFree"] == 18812
    assert measured.memory_line == LINE


def test_a_kernel_without_mem_available_and_without_a_log() -> None:
    measured = measure("", "MemTotal:  100 kB\n")
    assert (measured.mem_total_kb, measured.mem_available_kb) == (100, None)
    assert measured.memory_line == ""


@pytest.mark.parametrize("text", ["", "cat: can't open '/proc/meminfo'", "MemFree: 1 kB"])
def test_no_mem_total_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="MemTotal"):
        measure("", text)
