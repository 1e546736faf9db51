"""Which changes are worth trying together."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

import pytest

from optimizer.search.batch import LEAST_HOPE, Batch, Needs, Offers
from optimizer.search.knowledge import BOOT
from optimizer.search.space import Change

NAMES = [(f"O{number}", "n") for number in range(40)]


def filled(
    needs: Mapping[Change, Mapping[str, float]],
    groups: Sequence[Collection[Change]],
    savings: Sequence[float],
    failing: Sequence[frozenset[Change]] = (),
) -> tuple[Batch, list[int]]:
    """A batch of the groups, each of which brings a saving by its first change; and which it
    took in."""
    members = sorted({one for group in groups for one in group})
    kb = dict.fromkeys(members, 0.0) | {
        next(iter(group)): saving for group, saving in zip(groups, savings, strict=True)
    }
    batch = Batch(Offers(Needs(needs), groups, kb, failing))
    return batch, batch.fill(range(len(groups)))


def worth(*needed_for: str) -> float:
    """Of a batch of options of 100 kB each, each of which a check needs with even odds."""
    needs = {name: {what: 0.5} for name, what in zip(NAMES, needed_for, strict=False)}
    return filled(needs, [[one] for one in needs], [100.0] * len(needs))[0].worth


def test_options_that_different_checks_need_settle_each_other() -> None:
    one = worth("net/ping")
    assert worth("net/ping", "clock/rtc") > 1.5 * one
    assert worth("net/ping", "net/ping") < 1.2 * one


def test_a_safe_option_always_comes_along() -> None:
    needs = {NAMES[0]: {BOOT: 0.3}, NAMES[1]: {BOOT: 1e-6}}
    assert filled(needs, [[NAMES[0]], [NAMES[1]]], [500.0, 1.0])[1] == [0, 1]


def test_a_batch_keeps_some_hope() -> None:
    needs = {name: {f"suite/check{number}": 0.2} for number, name in enumerate(NAMES)}
    _batch, taken = filled(needs, [[one] for one in NAMES], [100.0] * len(NAMES))
    assert len(taken) > 1
    assert 0.8 ** len(taken) >= LEAST_HOPE


def test_a_group_that_is_known_to_fail_is_never_completed() -> None:
    needs = {name: {BOOT: 0.001} for name in NAMES[:4]}
    failing = [frozenset(NAMES[:2]), frozenset({NAMES[3]})]
    _batch, taken = filled(needs, [[one] for one in NAMES[:4]], [10.0] * 4, failing)
    assert taken == [0, 2]


def test_what_is_in_already_is_not_counted_twice() -> None:
    needs = {name: {BOOT: 0.01} for name in NAMES[:3]}
    once, _taken = filled(needs, [NAMES[:2]], [20.0])
    twice, taken = filled(needs, [NAMES[:2], NAMES[:1]], [20.0, 20.0])
    assert taken == [0]
    assert twice.worth == once.worth
    overlapping, taken = filled(needs, [NAMES[:2], [NAMES[2], NAMES[0]]], [20.0, 20.0])
    assert taken == [0, 1]
    assert overlapping.worth == filled(needs, [NAMES[:2], [NAMES[2]]], [20.0, 20.0])[0].worth


def test_looking_ahead_decides_as_one_by_one() -> None:
    source = random.Random(0)
    checks = [f"suite/check{number}" for number in range(6)]
    needs = {
        name: {source.choice(checks): source.random() ** 3, BOOT: 0.2 * source.random() ** 4}
        for name in NAMES
    }
    groups = [[one] for one in NAMES] + [source.sample(NAMES, 3) for _number in range(20)]
    savings = {one: source.uniform(1.0, 300.0) for one in NAMES}
    failing = [frozenset(source.sample(NAMES, 2)) for _number in range(5)]
    batch = Batch(Offers(Needs(needs), groups, savings, failing))
    taken = batch.fill(range(len(groups)))
    assert 3 < len(taken) < len(groups) - 10
    slowly = Batch(Offers(Needs(needs), groups, savings, failing))
    assert [one for one in range(len(groups)) if slowly.fill([one])] == taken
    assert slowly.worth == pytest.approx(batch.worth)
