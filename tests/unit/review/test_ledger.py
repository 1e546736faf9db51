"""The RAM's parts from the kernel's boot line, new and old."""

from __future__ import annotations

import pytest

from optimizer.records import (
    Assignment,
    Ledger,
    LedgerEntry,
    Measurement,
    Outcome,
    Part,
    ResolvedConfig,
    Trial,
)
from optimizer.review.ledger import MOST_PARTS, OTHER, REST, USER, ledger

NEW = (
    "Memory: 24436K/32768K available (5011K kernel code, 186K rwdata, 1264K rodata, 208K init, "
    "120K bss, 8332K reserved, 0K cma-reserved)"
)
SMALL = (
    "Memory: 28920K/32768K available (1441K code, 464K rwdata, 164K rodata, 132K init, 172K bss)"
)


def measured(total_kb: int, line: str) -> Trial:
    return told(Measurement(total_kb, None, {}, line))


def told(measurement: Measurement | None, ledger: Ledger | None = None) -> Trial:
    nothing = ResolvedConfig("", "", "")
    return Trial(
        0, Outcome.PASSED, "", {}, Assignment(), {}, nothing, measurement=measurement, ledger=ledger
    )


def test_each_side_sums_to_the_ram() -> None:
    parts = ledger(measured(25620, NEW), measured(30028, SMALL))
    assert sum(part.before_kb for part in parts) == 32768
    assert sum(part.after_kb for part in parts) == 32768
    by_name = {part.name: (part.before_kb, part.after_kb) for part in parts}
    assert by_name[USER] == (25620, 30028)
    assert by_name["kernel code"] == (5011, 1441)
    assert by_name["read-only data"] == (1264, 164)
    assert by_name["data"] == (186, 464)
    assert by_name["bss"] == (120, 172)
    assert by_name[REST] == (567, 499)


@pytest.mark.parametrize("line", ["", "Memory: 32MB = 32MB total", NEW.replace("5011K", "9011K")])
def test_a_line_that_does_not_add_up_is_not_shown(line: str) -> None:
    assert ledger(measured(25620, line), measured(30028, SMALL)) == []
    assert ledger(measured(30028, SMALL), measured(25620, line)) == []
    assert ledger(told(None), measured(30028, SMALL)) == []


def test_ledgers_are_taken_where_both_trials_have_one() -> None:
    def closed(text_kb: int) -> Ledger:
        small = [LedgerEntry(Part.RESERVED, f"table {number}", 1024) for number in range(20)]
        freed = LedgerEntry(Part.FREED, "kernel .init", 208 * 1024)
        text = LedgerEntry(Part.RESERVED, "kernel text", text_kb * 1024)
        total = (32768 - text_kb - len(small)) * 1024
        return Ledger((text, freed, *small), 32768 * 1024, total)

    parts = ledger(told(None, closed(5011)), told(None, closed(1441)))
    assert sum(part.before_kb for part in parts) == 32768
    assert sum(part.after_kb for part in parts) == 32768
    assert [part.name for part in parts[:2]] == [USER, "kernel text"]
    assert (parts[1].before_kb, parts[1].after_kb) == (5011, 1441)
    assert (len(parts), parts[-1].name) == (MOST_PARTS + 2, OTHER)
