"""The order, the kinds and the verdicts of smoke checks, on a real shell without an emulator."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from guests import PROMPT, ShellMachine
from pydantic import ValidationError

from optimizer.board.machine import Ending
from optimizer.board.smoke import examine
from optimizer.errors import UserError
from optimizer.records import BootResult, BootState
from optimizer.settings import BoardSettings, CheckSettings, Suite, checks_in_order

BOARD = BoardSettings(
    emulator="none", machine="none", memory_mb=1, command_line="", prompt=PROMPT,
    silence_timeout_seconds=20,
)  # fmt: skip
RESTART = {"name": "restart", "kind": "reboot", "command": "exit 0"}


def check(name: str, command: str, expect: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"name": name, "command": command, "expect": expect, **more}


def suite(name: str, *checks: dict[str, Any]) -> Suite:
    return Suite(name=name, check=tuple(CheckSettings(**one) for one in checks))


def run(folder: Path, *suites: Suite, **machine: Any) -> BootResult:  # noqa: ANN401
    with ShellMachine(folder, **machine) as guest:
        return examine(guest, BOARD, suites, guest.transcript)


def verdicts(result: BootResult) -> dict[str, str]:
    """suite/check -> '' when it passed, else its detail."""
    return {f"{one.suite}/{one.name}": "" if one.passed else one.detail for one in result.checks}


def test_checks_that_pass(tmp_path: Path) -> None:
    result = run(tmp_path, suite("a", check("one", "echo $((6*7))", "^42$")))
    assert result.state is BootState.READY
    assert result.passed
    assert verdicts(result) == {"a/one": "", "kernel/no_oops": ""}
    assert "MemTotal" in result.meminfo_text
    assert result.transcript.exists()


def test_a_wrong_answer_is_told_at_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    wrong = check("wrong", "echo 41; false", "^42$", timeout_seconds=1000)
    result = run(tmp_path, suite("a", wrong, check("next", "echo x", "x")))
    assert not result.passed
    assert verdicts(result) == {
        "a/wrong": "expected /^42$/, exit status 1, got '41'",
        "a/next": "",
        "kernel/no_oops": "",
    }
    assert result.detail == "a/wrong: expected /^42$/, exit status 1, got '41'"


def test_details_are_short(tmp_path: Path) -> None:
    result = run(tmp_path, suite("a", check("long", "seq 1000", "^" + "x" * 1000)))
    assert len(result.checks[0].detail) == 300


def test_reboots_are_shared_and_boots_come_in_order(tmp_path: Path) -> None:
    first = suite("a", check("late", "echo b", "b", boot=2), RESTART, check("early", "echo a", "a"))
    second = suite("b", check("early", "echo c", "c"), RESTART)
    assert [(name, one.name) for name, one in checks_in_order([first, second])] == [
        ("a", "early"), ("b", "early"), ("a", "restart"), ("b", "restart"), ("a", "late"),
    ]  # fmt: skip
    with ShellMachine(tmp_path) as guest:
        phases: list[tuple[str, str]] = []
        result = examine(
            guest,
            BOARD,
            [first, second],
            guest.transcript,
            on_phase=lambda phase, what: phases.append((phase, what)),
        )
        assert guest.starts == 2
    assert result.passed
    assert phases == [
        ("boot", "1"), ("smoke", "a/early"), ("smoke", "b/early"), ("smoke", "a/restart"),
        ("boot", "2"), ("smoke", "b/restart"), ("smoke", "a/late"),
    ]  # fmt: skip


def test_a_later_boot_needs_a_restart() -> None:
    with pytest.raises(ValidationError, match="restarts the machine after boot 1"):
        suite("a", check("late", "echo b", "b", boot=2))


def test_a_machine_that_does_not_restart(tmp_path: Path) -> None:
    restart = {"name": "restart", "kind": "reboot", "command": ":", "timeout_seconds": 0.5}
    result = run(tmp_path, suite("a", restart, check("late", "echo b", "b", boot=2)))
    assert verdicts(result)["a/restart"] == "':' did not end the machine within 0.5 s"
    assert verdicts(result)["a/late"].startswith("not run: no restart: ")


def test_a_restart_that_ends_the_machine_uncleanly(tmp_path: Path) -> None:
    result = run(tmp_path, suite("a", RESTART), ending=Ending(clean=False, detail="status 3"))
    assert verdicts(result)["a/restart"] == "the machine did not end cleanly: status 3"


def test_a_restart_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    command = "printf '[    9.000000] %s\\n' 'Reboot failed -- System halted'"
    restart = {"name": "r", "kind": "reboot", "command": command, "timeout_seconds": 1000}
    result = run(tmp_path, suite("a", restart))
    assert verdicts(result)["a/r"] == "Reboot failed -- System halted"


def test_a_panic_ends_the_checks_at_once(tmp_path: Path) -> None:
    command = "printf '[    9.000000] Kernel %s\\n' 'panic - not syncing: x'; cat"
    result = run(
        tmp_path,
        suite("a", check("p", command, "x", timeout_seconds=1000), check("q", "echo", "x")),
    )
    assert result.state is BootState.READY
    assert "Kernel panic - not syncing: x" in verdicts(result)["a/p"]
    assert verdicts(result)["a/q"] == "not run: Kernel panic - not syncing: x"
    assert verdicts(result)["kernel/no_oops"] == "Kernel panic - not syncing: x"


def test_a_survived_oops_fails_the_variant(tmp_path: Path) -> None:
    command = "printf '[    9.000000] kernel %s\\n' 'BUG at mm/slub.c:1!'"
    result = run(tmp_path, suite("a", check("p", command, "BUG")))
    assert verdicts(result) == {"a/p": "", "kernel/no_oops": "kernel BUG at mm/slub.c:1!"}
    assert not result.passed


def test_an_oops_before_the_prompt_counts_too(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        suite("a", RESTART),
        on_start=lambda terminal: os.write(terminal, b"[    1.000000] Internal error: Oops: 5\n"),
    )
    assert verdicts(result)["a/restart"] == ""
    assert verdicts(result)["kernel/no_oops"] == "; ".join(["Internal error: Oops: 5"] * 2)


def test_a_machine_that_ends_in_a_check(tmp_path: Path) -> None:
    result = run(tmp_path, suite("a", check("p", "kill -KILL $$", "x"), check("q", "echo", "x")))
    assert "the machine ended" in verdicts(result)["a/p"]
    assert verdicts(result)["a/q"] == "not run: the machine ended"


def test_typed_characters_are_random_and_summed(tmp_path: Path) -> None:
    typed = check("t", "head -c 5000 | md5sum", "^{md5:typed} ", kind="typed", bytes=5000)
    counted = check("u", "head -c 10 | wc -c", "^ *10$", kind="typed", bytes=10)
    assert run(tmp_path, suite("a", typed, counted)).passed


def test_files_are_made_and_summed(tmp_path: Path) -> None:
    command = f"md5sum <{tmp_path}/blob; wc -c <{tmp_path}/blob"
    expect = "^{md5:blob}  -\n *70000$"
    result = run(tmp_path, suite("a", check("f", command, expect, files={"blob": 70000})))
    assert result.passed, result.detail


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ([check("f", "echo {md5:blob}", "x")], "names no file"),
        ([check("f", "echo", "{md5:typed}")], "names no file"),
        (
            [
                check("f", "echo", "x", files={"blob": 1}),
                check("g", "echo", "x", files={"blob": 2}),
            ],
            "taken already",
        ),
        ([check("f", "echo " + "x" * 1000, "x")], "longer than"),
    ],
)
def test_suites_that_cannot_work(
    tmp_path: Path, checks: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, suite("a", *checks))


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("date +%s", ""),
        ("echo $(($(date +%s) - 150))", "the guest's clock is off by -1"),
        ("echo $(($(date +%s) + 150))", "the guest's clock is off by +1"),
        ("date +%s.", "expected"),
    ],
)
def test_the_hosts_clock(tmp_path: Path, command: str, problem: str) -> None:
    clock = check("c", command, r"^(\d+)$", kind="host_clock", tolerance_seconds=50)
    detail = verdicts(run(tmp_path, suite("a", clock)))["a/c"]
    assert detail.startswith(problem)
    assert bool(detail) == bool(problem)


def test_a_clock_check_without_a_group(tmp_path: Path) -> None:
    clock = check("c", "date +%s", r"^\d+$", kind="host_clock")
    assert "no group 1" in verdicts(run(tmp_path, suite("a", clock)))["a/c"]


def test_no_answer_takes_its_time_and_no_more(tmp_path: Path) -> None:
    """The shell of this test cannot be interrupted, so it counts as lost."""
    began = time.monotonic()
    result = run(
        tmp_path,
        suite("a", check("p", "cat", "x", timeout_seconds=0.3), check("q", "echo", "x")),
    )
    assert "no answer" in verdicts(result)["a/p"]
    assert verdicts(result)["a/q"] == "not run: the console no longer answers"
    assert time.monotonic() - began >= 0.3
