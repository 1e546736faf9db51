"""Real kernels, built once and kept warm in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optimizer.cli import workshop
from optimizer.kernel.kbuild import BuildTree
from optimizer.records import Assignment, BuildResult
from optimizer.settings import StudySettings, environment, load_study

STUDIES = Path(__file__).parent.parent / "studies"


@dataclass(frozen=True)
class Kernel:
    """A built kernel and what boots with it."""

    settings: StudySettings
    config: str
    build: BuildResult
    image: Path
    device_tree: Path
    initramfs: Path


def build_kernel(study: str, folder: Path) -> Kernel:
    """Build a study's unmodified defconfig in a folder that is kept."""
    settings = load_study(study)
    symbols = workshop.symbol_tree(settings)
    config = symbols.resolve(Assignment({})).text
    tree = BuildTree.open(settings.kernel, folder, environment(), jobs=2)
    assert tree is not None, f"{folder} is in use"
    try:
        build = tree.build(config, folder / "build.log")
        assert build.ok, build.errors
        assert build.image is not None
        device_tree = tree.build_device_tree(folder / "build.log")
        assert device_tree is not None
    finally:
        tree.close()
    return Kernel(settings, config, build, build.image, device_tree, settings.initramfs)
