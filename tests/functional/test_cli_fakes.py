"""The fakes themselves: the emulator keeps the contract, the kernel tree is built as a real one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.contract import EmulatorContract
from fakes.world import World

from optimizer.board import evaluate
from optimizer.records import BootState
from optimizer.settings import BoardSettings, load_study


@dataclass(frozen=True)
class FakeKernel:
    image: Path
    device_tree: Path
    initramfs: Path


def make(world: World, *goals: str) -> str:
    """Run make on the fake tree as the product does; what it printed."""
    output = world.folder / "output"
    output.mkdir(exist_ok=True)
    said = subprocess.run(
        ["make", "-C", world.tree, f"O={output}", "ARCH=arm", "CROSS_COMPILE=fake-", *goals],
        env=world.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout + said.stderr


def build(world: World, config: str) -> FakeKernel:
    """A kernel with these lines on top of the tree's defconfig."""
    output = world.folder / "output"
    output.mkdir(exist_ok=True)
    base = (world.tree / "arch/arm/configs/test_defconfig").read_text(encoding="utf-8")
    (output / ".config").write_text(base + config, encoding="utf-8")
    said = make(world, "olddefconfig") + make(world, "zImage") + make(world, "test.dtb")
    boot = output / "arch/arm/boot"
    assert (boot / "zImage").is_file(), said
    return FakeKernel(boot / "zImage", boot / "dts/test.dtb", world.initramfs)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose kernel tree no test changes, with its output folder kept warm."""
    world = World(tmp_path_factory.mktemp("fakes") / "world")
    yield world
    world.assert_nothing_left()


@pytest.fixture
def board(shared: World, monkeypatch: pytest.MonkeyPatch) -> BoardSettings:
    monkeypatch.setenv("PATH", shared.environment["PATH"])
    return load_study(str(shared.study)).board


class TestFakeEmulator(EmulatorContract):
    """The fake keeps the same contract as the real emulator."""

    @pytest.fixture
    def board(self, board: BoardSettings) -> BoardSettings:
        return board

    @pytest.fixture
    def kernel(self, shared: World) -> FakeKernel:
        return build(shared, "")


@pytest.mark.parametrize(
    ("config", "state", "detail"),
    [
        ("# CONFIG_SERIAL is not set\n", BootState.SILENT, "not one byte"),
        ("# CONFIG_TIMER is not set\n", BootState.HANG, "Calibrating delay loop"),
        ("# CONFIG_AEABI is not set\n", BootState.OOPS, "Internal error: Oops"),
        (
            "CONFIG_EXPERT=y\n# CONFIG_BINFMT_ELF is not set\n",
            BootState.PANIC,
            "No working init found",
        ),
    ],
)
def test_a_kernel_without_what_it_needs(
    shared: World, board: BoardSettings, config: str, state: BootState, detail: str
) -> None:
    kernel = build(shared, config)
    quick = board.model_copy(update={"silence_timeout_seconds": 1.0})
    result = evaluate(
        quick, kernel.image, kernel.device_tree, kernel.initramfs, [], shared.folder / "output"
    )
    assert result.state is state
    assert detail in result.detail


def test_only_what_an_option_touches_is_compiled_again(shared: World) -> None:
    build(shared, "")
    assert "  CC " not in make(shared, "zImage")
    config = shared.folder / "output/.config"
    config.write_text(
        config.read_text().replace("CONFIG_LOG_BUF_SHIFT=16", "CONFIG_LOG_BUF_SHIFT=14")
    )
    compiled = [line for line in make(shared, "zImage").splitlines() if line.startswith("  CC ")]
    assert compiled == ["  CC      kernel/printk.o"]


def test_a_call_into_what_was_left_out_does_not_link(shared: World) -> None:
    build(shared, "")
    config = shared.folder / "output/.config"
    config.write_text(config.read_text().replace("CONFIG_LEDS=y", "# CONFIG_LEDS is not set"))
    assert "undefined reference to `led_register'" in make(shared, "zImage")


def test_a_tree_that_was_built_in_is_refused(world: World) -> None:
    (world.tree / "include/config").mkdir()
    assert "The source tree is not clean, please run 'make ARCH=arm mrproper'" in make(
        world, "olddefconfig"
    )
    make_in_tree = ["make", "-C", str(world.tree), "ARCH=arm", "mrproper"]
    subprocess.run(make_in_tree, env=world.environment, check=True, capture_output=True)
    assert "not clean" not in make(world, "olddefconfig")
