"""What is expected of alternatives that nobody expects to save."""

from __future__ import annotations

import pytest

from optimizer.search.space import Change
from optimizer.search.speculation import AFTER_GAIN, AFTER_NOTHING, WEIGHT, Speculation


def told(gains: dict[Change, float], tolerance: float = 0.0) -> Speculation:
    return Speculation(gains, lambda _change: 4.0, tolerance)


def test_before_any_was_tried_the_belief_is_what_is_expected() -> None:
    assert told({}).factor == 1.0
    assert told({}).expected_kb(("HZ", "200")) == 4.0


def test_what_the_first_alternatives_did_is_expected_of_the_others() -> None:
    poor = told({("TICK", "b"): -4.0, ("SPLIT", "b"): 0.0})
    assert poor.factor == pytest.approx(WEIGHT / (WEIGHT + 2))
    rich = told({("TICK", "b"): 40.0})
    assert rich.factor == pytest.approx((WEIGHT * 4 + 40) / (WEIGHT * 4 + 4))


def test_later_alternatives_of_a_choice_say_nothing_of_other_choices() -> None:
    one = told({("HZ", "200"): 0.0})
    five = told({("HZ", str(hertz)): 0.0 for hertz in (200, 250, 300, 500, 1000)})
    assert five.factor == one.factor
    rising = told({("CRC", "4"): 0.0, ("CRC", "1"): 40.0})
    assert rising.factor == one.factor


def test_where_one_gained_nothing_the_next_hardly_will() -> None:
    once = told({("HZ", "200"): 0.0})
    assert once.expected_kb(("HZ", "250")) == pytest.approx(AFTER_NOTHING * 4.0 * once.factor)
    twice = told({("HZ", "200"): 0.0, ("HZ", "250"): 0.0})
    assert twice.expected_kb(("HZ", "300")) < once.expected_kb(("HZ", "250"))


def test_where_one_gained_the_next_is_expected_to_gain_part_of_it() -> None:
    assert told({("CRC", "4"): 12.0}).expected_kb(("CRC", "1")) == AFTER_GAIN * 12.0
    done = told({("CRC", "4"): 12.0, ("CRC", "1"): -8.0})
    assert done.expected_kb(("CRC", "0")) < 1.0


def test_noise_is_no_gain() -> None:
    noisy = told({("CRC", "4"): 12.0}, tolerance=16.0)
    assert noisy.expected_kb(("CRC", "1")) < 4.0
