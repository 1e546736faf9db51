"""``memtotal explain`` on logs and on studies: what is printed, and what bad input gets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from optimizer.cli.main import cli
from optimizer.errors import MemtotalError
from optimizer.records import Ledger, LedgerEntry, Outcome, Part
from optimizer.store import Database
from tests.unit.store.store_examples import passed_trial

LOGS = Path(__file__).parents[1] / "unit" / "memory" / "logs"
KEYS = {
    *("total_kb", "available_kb", "reserved_kb", "init_kb", "mem_total_kb", "kernel_code_kb"),
    *("rwdata_kb", "rodata_kb", "bss_kb", "kernel_version"),
}
KB = 1024


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def explained(*words: object) -> Any:  # noqa: ANN401 - whatever the JSON holds
    done = run("explain", *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*words: object) -> MemtotalError:
    error = run("explain", *words).exception
    assert isinstance(error, MemtotalError), error
    assert error.remedy
    return error


# --- a log alone


def test_a_log_as_json() -> None:
    found = explained("--log", LOGS / "arm-3_x-raspberry-pi.log")
    assert found.keys() >= KEYS
    assert (found["total_kb"], found["init_kb"], found["rodata_kb"]) == (262144, 13428, None)
    assert (found["mem_total_kb"], found["mem_total_derived"]) == (169212, True)
    assert found["kernel_version"] is None


def test_a_log_with_memblock_debug_closes() -> None:
    found = explained("--log", LOGS / "memblock-debug.txt")["ledger"]
    assert found["given_bytes"] == 32768 * KB
    assert found["unexplained_bytes"] == 0
    assert any(one["name"] == "memmap" for one in found["entries"])


def test_a_log_for_a_person() -> None:
    said = run("explain", "--log", LOGS / "mips-3_3-routerboard.log").output
    assert "124,772 kB (derived)" in said
    assert "unknown" in said
    assert "kernel text" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no line that tells of memory"),
        (b"hello\n" * 1000, "no line that tells of memory"),
        (b"\0\1\2\3" * 100_000, "binary"),
        (b"x" * (17 << 20), "larger than 16 MB"),
        (b"Memory: 9999999999999999999999999K/1K available", "no line that tells of memory"),
    ],
)
def test_what_is_no_log(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    assert message in refused("--log", path).message


def test_a_vmlinux_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "zImage"
    path.write_bytes(b"not an ELF file")
    error = refused("--log", LOGS / "memblock-debug.txt", "--vmlinux", path)
    assert "not an ELF file" in error.message


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("study", "--log", LOGS / "memblock-debug.txt"),
        ("--log", LOGS / "nowhere.log"),
        ("study", "--vmlinux", LOGS / "memblock-debug.txt"),
        ("study", "1", "--diff", "0", "1"),
        ("study", "--top", "0"),
    ],
)
def test_wrong_usage(words: tuple[object, ...]) -> None:
    assert run("explain", *words).exit_code == 2


# --- a study


def ledger(text_kb: int, total_kb: int) -> Ledger:
    return Ledger(
        (
            LedgerEntry(Part.RESERVED, "kernel text", text_kb * KB, ".text"),
            LedgerEntry(Part.RESERVED, "kernel text", 4 * KB, ".head.text"),
            LedgerEntry(Part.FREED, ".init", 208 * KB, "free_initmem"),
            LedgerEntry(Part.TAKEN, "kernel stacks", 100 * KB, "meminfo"),
            LedgerEntry(Part.TAKEN, "remainder, not told by the kernel", 50 * KB, "by difference"),
            LedgerEntry(Part.HELD, "kept back for the kernel", 900 * KB, "watermarks"),
            LedgerEntry(Part.HELD, "slab that can go", -100 * KB, "meminfo"),
        ),
        given_bytes=32768 * KB,
        mem_total_bytes=total_kb * KB,
        mem_free_bytes=(total_kb - 150) * KB,
        mem_available_bytes=(total_kb - 950) * KB,
        method="calls noted by the emulator",
    )


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A results folder with a baseline, a winner, a twin of it and a trial without a ledger."""
    with Database.open(tmp_path / "trials.db", create=True) as database:
        database.bind_study(
            "s", study_digest="", settings_text="", tree_identity="", compiler="", emulator="",
            candidates={},
        )  # fmt: skip
        database.put_trial(passed_trial(tmp_path, 0, ledger=ledger(7144, 25620)))
        database.put_trial(passed_trial(tmp_path, 1, ledger=ledger(3728, 29036), objective=29036.0))
        database.put_trial(passed_trial(tmp_path, 2, ledger=None))
        twin = passed_trial(tmp_path, 3, ledger=None, outcome=Outcome.DUPLICATE, duplicate_of=1)
        database.put_trial(replace(twin, build=None, boot=None, measurement=None, objective=None))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "trial"), [((), 1), (("winner",), 1), (("baseline",), 0), (("1",), 1), (("3",), 1)]
)
def test_a_trial_by_number_or_name(study: Path, words: tuple[str, ...], trial: int) -> None:
    found = explained(study, *words)
    assert found["trial"] == trial
    assert found["unexplained_bytes"] == 0
    assert found["reserved_bytes"] == (32768 * KB - found["mem_total_bytes"])


def test_the_table(study: Path) -> None:
    said = run("explain", study, "baseline").output
    assert "7,148.0" in said  # the two entries of one name
    assert "unexplained between RAM given and MemTotal: 0 kB" in said
    order = ["RAM given", "- kernel text", "MemTotal", "- kernel stacks", "MemFree", "MemAvailable"]
    places = [said.index(word) for word in order]
    assert places == sorted(places)


def test_what_a_change_bought(study: Path) -> None:
    found = explained(study, "--diff", "baseline", "winner")
    assert (found["from"]["trial"], found["to"]["trial"]) == (0, 1)
    rows = {row["name"]: row["change_bytes"] for row in found["difference"]}
    assert rows["kernel text"] == (3728 - 7144) * KB
    said = run("explain", study, "--diff", "baseline", "winner").output
    assert "-3,416.0" in said
    assert "+3,416.0" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("2",), "no ledger stored"),
        (("9",), "no trial 9"),
        (("best",), "'best' is no trial"),
        (("99999999999999999999999",), "is no trial"),
        (("--diff", "0", "2"), "no ledger stored"),
    ],
)
def test_a_trial_that_cannot_be_explained(
    study: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in refused(study, *words).message
