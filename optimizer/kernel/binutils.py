"""Which of a cross compiler's tools make and Kconfig are to call."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping


def symbol_lister(cross_compile: str, env: Mapping[str, str]) -> str:
    """What ``NM`` is to be.

    kbuild lists the symbols of each object that was compiled. ``nm`` looks into its folder of
    plugins then, and where LLVM is installed that is 30 ms an object; the compiler's own wrapper of
    it names the compiler's plugin, and looks for no other. Where a compiler came without the
    plugin, the wrapper does not run.

    Args:
        cross_compile: prefix of the tools' names, as given to make.
        env: environment that make will have.
    """
    wrapper = f"{cross_compile}gcc-nm"
    try:
        ran = subprocess.run(
            [wrapper, "--version"], env=dict(env), capture_output=True, check=False
        )
    except OSError:
        return f"{cross_compile}nm"
    return wrapper if ran.returncode == 0 else f"{cross_compile}nm"
