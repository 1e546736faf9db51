"""Ledgers of real kernels from real boots, and what the audit and the floor say of one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from optimizer.board.inspection import inspect
from optimizer.cli.floor import limited
from optimizer.kernel import elf
from optimizer.kernel.contents import contents
from optimizer.memory.initaudit import audit
from optimizer.records import BootState, Ledger, Outcome, Part
from optimizer.search import explanation
from optimizer.search.floor import Step, find_floor
from optimizer.search.trial import Slot, judge
from optimizer.settings import cache_folder, environment
from tests.integration.kernels import Kernel

pytestmark = [pytest.mark.integration, pytest.mark.kernels]

KB = 1024


def vmlinux(kernel: Kernel) -> Path:
    return kernel.image.parents[3] / "vmlinux"


def explain(kernel: Kernel, folder: Path) -> Ledger:
    found = explanation.explain(
        kernel.settings.board,
        kernel.image,
        vmlinux(kernel),
        kernel.device_tree,
        kernel.initramfs,
        folder,
    )
    assert found is not None
    return found


def by_name(found: Ledger, part: Part) -> Mapping[str, int]:
    sums: dict[str, int] = {}
    for one in found.entries:
        if one.part is part:
            sums[one.name] = sums.get(one.name, 0) + one.bytes
    return sums


def closes(found: Ledger) -> None:
    assert found.unexplained_bytes == 0
    assert found.given_bytes == 32768 * KB
    assert found.mem_total_bytes is not None
    assert found.mem_free_bytes is not None
    reserved, taken = by_name(found, Part.RESERVED), by_name(found, Part.TAKEN)
    assert found.sum_bytes(Part.TAKEN) == found.mem_total_bytes - found.mem_free_bytes
    rest = next(size for name, size in taken.items() if name.startswith("remainder"))
    assert abs(rest) < 0.02 * found.given_bytes
    assert reserved["kernel text"] > 1 << 20
    assert reserved["memmap"] == 8192 * 32
    assert reserved["hash table: Dentry cache"] >= 4096
    assert reserved["device tree"] > 20_000
    assert "hash table: " not in reserved
    if found.mem_available_bytes is not None:
        held = found.sum_bytes(Part.HELD)
        assert found.mem_free_bytes - held == found.mem_available_bytes


def test_the_ledger_of_a_real_boot_closes(small_kernel: Kernel, tmp_path: Path) -> None:
    found = explain(small_kernel, tmp_path)
    closes(found)
    assert found.method == "calls noted by the emulator"
    freed = by_name(found, Part.FREED)
    sizes = elf.section_sizes(vmlinux(small_kernel))
    assert freed[".init"] >= sizes[".init.text"] + sizes[".init.data"]
    initramfs = small_kernel.initramfs.stat().st_size
    assert 0 <= freed["initrd"] - initramfs < 4096
    assert not (tmp_path / "calls.log").exists()


def test_the_baseline_closes(baseline_kernel: Kernel, tmp_path: Path) -> None:
    found = explain(baseline_kernel, tmp_path)
    closes(found)
    assert found.mem_total_bytes == 25620 * KB
    taken = by_name(found, Part.TAKEN)
    assert taken["hash table: Table-perturb"] == 256 * KB
    assert taken["DMA pool for atomic allocations"] == 256 * KB


def test_what_the_kernel_tells_and_what_the_emulator_noted_are_the_same(
    baseline_kernel: Kernel, tmp_path: Path
) -> None:
    """Two ways to the early reservations: memblock=debug, and calls seen from outside."""
    kernel = baseline_kernel
    layout = elf.layout(vmlinux(kernel))
    found = inspect(
        kernel.settings.board,
        kernel.image,
        kernel.device_tree,
        kernel.initramfs,
        tmp_path,
        command_line="memblock=debug",
    )
    assert found.state is BootState.READY
    told = explanation.ledger_of(found, layout, vmlinux(kernel), {})
    assert told.unexplained_bytes == 0
    assert told.method == "memblock=debug"
    noted = by_name(explain(kernel, tmp_path / "noted"), Part.RESERVED)
    names = by_name(told, Part.RESERVED)
    # The device tree is reserved before the command line is read; the command line is longer.
    for name in noted.keys() - {"device tree", "command line", "page rounding"}:
        assert names[name] == noted[name], name


def test_the_audit_of_a_real_kernel(small_kernel: Kernel, kernel_tree: Path) -> None:
    output = small_kernel.image.parents[3]
    objects = contents(kernel_tree, output, "arm-linux-gnueabi-", environment())
    sources = {
        one.path: (kernel_tree / one.path).with_suffix(".c").read_text(errors="replace")
        for one in objects
        if (kernel_tree / one.path).with_suffix(".c").is_file()
    }
    found = audit(objects, sources)
    names = {one.name for one in found.candidates}
    # start_kernel() alone calls it, and it is not marked in 6.1.
    assert "calibrate_delay" in names
    # Called by code that stays, exported, or entered from assembly.
    assert names.isdisjoint({"schedule", "printk", "kmalloc", "start_kernel", "vprintk_emit"})
    linked = {one.name for one in elf.layout(output / "vmlinux").symbols}
    assert names <= linked


def test_the_floor_of_a_real_kernel(small_kernel: Kernel, tmp_path: Path) -> None:
    kernel = small_kernel
    settings = kernel.settings.model_copy(update={"suites": ()})
    folder = cache_folder() / "tests" / "small"
    slot = Slot.open(settings, folder, environment(), 1, {})
    assert slot is not None
    try:
        build = slot.build(
            kernel.config, tmp_path / "build.log", lambda *_: None, threading.Event()
        )
        assert build.image is not None
        image = build.image

        def attempt(memory_kb: int, number: int) -> Step:
            boot = slot.boot_with(
                image,
                tmp_path / f"{memory_kb}-{number}",
                lambda *_: None,
                threading.Event(),
                memory_mb=settings.board.memory_mb,
                command_line=limited(settings.board.command_line, memory_kb),
            )
            outcome, reason, measured = judge(boot)
            total = measured.mem_total_kb if measured else None
            return Step(memory_kb, outcome, reason, total, None)

        found = find_floor(32768, 8192, attempt)
    finally:
        slot.close()
    assert found.floor_kb in (8192, 16384, 24576)
    passed = {one.memory_kb: one for one in found.steps if one.outcome is Outcome.PASSED}
    whole, least = passed[32768], passed[found.floor_kb]
    assert whole.mem_total_kb is not None
    assert least.mem_total_kb is not None
    # The limit took: what is gone is gone from MemTotal, down to the smaller tables.
    assert 0 <= (whole.mem_total_kb - least.mem_total_kb) <= 32768 - found.floor_kb
    assert least.mem_total_kb < found.floor_kb


def test_a_kernel_without_symbols_is_not_explained(small_kernel: Kernel, tmp_path: Path) -> None:
    stripped = dataclasses.replace(small_kernel)
    nothing = tmp_path / "vmlinux"
    nothing.write_bytes(small_kernel.image.read_bytes())
    assert (
        explanation.explain(
            stripped.settings.board,
            stripped.image,
            nothing,
            stripped.device_tree,
            stripped.initramfs,
            tmp_path / "boot",
        )
        is None
    )
