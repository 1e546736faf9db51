"""Which nm make and Kconfig are told to call."""

from __future__ import annotations

from pathlib import Path

from optimizer.kernel.binutils import symbol_lister


def wrapper(folder: Path, code: int) -> dict[str, str]:
    """An environment in which the compiler has a wrapper of nm that ends with that code."""
    program = folder / "odd-gcc-nm"
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)
    return {"PATH": str(folder)}


def test_the_compilers_own_wrapper_is_taken(tmp_path: Path) -> None:
    assert symbol_lister("odd-", wrapper(tmp_path, 0)) == "odd-gcc-nm"


def test_a_wrapper_without_its_plugin_is_not(tmp_path: Path) -> None:
    assert symbol_lister("odd-", wrapper(tmp_path, 1)) == "odd-nm"


def test_a_compiler_without_a_wrapper(tmp_path: Path) -> None:
    assert symbol_lister("odd-", {"PATH": str(tmp_path)}) == "odd-nm"
