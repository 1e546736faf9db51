"""Which changes are worth trying together."""

from __future__ import annotations

from optimizer.search.batch import LEAST_HOPE, Batch, Needs
from optimizer.search.knowledge import BOOT

NAMES = [(f"O{number}", "n") for number in range(40)]


def worth(*needed_for: str) -> float:
    """Of a batch of options of 100 kB each, each of which a check needs with even odds."""
    batch = Batch(
        Needs({name: {what: 0.5} for name, what in zip(NAMES, needed_for, strict=False)}), [], 2
    )
    for name in NAMES[: len(needed_for)]:
        batch.offer({name}, 100.0)
    return batch.worth


def test_options_that_different_checks_need_settle_each_other() -> None:
    one = worth("net/ping")
    assert worth("net/ping", "clock/rtc") > 1.5 * one
    assert worth("net/ping", "net/ping") < 1.2 * one


def test_a_safe_option_always_comes_along() -> None:
    needs = {NAMES[0]: {BOOT: 0.3}, NAMES[1]: {BOOT: 1e-6}}
    batch = Batch(Needs(needs), [], 2)
    assert batch.offer({NAMES[0]}, 500.0)
    assert batch.offer({NAMES[1]}, 1.0)


def test_a_batch_keeps_some_hope() -> None:
    needs = {name: {f"suite/check{number}": 0.2} for number, name in enumerate(NAMES)}
    batch = Batch(Needs(needs), [], len(NAMES))
    taken = sum(batch.offer({name}, 100.0) for name in NAMES)
    assert taken > 1
    assert 0.8**taken >= LEAST_HOPE


def test_a_group_that_is_known_to_fail_is_never_completed() -> None:
    needs = {name: {BOOT: 0.001} for name in NAMES[:4]}
    failing = [frozenset(NAMES[:2]), frozenset({NAMES[3]})]
    batch = Batch(Needs(needs), failing, 4)
    assert batch.offer({NAMES[0]}, 10.0)
    assert not batch.offer({NAMES[1]}, 10.0)
    assert batch.offer({NAMES[2]}, 10.0)
    assert not batch.offer({NAMES[3]}, 10.0)


def test_what_is_in_already_is_not_counted_twice() -> None:
    needs = {name: {BOOT: 0.01} for name in NAMES[:3]}
    batch = Batch(Needs(needs), [], 3)
    assert batch.offer(set(NAMES[:2]), 20.0)
    assert batch.new(NAMES[:3]) == [NAMES[2]]
    before = batch.worth
    assert not batch.offer({NAMES[0]}, 0.0)
    assert batch.worth == before
