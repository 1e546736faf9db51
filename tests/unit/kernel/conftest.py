"""A kernel tree of a few lines: enough of Kconfig to tell right from wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

KCONFIG = """
mainmenu "Test"

config CC_VERSION_TEXT
	string
	default "$(CC_VERSION_TEXT)"

config EXPERT
	bool "Experts only"

menuconfig MODULES
	bool "Modules"
	modules
	default y

menu "Drivers"

config BUS
	bool "A bus"
	default y

config CARD
	bool "A card on the bus"
	depends on BUS
	select HELPER
	default y

config HELPER
	bool "Selected by the card"
	default y

config PLUG
	tristate "A module in the baseline"
	default m

config HIDDEN_KNOB
	bool "Only experts turn it" if EXPERT
	default y

endmenu

choice
	prompt "Allocator"
	default BIG

config BIG
	bool "Big"

config SMALL
	bool "Small"

endchoice

config LOG_SHIFT
	int "Log size"
	range 12 25
	default 17

config ADDRESS
	hex "Address"
	default 0x10

config SHRINK
	bool "Saves by being on"

config ANSWER
	string
	default "$(shell,echo forty two)"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that SymbolTree accepts."""
    folder = tmp_path / "linux-0.1"
    (folder / "arch" / "test").mkdir(parents=True)
    (folder / "arch" / "test" / "Kconfig").write_text("# nothing\n")
    (folder / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 7\nEXTRAVERSION =\n")
    (folder / "Kconfig").write_text(KCONFIG)
    return folder


@pytest.fixture
def defconfig(tmp_path: Path) -> Path:
    """An empty base: everything has its default."""
    path = tmp_path / "defconfig"
    path.write_text("# nothing\n")
    return path
