"""Who is suspected when several groups broke the same thing."""

from __future__ import annotations

import math
from functools import reduce
from itertools import product
from operator import or_

import pytest

from optimizer.search.batch import Batch, Needs, Offers
from optimizer.search.space import Change
from optimizer.search.suspects import MOST_GROUPS, SAMPLES, Suspects

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
    "groups",
    [
        [{A, B}],
        [{A, B, C}, {C, D, E}],
        [{A, B}, {B, C}, {C, D}],
        # Two that are in two groups together: circles.
        [{A, B, C}, {A, D, E}, {A, B, D}],
    ],
)
def test_suspicion_is_what_trying_every_case_gives(groups: list[set[Change]]) -> None:
    believed = {A: 0.02, B: 0.01, C: 0.05, D: 0.01, E: 0.3}
    frozen = [frozenset(group) for group in groups]
    found = Suspects(frozen, {one: believed[one] for one in frozenset().union(*frozen)})
    for change, probability in exact(frozen, believed).items():
        assert found.marginals()[change] == pytest.approx(probability, abs=1e-6)


def found_in_samples(suspects: Suspects) -> dict[Change, float]:
    return {one: bits.bit_count() / SAMPLES for one, bits in suspects.samples.items()}


def test_the_samples_explain_every_group_and_say_the_same() -> None:
    believed = {A: 0.02, B: 0.01, C: 0.05, D: 0.01, E: 0.3}
    groups = [frozenset(one) for one in ({A, B, C}, {A, D, E}, {A, B, D})]
    suspects = Suspects(groups, believed)
    for group in groups:
        explained = reduce(or_, (suspects.samples[one] for one in group))
        assert explained == (1 << SAMPLES) - 1
    for change, share in found_in_samples(suspects).items():
        # Four standard deviations of a share in so many samples.
        assert share == pytest.approx(suspects.marginals()[change], abs=2 / math.sqrt(SAMPLES))


def test_more_groups_than_can_be_reckoned_with_are_explained_too() -> None:
    # One in all of them, besides one each: it is the reason for all.
    others = [(f"O{number}", "n") for number in range(2 * MOST_GROUPS)]
    groups = [frozenset({A, one}) for one in others]
    suspects = Suspects(groups, {A: 0.01} | dict.fromkeys(others, 0.01))
    for group in groups:
        assert reduce(or_, (suspects.samples[one] for one in group)) == (1 << SAMPLES) - 1
    found = suspects.marginals()
    assert found[A] > 0.95
    assert max(found[one] for one in others) < 0.1


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
    four = needs.without(needs.spared, members[:4])
    safe = needs.free(members[:4]) + needs.innocent(four)
    assert math.exp(safe.sum()) == pytest.approx(0.2, abs=0.05)


def test_half_of_a_failed_group_is_tried() -> None:
    members = [(f"O{number}", "n") for number in range(16)]
    suspects = Suspects([frozenset(members)], dict.fromkeys(members, 0.01))
    needs = Needs(
        {one: {"net/ping": share} for one, share in suspects.marginals().items()},
        {"net/ping": suspects},
    )
    offers = Offers(
        needs, [[one] for one in members], dict.fromkeys(members, 10.0), suspects.groups
    )
    taken = len(Batch(offers).fill(range(len(members))))
    assert 6 <= taken <= 12
