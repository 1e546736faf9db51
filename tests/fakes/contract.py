"""What the product relies on in an emulator: held against the fake one and against the real one.

A test class of either derives from :class:`EmulatorContract` and says, by defining the fixtures
``board`` and ``kernel``, which emulator is meant and what it boots. The kernel must have a console,
/proc, printk, and a shell whose ``reboot -f`` restarts the machine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

import pytest

from optimizer.board import evaluate, version
from optimizer.errors import UserError
from optimizer.memory import measure
from optimizer.records import BootResult, BootState
from optimizer.settings import BoardSettings, CheckSettings, Suite


class Kernel(Protocol):
    """The files of a boot."""

    @property
    def image(self) -> Path: ...
    @property
    def device_tree(self) -> Path | None: ...
    @property
    def initramfs(self) -> Path: ...


def command(name: str, text: str, expect: str, **more: object) -> CheckSettings:
    """A smoke check of kind ``command``, or of the kind given."""
    return CheckSettings.model_validate(
        {"name": name, "command": text, "expect": expect, "timeout_seconds": 30, **more}
    )


CHECKS = (
    command("arithmetic", "echo $((6 * 7))", "^42$"),
    command("typing", "head -c 512 | md5sum", "{md5:typed}", kind="typed", bytes=512),
    command("restart", "reboot -f", "", kind="reboot"),
    command("after", "echo up again", "^up again$", boot=2),
)


class EmulatorContract:
    """Assertions that hold for every emulator the product can use."""

    def boot(
        self, board: BoardSettings, kernel: Kernel, folder: Path, *checks: CheckSettings
    ) -> BootResult:
        """One evaluation, as a trial does it."""
        suites = [Suite(name="contract", check=checks)] if checks else []
        folder.mkdir(exist_ok=True)
        return evaluate(board, kernel.image, kernel.device_tree, kernel.initramfs, suites, folder)

    def test_it_says_its_version_in_one_line(self, board: BoardSettings) -> None:
        assert re.search(r"version \d+\.\d+", version(board))

    def test_a_kernel_boots_is_measured_checked_and_restarted(
        self, board: BoardSettings, kernel: Kernel, tmp_path: Path
    ) -> None:
        result = self.boot(board, kernel, tmp_path, *CHECKS)
        assert result.state is BootState.READY, result.detail
        assert [(one.name, one.detail) for one in result.checks if not one.passed] == []
        assert [one.name for one in result.checks] == [*(one.name for one in CHECKS), "no_oops"]
        measured = measure(result.kernel_log, result.meminfo_text)
        total = board.memory_mb * 1024
        assert total // 2 < measured.mem_total_kb < total
        available, given = map(int, re.findall(r"(\d+)K", measured.memory_line)[:2])
        assert given == total
        # What is freed once user space runs comes on top of what the kernel's line calls available.
        assert available <= measured.mem_total_kb
        assert "Linux version" in result.kernel_log
        assert result.transcript.read_text(errors="replace").count("Linux version") >= 2

    def test_a_check_that_fails_is_seen(
        self, board: BoardSettings, kernel: Kernel, tmp_path: Path
    ) -> None:
        result = self.boot(board, kernel, tmp_path, command("wrong", "false", "^right$"))
        assert not result.passed
        assert "expected /^right$/, exit status 1" in result.detail

    def test_a_command_that_never_answers_is_interrupted_and_the_next_runs(
        self, board: BoardSettings, kernel: Kernel, tmp_path: Path
    ) -> None:
        result = self.boot(
            board,
            kernel,
            tmp_path,
            command("stuck", "sleep 1000", "^never$", timeout_seconds=1),
            command("next", "echo goes on", "^goes on$"),
        )
        assert [(one.name, one.passed) for one in result.checks] == [
            ("stuck", False),
            ("next", True),
            ("no_oops", True),
        ]

    def test_the_figures_repeat(self, board: BoardSettings, kernel: Kernel, tmp_path: Path) -> None:
        totals = {
            measure("", self.boot(board, kernel, tmp_path / name).meminfo_text).mem_total_kb
            for name in ("first", "second")
        }
        assert len(totals) == 1

    def test_without_its_root_the_kernel_panics(
        self, board: BoardSettings, kernel: Kernel, tmp_path: Path
    ) -> None:
        nothing = board.command_line.replace("rdinit=/init", "rdinit=/nothing init=/nothing")
        assert nothing != board.command_line
        changed = board.model_copy(update={"command_line": nothing})
        result = self.boot(changed, kernel, tmp_path)
        assert result.state is BootState.PANIC
        assert result.detail.startswith("Kernel panic - not syncing")

    def test_what_is_no_kernel_says_nothing(
        self, board: BoardSettings, kernel: Kernel, tmp_path: Path
    ) -> None:
        image = tmp_path / "image"
        image.write_bytes(bytes(4096))
        quick = board.model_copy(update={"silence_timeout_seconds": 1.0})
        result = evaluate(quick, image, kernel.device_tree, kernel.initramfs, [], tmp_path)
        assert result.state is BootState.SILENT
        assert result.transcript.read_bytes() == b""

    @pytest.mark.parametrize(
        "change",
        [
            {"machine": "no-such-board"},
            {"arguments": ("-no-such-option",)},
        ],
        ids=["machine", "option"],
    )
    def test_settings_that_it_does_not_take_are_the_users(
        self, board: BoardSettings, kernel: Kernel, tmp_path: Path, change: dict[str, object]
    ) -> None:
        with pytest.raises(UserError, match="does not take the board's settings"):
            self.boot(board.model_copy(update=change), kernel, tmp_path)

    def test_it_logs_the_code_that_ran_into_a_file_a_process(
        self, board: BoardSettings, kernel: Kernel, tmp_path: Path
    ) -> None:
        traced = board.model_copy(
            update={
                "arguments": (*board.arguments, "-d", "in_asm", "-D", str(tmp_path / "trace-%d"))
            }
        )
        result = self.boot(traced, kernel, tmp_path, *CHECKS)
        assert result.passed, result.detail
        logs = sorted(tmp_path.glob("trace-*"))
        assert len(logs) == 2  # it was started anew after the restart
        for log in logs:
            assert re.search(rb"^0x[0-9a-f]{8,16}: ", log.read_bytes(), re.MULTILINE)
