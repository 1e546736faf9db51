"""Fixtures of the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.cli import workshop
from optimizer.kernel.kconfig import SymbolTree
from optimizer.settings import cache_folder, load_study
from tests.integration.kernels import STUDIES, Kernel, build_kernel


@pytest.fixture(scope="session")
def kernel_tree() -> Path:
    """Debian's Linux 6.1, as set-up unpacked it."""
    return cache_folder() / "linux-source-6.1"


@pytest.fixture(scope="session")
def baseline_kernel() -> Kernel:
    """The unmodified versatile_defconfig: minutes the first time, seconds after that."""
    return build_kernel("versatilepb", cache_folder() / "tests" / "baseline")


@pytest.fixture(scope="session")
def small_kernel() -> Kernel:
    """A kernel that just boots to a shell: a minute the first time, seconds after that."""
    return build_kernel(str(STUDIES / "small.toml"), cache_folder() / "tests" / "small")


@pytest.fixture(scope="session")
def small_symbols() -> SymbolTree:
    """The symbols of the small study, its defconfig loaded."""
    return workshop.symbol_tree(load_study(str(STUDIES / "small.toml")))
