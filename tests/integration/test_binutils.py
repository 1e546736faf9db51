"""The cross compiler's tools themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from optimizer.kernel.binutils import symbol_lister
from optimizer.settings import environment
from tests.integration.compilers import PREFIX

pytestmark = pytest.mark.integration


def test_the_wrapper_lists_what_nm_lists(tmp_path: Path) -> None:
    (tmp_path / "unit.c").write_text("extern int other; static int mine; int *unit(void)"
                                     "{ return other ? &mine : 0; }\n")  # fmt: skip
    subprocess.run([f"{PREFIX}gcc", "-c", "unit.c"], cwd=tmp_path, check=True)

    def listed(program: str) -> tuple[str, str]:
        done = subprocess.run([program, "--quiet", "unit.o"], cwd=tmp_path, capture_output=True,
                              text=True, check=True)  # fmt: skip
        return done.stdout, done.stderr

    lister = symbol_lister(PREFIX, environment())
    assert lister == f"{PREFIX}gcc-nm"
    assert listed(lister) == listed(f"{PREFIX}nm")
    assert " T unit\n" in listed(lister)[0]
