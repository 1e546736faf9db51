"""The least memory with which a kernel still passes, found by bisection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optimizer.errors import UserError
from optimizer.records import Outcome

# Near the edge luck decides: what fails is tried again before it is believed.
TRIES = 2


@dataclass(frozen=True)
class Step:
    """One attempt with so much memory."""

    memory_kb: int
    outcome: Outcome
    reason: str
    mem_total_kb: int | None
    mem_available_kb: int | None


@dataclass(frozen=True)
class Floor:
    """``floor_kb`` is the least that passed, ``failed_kb`` the most below it that failed; None when
    nothing failed."""

    floor_kb: int
    failed_kb: int | None
    steps: tuple[Step, ...]


def find_floor(most_kb: int, step_kb: int, attempt: Callable[[int, int], Step]) -> Floor:
    """Halve the distance between what passes and what fails until they are one step apart.

    Args:
        most_kb: the board's memory; must pass.
        step_kb: how fine to search.
        attempt: boots with so many kB; the second argument is how often that was tried before.

    Raises:
        UserError: it does not pass with all of the memory either.
    """
    steps: list[Step] = []

    def passes(memory_kb: int) -> bool:
        for number in range(TRIES):
            steps.append(attempt(memory_kb, number))
            if steps[-1].outcome is Outcome.PASSED:
                return True
        return False

    if not passes(most_kb):
        raise UserError(
            f"It does not pass with all {most_kb} kB of the board either: {steps[-1].reason}.",
            "Look at the trial with: memtotal show",
        )
    # In whole steps; 0 kB needs no attempt.
    low, high = 0, -(-most_kb // step_kb)
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle * step_kb):
            high = middle
        else:
            low = middle
    return Floor(min(high * step_kb, most_kb), low * step_kb or None, tuple(steps))
