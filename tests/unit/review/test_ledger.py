"""The RAM's parts from the kernel's boot line, new and old."""

from __future__ import annotations

import pytest

from optimizer.records import Measurement
from optimizer.review.ledger import REST, USER, ledger

NEW = (
    "Memory: 24436K/32768K available (5011K kernel code, 186K rwdata, 1264K rodata, 208K init, "
    "120K bss, 8332K reserved, 0K cma-reserved)"
)
SMALL = (
    "Memory: 28920K/32768K available (1441K code, 464K rwdata, 164K rodata, 132K init, 172K bss)"
)


def measured(total_kb: int, line: str) -> Measurement:
    return Measurement(total_kb, None, {}, line)


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
    assert ledger(None, measured(30028, SMALL)) == []
