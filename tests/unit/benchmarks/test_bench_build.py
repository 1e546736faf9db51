"""`make bench-build`: its tables, and that what is wrong is one sentence and exit code 2."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from benchmarks import build
from benchmarks.build import Row
from rich.console import Console

from optimizer.errors import UserError

CLEAN = Row("baseline", "clean", 100.0, 190.0, 1000, 1000, 1000, 1000, vmlinux_identical=True)
OURS = Row("baseline", "memtotal", 120.0, 200.0, 1000, 1000, 1000, 1000, vmlinux_identical=True)


def test_what_is_wrong_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build.main(["--study", str(tmp_path / "none.toml")])
    assert ended.value.code == 2
    assert "none.toml" in capsys.readouterr().err


def test_a_missing_ccache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="ccache is not installed"):
        build.ccache_environment("arm-linux-gnueabi-", tmp_path, {"PATH": str(tmp_path)})


def test_what_is_new_must_be_compiled() -> None:
    joined = replace(OURS, objects_compiled=40, objects_new=50)  # ten of them the linker's
    assert build.least_seconds(CLEAN, joined) == pytest.approx(4.0)
    again = replace(OURS, objects_compiled=40, objects_new=10)
    assert build.least_seconds(CLEAN, again) == pytest.approx(1.0)


def test_the_ways_that_were_asked_for_are_shown() -> None:
    wide = [
        replace(CLEAN, variant="SYSVIPC"),
        replace(
            OURS,
            variant="SYSVIPC",
            wall_seconds=20.0,
            objects_asked=500,
            objects_compiled=100,
            objects_changed=60,
            objects_new=50,
            vmlinux_identical=False,
        ),
    ]
    screen = Console(width=140, record=True)
    build.show([CLEAN, OURS, *wide], ("clean", "memtotal"), screen)
    shown = screen.export_text()
    assert "ccache" not in shown
    assert "of 500 objects that kbuild asked for 60 changed; 400 were not compiled (91%" in shown
    assert "takes 5 s: clean to that is 20.00" in shown
    assert "differs from the clean build's in 1 of 4 builds" in shown


def test_a_file_of_an_earlier_version_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "build.json"
    written.write_text('{"rows": [{"variant": "baseline", "way": "clean"}]}')
    with pytest.raises(SystemExit) as ended:
        build.main(["--output", str(written)])
    assert ended.value.code == 2
    assert "Move it out of the way" in capsys.readouterr().err


@pytest.mark.parametrize("ways", [["kbuild"], ["kbuild", "memtotal"]])
def test_ways_that_it_did_not_begin_with_are_refused(
    tmp_path: Path, ways: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "build.json"
    written.write_text(json.dumps({"rows": [asdict(CLEAN), asdict(OURS)]}))
    before = written.read_bytes()
    with pytest.raises(SystemExit) as ended:
        build.main(["--output", str(written), "--ways", *ways])
    assert ended.value.code == 2
    assert "begun without kbuild." in capsys.readouterr().err
    assert written.read_bytes() == before
