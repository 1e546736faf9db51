"""Logs of kernels from 2.6 to 6.18, as people published them, and files that are no logs at all."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.errors import UserError
from optimizer.memory import bootlog
from optimizer.memory.bootlog import LogFigures, lines_of, read_figures, read_lines

LOGS = Path(__file__).parent / "logs"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((LOGS / "figures.toml").read_text())
FIGURES = [
    one.name
    for one in dataclasses.fields(LogFigures)
    if one.name.endswith("_kb") and one.name != "meminfo_kb"
]


def figures(content: bytes) -> LogFigures:
    return read_figures(read_lines(io.BytesIO(content), "LOG"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_published_log(name: str) -> None:
    expected = EXPECTED[name]
    found = figures((LOGS / f"{name}.log").read_bytes())
    assert {key: getattr(found, key) for key in FIGURES} == {
        key: expected.get(key) for key in FIGURES
    }
    assert found.kernel_version == expected.get("kernel_version")
    assert found.mem_total_derived is expected.get("mem_total_derived", False)


def test_there_are_logs_of_many_kernels_and_architectures() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == set(EXPECTED)
    assert all(one["source"] for one in EXPECTED.values())
    assert len({name.split("-")[0] for name in EXPECTED}) >= 5


DRESSES = {
    "crlf": lambda line: line + "\r",
    "no stamps": lambda line: re.sub(r"^\[ *[\d.]+\] ", "", line),
    "thread stamps": lambda line: "[    0.000000][    T0] " + re.sub(r"^\[ *[\d.]+\] ", "", line),
    "raw levels": lambda line: "<6>" + line,
    "syslog": lambda line: "Apr 18 12:12:38 board kernel: " + line,
    "logread": lambda line: "Mon Nov  2 17:35:01 2020 kern.info kernel: " + line,
    "a tag": lambda line: f"board2 # {line}" if line.startswith("[") else line,
    "other lines": lambda line: line + "\nstarting syslogd: OK",
    "colours": lambda line: f"\x1b[32m{line}\x1b[0m",
    "lost bytes": lambda line: "\0" + line,
    "dmesg -T": lambda line: re.sub(r"^\[ *[\d.]+\] ", "[Mon Nov  2 17:35:01 2020] ", line),
    "dmesg --time-format iso": lambda line: re.sub(
        r"^\[ *[\d.]+\] ", "2020-11-02T17:35:01,123456+01:00 ", line
    ),
    "dmesg -x": lambda line: "kern  :info  : " + line,
    "a terminal's clock": lambda line: "[2020-11-02 17:35:01.123] " + line + "\r\r",
    "a clock and no stamps": lambda line: "17:35:01 " + re.sub(r"^\[ *[\d.]+\] ", "", line),
    "ts": lambda line: "Nov 02 17:35:01 " + line,
    "grabserial": lambda line: "[12.345678 0.000123] " + line,
}


@pytest.mark.parametrize("dress", DRESSES)
def test_however_the_log_was_taken(dress: str) -> None:
    plain = (LOGS / "arm-6_1-versatile.log").read_text()
    dressed = "\n".join(
        # /proc/meminfo is printed by a program and gets none of it.
        DRESSES[dress](line) if line.startswith("[") else line
        for line in plain.splitlines()
    )
    assert dataclasses.replace(figures(dressed.encode()), notes=()) == figures(plain.encode())


def test_carriage_returns_alone_end_lines() -> None:
    log = (LOGS / "arm-6_1-versatile.log").read_bytes()
    assert figures(log.replace(b"\n", b"\r")) == figures(log)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_what_windows_makes_of_a_log(encoding: str) -> None:
    log = (LOGS / "arm-6_1-versatile.log").read_text()
    assert figures(log.replace("\n", "\r\n").encode(encoding)) == figures(log.encode())


def test_mem_total_follows_from_what_was_given_back() -> None:
    log = (LOGS / "arm-6_1-versatile.log").read_text().split("MemTotal")[0]
    found = figures(log.encode())
    assert (found.mem_total_kb, found.mem_total_derived) == (25620, True)


def test_a_second_boot_is_not_mixed_in() -> None:
    one = (LOGS / "arm-6_1-versatile.log").read_text().split("MemTotal")[0]
    other = one.replace("24436K/32768K", "11111K/22222K").replace("976K", "1K")
    found = figures((one + other).encode())
    assert (found.available_kb, found.freed_initrd_kb) == (24436, 976)
    assert any("more than one boot" in note for note in found.notes)


def test_proc_version_and_proc_meminfo_before_dmesg_are_the_same_boot() -> None:
    log = (LOGS / "arm-6_1-versatile.log").read_text()
    banner = log.splitlines()[0].removeprefix("[    0.000000] ")
    dmesg, meminfo = log.split("MemTotal")
    assert figures(f"{banner}\nMemTotal{meminfo}{dmesg}".encode()) == figures(log.encode())


def test_a_console_then_dmesg_then_proc_meminfo_is_one_boot() -> None:
    log = (LOGS / "arm-6_1-versatile.log").read_text()
    dmesg = log.split("MemTotal")[0]
    assert figures((dmesg + log).encode()) == figures(log.encode())


def test_what_else_x86_gives_back_counts() -> None:
    found = figures(
        b"""\
[    0.000000] Memory: 1995328K/2096628K available (14339K kernel code, 2400K rwdata, 5008K rodata\
, 2736K init, 4960K bss, 101300K reserved, 0K cma-reserved)
[    0.100000] Freeing SMP alternatives memory: 40K
[    2.500000] Freeing unused kernel image memory: 2736K
[    2.500000] Freeing unused kernel image memory: 2036K
[    2.500000] Freeing unused kernel image memory: 1136K
"""
    )
    assert (found.freed_init_kb, found.freed_other_kb) == (2736, 40 + 2036 + 1136)
    assert found.mem_total_kb == 1995328 + 2736 + 40 + 2036 + 1136


def test_what_was_given_back_before_the_memory_line_is_in_it() -> None:
    # Since 6.11 the line comes after SMP alternatives are freed.
    found = figures(
        b"""\
[    0.100000] Freeing SMP alternatives memory: 40K
[    0.200000] Memory: 900K/2000K available (100K kernel code, 10K rwdata, 10K rodata, 20K init, \
5K bss, 1000K reserved, 0K cma-reserved)
[    2.500000] Freeing unused kernel image (initmem) memory: 20K
[    2.500000] Freeing unused kernel image (rodata/data gap) memory: 8K
"""
    )
    assert (found.freed_init_kb, found.freed_other_kb, found.mem_total_kb) == (20, 8, 1028)


def test_a_log_repeated_by_dmesg_counts_once() -> None:
    one = (LOGS / "arm-6_1-versatile.log").read_text()
    again = "".join(line for line in one.splitlines(True) if "Linux version" not in line)
    assert figures((one + again).encode()) == figures(one.encode())


def test_tables_before_and_after_the_page_allocator() -> None:
    found = figures((LOGS / "arm-6_1-versatile.log").read_bytes())
    assert [one.name for one in found.early_tables] == ["Dentry cache", "Inode-cache"]
    assert {one.name: one.bytes for one in found.late_tables}["Table-perturb"] == 262144


@pytest.mark.parametrize("name", EXPECTED)
def test_a_log_cut_anywhere_tells_less_and_nothing_else(name: str) -> None:
    whole_log = (LOGS / f"{name}.log").read_bytes()
    whole = figures(whole_log)
    told = whole_log.find(b"MemFree")
    for cut in range(0, len(whole_log) if told < 0 else told, 3):
        part = figures(whole_log[:cut])
        for key in FIGURES:
            known = getattr(part, key)
            # What was given back adds up, and MemTotal is derived from it until meminfo is there.
            if key == "mem_total_kb" and known != whole.mem_total_kb:
                assert known is None or part.mem_total_derived, cut
            elif key != "mem_total_kb":
                assert known in (None, getattr(whole, key)), (key, cut)


def test_a_memory_line_cut_off_leaves_mem_total_unknown() -> None:
    # Since 6.11 what is available then is less than what the page allocator was given.
    log = (LOGS / "arm-6_12-versatile.log").read_text().replace(", 3188K reserved", "\n")
    found = figures(log.encode())
    assert (found.available_kb, found.freed_init_kb) == (29156, 136)
    assert (found.mem_total_kb, found.mem_total_derived) == (None, False)
    assert any("cut off" in note for note in found.notes)


def test_figures_that_contradict_each_other_leave_mem_total_unknown() -> None:
    log = (LOGS / "arm-6_12-versatile.log").read_text()
    found = figures(log.replace("initrd memory: 976K", "initrd memory: 999999K").encode())
    assert (found.mem_total_kb, found.mem_total_derived) == (None, False)
    assert any("contradict" in note for note in found.notes)


def test_a_number_of_meminfo_cut_off_is_unknown() -> None:
    assert figures(b"MemFree:  100 kB\nMemTotal:   256").mem_total_kb is None


@pytest.mark.parametrize(
    "line",
    [
        "Memory: 99999999999999999999K/99999999999999999999K available (1K kernel code)",
        "Memory: -5K/32768K available",
        "Memory: K/K available",
        "Memory: 0x100K/0x200K available",
        "MemTotal: 999999999999999999999999999999 kB",
        "Out of memory: 12K/24K available somewhere",
        "",
    ],
)
def test_what_is_no_figure_is_unknown(line: str) -> None:
    found = figures(line.encode() + b"\n")
    assert {key: getattr(found, key) for key in FIGURES} == dict.fromkeys(FIGURES)
    assert found.mem_total_derived is False


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=3000))
def test_any_bytes_end_in_figures_or_a_clear_message(content: bytes) -> None:
    # One that is refused says which and what to do instead.
    with contextlib.suppress(UserError):
        assert isinstance(figures(content), LogFigures)


def test_a_binary_file_is_refused() -> None:
    with pytest.raises(UserError, match="binary"):
        figures(bytes(range(256)) * 400 + b"\0" * 100_000)


def test_one_endless_line_takes_no_memory() -> None:
    tracemalloc.start()
    found = figures(b"Memory: " * (1 << 17) + b"\n" + b"Memory: 1K/2K available\n")
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.available_kb, found.total_kb) == (1, 2)
    assert peak < 8 << 20


class Endless(io.RawIOBase):
    """A file of so many megabytes that is never there as a whole."""

    def __init__(self, line: bytes, megabytes: int) -> None:
        self._block = line * ((1 << 20) // len(line))
        self._left = megabytes
        self._pending = io.BytesIO(b"")

    def readline(self, size: int | None = -1) -> bytes:
        piece = self._pending.readline(size if size is not None else -1)
        if not piece and self._left:
            self._left -= 1
            self._pending = io.BytesIO(self._block)
            return self._pending.readline(size if size is not None else -1)
        return piece


@pytest.mark.parametrize(
    "line", [b"x" * 4095 + b"\n", b"[    0.000000] memblock_reserve: [0x1-0x2] f+0x1/0x2\n" * 20]
)
def test_a_hundred_megabytes_are_refused_in_little_memory(line: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(UserError, match="larger than 16 MB"):
        read_lines(Endless(line, 100), "LOG")  # type: ignore[arg-type]
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20


def test_lines_are_cleaned_alike_from_text_and_from_a_file() -> None:
    log = (LOGS / "arm-6_1-versatile.log").read_text()
    assert read_figures(lines_of(log)) == figures(log.encode())
    assert bootlog.memory_line(log).startswith("Memory: 24436K/32768K available")
