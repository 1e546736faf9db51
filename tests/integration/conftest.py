"""What the integration tests share: a built baseline kernel."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from optimizer.settings import cache_folder


@dataclass(frozen=True)
class BaselineKernel:
    """The files of a kernel that passes every smoke check."""

    image: Path
    device_tree: Path
    initramfs: Path


@pytest.fixture(scope="session")
def baseline_kernel() -> BaselineKernel:
    """versatile_defconfig, as built in the folder that MEMTOTAL_TEST_KERNEL names."""
    boot = Path(os.environ["MEMTOTAL_TEST_KERNEL"]) / "arch/arm/boot"
    return BaselineKernel(
        boot / "zImage", boot / "dts/versatile-pb.dtb", cache_folder() / "rootfs-armel.cpio.gz"
    )
