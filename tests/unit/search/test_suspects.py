"""Who is suspected when several groups broke the same thing."""

from __future__ import annotations

import math
from itertools import product

import pytest

from optimizer.search.batch import Batch, Needs
from optimizer.search.space import Change
from optimizer.search.suspects import Suspects

A, B, C, D, E = ((name, "n") for name in "ABCDE")


def exact(groups: list[frozenset[Change]], believed: dict[Change, float]) -> dict[Change, float]:
    """By trying every set of needed options."""
    members = sorted(frozenset().union(*groups))
    whole = 0.0
    found = dict.fromkeys(members, 0.0)
    for needed in product((False, True), repeat=len(members)):
        those = {one for one, is_needed in zip(members, needed, strict=True) if is_needed}
        if any(those.isdisjoint(group) for group in groups):
            continue
        weight = math.prod(
            believed[one] if one in those else 1.0 - believed[one] for one in members
        )
        whole += weight
        for one in those:
            found[one] += weight
    return {one: weight / whole for one, weight in found.items()}


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        ([{A, B}], 1e-6),
        ([{A, B, C}, {C, D, E}], 1e-6),
        ([{A, B}, {B, C}, {C, D}], 1e-6),
        # Two that are in two groups together make a circle: it is too sure then.
        ([{A, B, C}, {A, D, E}, {A, B, D}], 0.15),
    ],
)
def test_suspicion_is_near_what_trying_every_case_gives(
    groups: list[set[Change]], error: float
) -> None:
    believed = {A: 0.02, B: 0.01, C: 0.05, D: 0.01, E: 0.3}
    frozen = [frozenset(group) for group in groups]
    found = Suspects(frozen, {one: believed[one] for one in frozenset().union(*frozen)})
    for change, probability in exact(frozen, believed).items():
        assert found.marginals()[change] == pytest.approx(probability, abs=error)


def test_who_is_in_every_group_clears_the_others() -> None:
    believed = dict.fromkeys((A, B, C, D), 0.01)
    groups = [frozenset({A, one}) for one in (B, C, D)]
    found = Suspects(groups, believed).marginals()
    assert found[A] > 0.95
    assert max(found[B], found[C], found[D]) < 0.05


def test_all_but_one_of_a_failed_group_hardly_work() -> None:
    # One of five is needed, each as likely: four of them work together once in five times.
    members = (A, B, C, D, E)
    suspects = Suspects([frozenset(members)], dict.fromkeys(members, 0.001))
    needs = Needs(
        {one: {"net/ping": share} for one, share in suspects.marginals().items()},
        {"net/ping": suspects},
    )
    four = needs.without(needs.clean, members[:4])
    safe = needs.free(members[:4]) + needs.innocent(four)
    assert math.exp(safe.sum()) == pytest.approx(0.2, abs=0.01)


def test_half_of_a_failed_group_is_tried() -> None:
    members = [(f"O{number}", "n") for number in range(16)]
    suspects = Suspects([frozenset(members)], dict.fromkeys(members, 0.01))
    needs = Needs(
        {one: {"net/ping": share} for one, share in suspects.marginals().items()},
        {"net/ping": suspects},
    )
    batch = Batch(needs, suspects.groups, len(members))
    taken = sum(batch.offer({one}, 10.0) for one in members)
    assert 6 <= taken <= 12
