"""``fake-kconf olddefconfig|syncconfig``: scripts/kconfig/conf of the fake kernel tree.

Runs in the output folder with the environment that the tree's Makefile exports, as the real one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import kconfiglib


def main() -> None:
    """Complete .config, or write what the compilers and make read of it."""
    config = kconfiglib.Kconfig("Kconfig", warn_to_stderr=False)
    config.load_config(".config")
    if sys.argv[1] == "olddefconfig":
        config.write_config(".config", save_old=False)
        return
    Path("include/generated").mkdir(parents=True, exist_ok=True)
    config.sync_deps("include/config")
    config.write_autoconf("include/generated/autoconf.h")
    config.write_config("include/config/auto.conf", save_old=False)
    Path("include/config/auto.conf").touch()


if __name__ == "__main__":
    main()
