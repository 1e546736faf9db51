"""The bisection for the least memory."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.cli.floor import limited
from optimizer.errors import UserError
from optimizer.records import Outcome
from optimizer.search.floor import Step, find_floor


def board(needs_kb: int, tried: list[int]) -> object:
    def attempt(memory_kb: int, _number: int) -> Step:
        tried.append(memory_kb)
        passed = memory_kb >= needs_kb
        outcome = Outcome.PASSED if passed else Outcome.BOOT_FAILED
        return Step(memory_kb, outcome, "" if passed else "panic", None, None)

    return attempt


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 32768), st.sampled_from([64, 256, 1000, 4096]))
def test_the_least_step_that_passes(needs_kb: int, step_kb: int) -> None:
    tried: list[int] = []
    found = find_floor(32768, step_kb, board(needs_kb, tried))  # type: ignore[arg-type]
    assert found.floor_kb >= needs_kb
    assert found.failed_kb is None or found.failed_kb < needs_kb
    assert found.floor_kb - (found.failed_kb or 0) <= step_kb
    assert len(set(tried)) <= 12
    assert max(tried) == 32768


def test_one_failure_is_tried_again() -> None:
    flaky = iter([True, False, True, True, True, True, True, True, True, True])

    def attempt(memory_kb: int, _number: int) -> Step:
        outcome = Outcome.PASSED if next(flaky) else Outcome.SMOKE_FAILED
        return Step(memory_kb, outcome, "", None, None)

    found = find_floor(1024, 256, attempt)
    assert [one.memory_kb for one in found.steps] == [1024, 512, 512, 256]
    assert (found.floor_kb, found.failed_kb) == (256, None)


def test_what_does_not_pass_with_all_memory() -> None:
    with pytest.raises(UserError, match="does not pass with all 1024 kB"):
        find_floor(1024, 256, board(2048, []))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("console=ttyAMA0 mem=32M rdinit=/init", "console=ttyAMA0 rdinit=/init mem=9216K"),
        ("mem=16M mem=16M@0x1000000 quiet", "quiet mem=9216K"),
        ("", "mem=9216K"),
        ("memtest=1", "memtest=1 mem=9216K"),
    ],
)
def test_one_limit_alone(before: str, after: str) -> None:
    assert limited(before, 9216).strip() == after
