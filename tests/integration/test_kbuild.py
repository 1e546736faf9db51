"""Real builds: reproducible, incremental without a trace, safe to cut short."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimizer.kernel.kbuild import BuildTree
from optimizer.kernel.kconfig import SymbolTree, config_digest
from optimizer.kernel.objects import ObjectStore
from optimizer.process import FolderLock
from optimizer.records import Assignment
from optimizer.settings import environment
from tests.integration.kernels import Kernel

pytestmark = [pytest.mark.integration, pytest.mark.kernels]


@pytest.fixture
def tree(small_kernel: Kernel) -> Iterator[BuildTree]:
    """The small kernel's warm tree, brought back to the small configuration first."""
    folder = small_kernel.image.parents[3]
    opened = BuildTree.open(small_kernel.settings.kernel, folder, environment(), jobs=2)
    assert opened is not None
    assert opened.build(small_kernel.config, folder / "build.log").ok
    yield opened
    opened.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def variant(symbols: SymbolTree, **asked: str) -> str:
    return symbols.resolve(Assignment(asked)).text


def test_nothing_to_do_compiles_nothing(
    tree: BuildTree, small_kernel: Kernel, tmp_path: Path
) -> None:
    again = tree.build(small_kernel.config, tmp_path / "log")
    assert again.ok
    assert again.objects == 0
    assert again.image_bytes == small_kernel.image.stat().st_size
    assert config_digest(again.config_text) == config_digest(small_kernel.config)


def test_there_and_back_gives_the_same_image(
    tree: BuildTree, small_kernel: Kernel, small_symbols: SymbolTree, tmp_path: Path
) -> None:
    before = digest(tree.folder / "vmlinux")
    without = tree.build(variant(small_symbols, DEVMEM="n"), tmp_path / "log")
    assert without.ok
    assert without.objects > 0
    assert digest(tree.folder / "vmlinux") != before
    assert sum(without.sections.values()) < sum(small_kernel.build.sections.values())
    assert tree.build(small_kernel.config, tmp_path / "log").ok
    assert digest(tree.folder / "vmlinux") == before


def test_a_build_cut_short_leaves_no_half_objects(
    tree: BuildTree, small_kernel: Kernel, small_symbols: SymbolTree, tmp_path: Path
) -> None:
    before = digest(tree.folder / "vmlinux")
    cancel = threading.Event()
    seen: list[int] = []

    def cut(objects: int) -> None:
        seen.append(objects)
        if objects == 3:
            cancel.set()

    config = variant(small_symbols, PROC_SYSCTL="n")
    cut_short = tree.build(config, tmp_path / "log", on_object=cut, cancel=cancel)
    assert not cut_short.ok
    assert len(seen) >= 3
    assert tree.build(small_kernel.config, tmp_path / "log").ok
    assert digest(tree.folder / "vmlinux") == before


def test_a_tree_in_use_is_not_used_twice(tree: BuildTree, small_kernel: Kernel) -> None:
    second = BuildTree.open(small_kernel.settings.kernel, tree.folder, environment(), jobs=2)
    assert second is None
    assert not FolderLock(tree.folder).acquire()


def test_a_build_past_its_deadline_is_told_and_ended(
    tree: BuildTree, small_kernel: Kernel, small_symbols: SymbolTree, tmp_path: Path
) -> None:
    tree.close()
    hurried = small_kernel.settings.kernel.model_copy(update={"build_timeout_seconds": 8.0})
    opened = BuildTree.open(hurried, tree.folder, environment(), jobs=1)
    assert opened is not None
    try:
        result = opened.build(variant(small_symbols, FUTEX="n"), tmp_path / "log")
    finally:
        opened.close()
    assert result.timed_out
    assert not result.ok


def test_what_does_not_link_is_a_result_with_telling_lines(
    tree: BuildTree, small_kernel: Kernel, tmp_path: Path
) -> None:
    tree.close()
    missing = small_kernel.settings.kernel.model_copy(update={"target": "no-such-image"})
    opened = BuildTree.open(missing, tree.folder, environment(), jobs=1)
    assert opened is not None
    try:
        result = opened.build(small_kernel.config, tmp_path / "log")
    finally:
        opened.close()
    assert not result.ok
    assert any("no-such-image" in line for line in result.errors)


@pytest.mark.parametrize("seed", range(6))
def test_the_kernels_own_tools_agree_with_what_was_resolved(
    seed: int, small_symbols: SymbolTree, small_kernel: Kernel, tmp_path: Path
) -> None:
    choice = random.Random(seed)
    options = [one for one in small_symbols.options(Assignment({})) if one.visible and one.settable]
    asked = {
        one.name: choice.choice(one.settable)
        for one in choice.sample(options, 60)
        if not one.choice and one.settable
    }
    resolved = small_symbols.resolve(Assignment(asked))
    (tmp_path / ".config").write_text(resolved.text)
    kernel = small_kernel.settings.kernel
    argv = ["make", "-s", "-C", str(kernel.tree), f"O={tmp_path}", f"ARCH={kernel.arch}"]
    argv += [f"CROSS_COMPILE={kernel.cross_compile}", "olddefconfig", "savedefconfig"]
    subprocess.run(argv, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    assert config_digest((tmp_path / ".config").read_text()) == resolved.digest
    assert (tmp_path / "defconfig").read_text() == resolved.defconfig


def test_reused_objects_give_the_image_that_compiling_gave(
    tree: BuildTree, small_kernel: Kernel, small_symbols: SymbolTree, tmp_path: Path
) -> None:
    compiled, recipes = digest(tree.folder / "vmlinux"), descriptions(tree.folder)
    tree.close()
    store = ObjectStore.open(tmp_path / "cache", small_kernel.settings.kernel.cross_compile,
                             environment())  # fmt: skip
    again = BuildTree.open(
        small_kernel.settings.kernel, tree.folder, environment(), jobs=2, objects=store
    )
    assert again is not None
    try:
        nothing = again.build(small_kernel.config, tmp_path / "log")
        assert nothing.objects == 0, "that objects are reused changes no command"
        there = again.build(variant(small_symbols, DEBUG_FS="y"), tmp_path / "log")
        assert there.ok
        assert there.reused == 0
        back = again.build(small_kernel.config, tmp_path / "log")
        assert back.ok
        # All but those that debugfs really changed.
        assert back.objects / 2 < back.reused < back.objects
        # Reuse costs little because the stand-in preprocesses nearly everything itself: then its
        # log names the object's key, not a reason.
        log = (again.folder / ".objects.log").read_text().splitlines()
        lines = [line for line in log if not line.startswith("kept ")]
        named = sum(re.fullmatch(r"\w+ \S+ [0-9a-f]{64}", line) is not None for line in lines)
        assert len(lines) > 10
        assert named > 0.97 * len(lines), [one for one in lines if len(one.split()) > 3]
        assert digest(again.folder / "vmlinux") == compiled
        # Most were left in place, and what kbuild has written down of them is what it would write.
        assert len(log) - len(lines) > 50
        found = descriptions(again.folder)
        assert {path: found[path] for path in recipes} == recipes
        assert again.build(small_kernel.config, tmp_path / "log").objects == 0
    finally:
        again.close()


def descriptions(folder: Path) -> dict[str, set[str]]:
    """The lines that kbuild wrote down of each object in ``kernel/``.

    Each once: the compiler lists a header again that it found in another way.
    """
    found = sorted((folder / "kernel").rglob(".*.o.cmd"))
    assert found
    return {str(path.relative_to(folder)): set(path.read_text().split("\n")) for path in found}
