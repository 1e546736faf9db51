"""`make bench-build`: what is missing is one sentence and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import build

from optimizer.errors import UserError


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
