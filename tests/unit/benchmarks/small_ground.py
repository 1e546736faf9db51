"""A tree of a dozen options with a recording made by hand: small enough to try every variant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.landscape import Ground
from benchmarks.recording import RecordedNeed, RecordedObject, Recording

from optimizer.kernel.kconfig import SymbolTree
from optimizer.search.space import Space, build_space
from optimizer.settings import OptionSettings, environment

CHECKS = (
    "console/echo", "network/interface", "network/tcp", "console/reboot", "storage/reboot",
    "storage/persistence", "kernel/no_oops",
)  # fmt: skip

KCONFIG = """
config EXPERT
	bool "Experts"

config NET
	bool "Network"
	default y

if NET
config CARD
	bool "Card"
	default y
	select CRC

config ROUTES
	bool "Routes"
	depends on CARD
	default y
endif

config CRC
	bool "Checksums"
	default y

config FS
	bool "File system"
	default y

config FS_CACHE
	bool "Its cache"
	depends on FS
	default y

config CLOCK
	bool "Clock"
	default y

config SOUND
	bool "Sound"
	default y

choice
	prompt "Size"
	default FAST
config FAST
	bool "Fast"
config LEAN
	bool "Lean"
endchoice

choice
	prompt "Tick"
	default SLOW
config SLOW
	bool "Slow"
config QUICK
	bool "Quick"
endchoice

config LOG_BUF_SHIFT
	int "Log"
	range 12 17
	default 17
"""

OPTIONS = OptionSettings.model_validate(
    {"gate": ["EXPERT"], "turn_on": ["LEAN"], "ranges": {"LOG_BUF_SHIFT": [12, 14]}}
)


def write_tree(folder: Path) -> Path:
    (folder / "arch" / "test").mkdir(parents=True)
    (folder / "arch" / "test" / "Kconfig").write_text("")
    (folder / "Makefile").write_text("VERSION = 1\nPATCHLEVEL = 0\n")
    (folder / "Kconfig").write_text('mainmenu "Small"\n' + KCONFIG)
    return folder


def space_of(folder: Path) -> Space:
    tree = SymbolTree(folder, "test", "", environment())
    defconfig = folder / "empty_defconfig"
    defconfig.write_text("")
    tree.load_base(defconfig)
    return build_space(tree, OPTIONS)


def thing(
    path: str,
    size: int,
    options: Sequence[str],
    mentions: Sequence[str] = (),
    **functions: int,
) -> RecordedObject:
    """An object; functions by stage, with ``_`` for the ``/``."""
    stages = {name.replace("_", "/", 1): count for name, count in functions.items()}
    return RecordedObject(path, size, tuple(options), (*options, *mentions), stages, {"boot": 1})


RECORDING = Recording(
    kernel="1.0",
    baseline_kb=20000,
    checks=CHECKS,
    restarts=("console/reboot", "storage/reboot"),
    symbols=("CARD", "CLOCK", "CRC", "FS", "FS_CACHE", "NET", "ROUTES", "SOUND"),
    flags=(),
    objects=(
        thing("init/main.o", 40000, (), ("NET", "FS", "CLOCK", "SOUND"), boot=9),
        thing("net/core.o", 90000, ("NET",), ("ROUTES",), boot=5, network_tcp=4),
        thing("net/card.o", 30000, ("NET", "CARD"), (), boot=2, network_interface=3),
        thing("net/routes.o", 20000, ("NET", "CARD", "ROUTES"), (), never=7),
        thing("lib/crc.o", 5000, ("CRC",), (), never=1),
        thing("fs/fs.o", 60000, ("FS",), ("FS_CACHE",), never=3, storage_persistence=1),
        thing("fs/cache.o", 8000, ("FS", "FS_CACHE"), (), never=3),
        thing("drivers/clock.o", 16000, ("CLOCK",), (), boot=1),
        thing("drivers/sound.o", 70000, ("SOUND",), (), never=20),
    ),
    needs=(
        RecordedNeed("CARD", ("network/interface", "network/tcp"), "trials"),
        RecordedNeed("CLOCK", ("boot",), "trials"),
    ),
    savings={"all_code_share": 0.15, "mentioned_bytes": 3000.0},
)


def ground_of(folder: Path) -> Ground:
    return Ground(space_of(write_tree(folder)), RECORDING)
