"""A fragment merged by the kernel's own tools gives the variant it was made from."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from optimizer.cli import workshop
from optimizer.kernel.kconfig import SymbolTree, config_digest
from optimizer.records import Assignment, ResolvedConfig
from optimizer.review.export import fragment, provenance, settings_of, with_header
from optimizer.settings import load_study
from optimizer.store import Database

pytestmark = [pytest.mark.integration, pytest.mark.kernels]

HEADER = [
    *provenance("versatilepb", 7, "linux", "gcc (Debian) 12.2.0"),
    "CONFIG_PRINTK is not set",  # a header may say anything
    "CONFIG_NET=n",
]


def make(tree: Path, out: Path, *targets: str) -> None:
    argv = ["make", "-s", "-C", str(tree), f"O={out}", "ARCH=arm"]
    argv += ["CROSS_COMPILE=arm-linux-gnueabi-", *targets]
    run(argv, out)


def run(argv: list[str], out: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(out), "LC_ALL": "C"}
    done = subprocess.run(argv, cwd=out, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def config_of(tree: Path, out: Path, text: str) -> str:
    """What olddefconfig makes of a text."""
    (out / ".config").write_text(text)
    make(tree, out, "olddefconfig")
    return (out / ".config").read_text()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def base(kernel_tree: Path, out: Path) -> str:
    make(kernel_tree, out, "versatile_defconfig")
    return (out / ".config").read_text()


def variant_of(base: str, seed: int, tree: Path, out: Path) -> str:
    """Some options off, some on; every other variant with EXPERT, which shows many more."""
    chance = random.Random(seed)
    lines = base
    known = settings_of(base)
    on = sorted(name for name, value in known.items() if value == "y")
    off = sorted(name for name, value in known.items() if value == "n")
    if seed % 2:
        lines += "CONFIG_EXPERT=y\nCONFIG_EMBEDDED=y\nCONFIG_LOG_BUF_SHIFT=12\n"
    for name in chance.sample(on, chance.choice([1, 8, 60])):
        lines += f"# CONFIG_{name} is not set\n"
    for name in chance.sample(off, 15):
        lines += f"CONFIG_{name}=y\n"
    if seed % 3 == 2:
        # Whole menus gone, with the numbers and strings that are in them.
        lines += "# CONFIG_NET is not set\n# CONFIG_MTD is not set\n# CONFIG_MODULES is not set\n"
    return config_of(tree, out, lines)


@pytest.mark.parametrize("seed", range(6))
def test_base_and_fragment_merge_into_the_variant(
    seed: int, base: str, kernel_tree: Path, out: Path, tmp_path: Path
) -> None:
    variant = variant_of(base, seed, kernel_tree, out)
    assert settings_of(variant) != settings_of(base)

    (tmp_path / "base.config").write_text(with_header(base, HEADER))
    (tmp_path / "memtotal.fragment").write_text(fragment(base, variant, HEADER))
    merge = str(kernel_tree / "scripts/kconfig/merge_config.sh")
    files = [str(tmp_path / "base.config"), str(tmp_path / "memtotal.fragment")]
    run([merge, "-m", "-O", str(out), *files], out)
    make(kernel_tree, out, "olddefconfig")
    assert settings_of((out / ".config").read_text()) == settings_of(variant)


def test_kconfig_reads_nothing_from_a_header(base: str, kernel_tree: Path, out: Path) -> None:
    variant = variant_of(base, 1, kernel_tree, out)
    make(kernel_tree, out, "savedefconfig")
    defconfig = (out / "defconfig").read_text()
    whole = config_of(kernel_tree, out, with_header(variant, HEADER))
    assert settings_of(whole) == settings_of(variant)
    replayed = config_of(kernel_tree, out, with_header(defconfig, HEADER))
    assert settings_of(replayed) == settings_of(variant)


REFERENCE = Path(__file__).parents[2] / "results/reference/versatilepb-6.1/trials.db"


@pytest.fixture(scope="module")
def symbols() -> SymbolTree:
    return workshop.symbol_tree(load_study("versatilepb"))


def round_trip(variant: ResolvedConfig, base: str, tree: Path, out: Path) -> None:
    """The defconfig by olddefconfig, and the fragment by merge_config.sh on the base."""
    wanted = config_digest(variant.text)
    assert config_digest(config_of(tree, out, with_header(variant.defconfig, HEADER))) == wanted
    (out / "base.config").write_text(base)
    (out / "memtotal.fragment").write_text(fragment(base, variant.text, HEADER))
    merge = [str(tree / "scripts/kconfig/merge_config.sh"), "-m", "-O", str(out)]
    run([*merge, str(out / "base.config"), str(out / "memtotal.fragment")], out)
    make(tree, out, "olddefconfig")
    assert config_digest((out / ".config").read_text()) == wanted


def test_the_reference_winner_goes_round(kernel_tree: Path, out: Path) -> None:
    with Database.read(REFERENCE) as database:
        number = database.best()
        assert number is not None
        winner, baseline = database.trial(number), database.trial(0)
    round_trip(winner.resolved, baseline.resolved.text, kernel_tree, out)


@pytest.mark.parametrize("seed", range(6))
def test_random_trials_go_round(
    seed: int, symbols: SymbolTree, kernel_tree: Path, out: Path
) -> None:
    """As a trial asks: the gate open, some options off and some integers changed."""
    chance = random.Random(seed)
    gate = {"EXPERT": "y", "EMBEDDED": "y"}
    base = symbols.resolve(Assignment({})).text
    options = symbols.options(Assignment(gate))
    on = [
        one.name
        for one in options
        if one.visible and one.value == "y" and not one.choice and not one.name.startswith("DEBUG_")
    ]
    asked = dict.fromkeys(chance.sample(on, chance.choice([5, 40, 120])), "n")
    asked |= {"LOG_BUF_SHIFT": str(chance.randrange(12, 18))} | gate
    round_trip(symbols.resolve(Assignment(asked)), base, kernel_tree, out)
