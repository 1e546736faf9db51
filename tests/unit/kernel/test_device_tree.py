"""What make calls the study's device tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.kernel.kbuild import device_tree_target
from optimizer.settings import KernelSettings


def target(tree: Path, name: str, *sources: str) -> str:
    for one in sources:
        path = tree / "arch/arm/boot/dts" / one
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return device_tree_target(
        KernelSettings(
            tree=tree, arch="arm", cross_compile="", defconfig="x", image="zImage", device_tree=name
        )
    )


@pytest.mark.parametrize(
    ("name", "sources", "expected"),
    [
        ("versatile-pb.dtb", ["versatile-pb.dts"], "versatile-pb.dtb"),
        ("versatile-pb.dtb", ["arm/versatile-pb.dts", "arm/other.dts"], "arm/versatile-pb.dtb"),
        ("arm/versatile-pb.dtb", ["arm/versatile-pb.dts"], "arm/versatile-pb.dtb"),
        # A study written for a later kernel, and the tree of an earlier one.
        ("arm/versatile-pb.dtb", ["versatile-pb.dts"], "versatile-pb.dtb"),
        ("board.dtb", ["one/board.dts", "two/board.dts"], "board.dtb"),
        ("board.dtb", [], "board.dtb"),
    ],
)
def test_the_folder_is_found(tmp_path: Path, name: str, sources: list[str], expected: str) -> None:
    assert target(tmp_path, name, *sources) == expected
