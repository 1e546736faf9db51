"""The compiler's stand-in, compiled once a machine: it takes seconds, and every cache needs it."""

from __future__ import annotations

import shutil
from pathlib import Path

from optimizer.kernel.objects import stand_in
from optimizer.settings import cache_folder, environment


def put_stand_in(cache: Path) -> None:
    """Have the stand-in in a cache that is to be used, as an earlier run would have left it."""
    program = stand_in(cache_folder() / "programs", environment())
    target = cache / "programs" / program.parent.name
    target.mkdir(parents=True)
    shutil.copy2(program, target)
