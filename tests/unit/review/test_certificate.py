"""Why options stay: each kind of evidence, and which goes before which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.cli.review import note, price_row
from optimizer.records import (
    Assignment,
    Attribution,
    AttributionKind,
    BootResult,
    BootState,
    BuildResult,
    CheckResult,
    Judgement,
    Measurement,
    Outcome,
    Refusal,
    ResolvedConfig,
    SymbolFacts,
    Trial,
    Verdict,
)
from optimizer.review.certificate import CertificateLine, Evidence, Reason, certify
from optimizer.review.prices import Basis, Price, Role, prices, says
from optimizer.settings import Mark

BASE = {"NET": "y", "DRM": "y", "BUG": "y", "RTC": "y", "SLAB|SLOB": "SLAB", "SHIFT": "17"}
MARKS = {"BUG": Mark(kind="hardening", symbols=("BUG",), loses="the kernel goes on")}


def trial(
    number: int,
    changed: Mapping[str, str],
    kb: float | None = None,
    seen: str = "",
    asked: bool = True,
) -> Trial:
    effective = BASE | dict(changed)
    lines = []
    for name, value in effective.items():
        if "|" in name:
            lines.append(f"CONFIG_{value}=y")
        else:
            lines.append(
                f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}"
            )
    text = "\n".join([*lines, "CONFIG_PRINTK=y", 'CONFIG_NAME=""'])
    passed = kb is not None
    boot = BootResult(
        BootState.READY, 1.0, Path("log"),
        checks=(CheckResult("board", "works", passed, 0.1, seen),),
    )  # fmt: skip
    return Trial(
        number=number,
        outcome=Outcome.PASSED if passed else Outcome.SMOKE_FAILED,
        sampler="test",
        params=dict(effective) if asked else dict(BASE),
        assignment=Assignment(dict(changed)),
        effective=effective,
        resolved=ResolvedConfig(str(number), text, text),
        objective=kb,
        boot=boot,
        measurement=Measurement(int(kb), int(kb) - 900, {}, "") if kb else None,
        build=BuildResult(
            True,
            1.0,
            1,
            Path("log"),
            text,
            image_bytes=int(3e6 - (kb or 0)),
            sections={".text": 4_000_000, ".init.text": 5},
        ),
    )


WINNER = trial(1, {"DRM": "n", "SLAB|SLOB": "SLOB"}, 26_000)


def lines(*more: Trial, **evidence: object) -> dict[str, CertificateLine]:
    trials = [trial(0, {}, 25_000), WINNER, *more]
    found = certify(Evidence(trials, WINNER, **evidence))  # type: ignore[arg-type]
    assert len({one.symbol for one in found}) == len(found)
    return {one.symbol: one for one in found}


def test_an_option_that_no_trial_changed_is_said_to_be_untried() -> None:
    assert lines()["RTC"].reason is Reason.UNTRIED


def test_what_the_search_chose_is_told_from_what_it_left() -> None:
    found = lines()
    assert (found["SLOB"].reason, found["SLOB"].value) == (Reason.CHOSEN, "y")
    assert "DRM" not in found
    assert "NAME" not in found


def price(basis: Basis, saving_kb: float, *others: tuple[str, str]) -> Price:
    return Price(
        "SLAB|SLOB", "SLOB", "SLAB", Role.MADE, saving_kb, basis, together_with=others
    )  # fmt: skip


def test_what_the_search_chose_has_its_figure_and_where_that_is_from() -> None:
    assert lines()["SLOB"].says == "the search changed it from SLAB"
    measured = lines(prices=[price(Basis.MEASURED, 1_240)])["SLOB"]
    assert measured.says == "the search changed it from SLAB: that saves 1,240 kB, measured"
    assert measured.saving_kb == 1_240
    guess = lines(prices=[price(Basis.ESTIMATED, 60, ("DRM", "n"))])["SLOB"]
    assert guess.says.endswith("SLAB: that saves about 60 kB, by estimate")
    assert guess.saving_kb is None


def test_a_failed_neighbour_of_the_winner_is_proof() -> None:
    failed = trial(2, {"DRM": "n", "SLAB|SLOB": "SLOB", "NET": "n"}, seen="got nothing")
    line = lines(failed)["NET"]
    assert (line.reason, line.check, line.trial) == (Reason.NEEDED, "board/works", 2)
    assert line.seen == "got nothing"


def test_a_neighbour_that_passed_is_a_measurement() -> None:
    same = trial(2, {"DRM": "n", "SLAB|SLOB": "SLOB", "BUG": "n"}, 26_000)
    line = lines(same)["BUG"]
    assert (line.reason, line.saving_kb) == (Reason.NO_SAVING, 0)
    more = trial(2, {"DRM": "n", "SLAB|SLOB": "SLOB", "BUG": "n"}, 26_024)
    assert lines(more)["BUG"].reason is Reason.DROPPABLE
    other = trial(2, {"DRM": "n", "SLAB|SLOB": "SLOB", "SHIFT": "12"}, 25_900)
    line = lines(other)["SHIFT"]
    assert (line.reason, line.saving_kb) == (Reason.BEST, -100)


def test_what_fell_along_does_not_hide_what_was_asked() -> None:
    both = replace(
        trial(2, {"DRM": "n", "SLAB|SLOB": "SLOB", "NET": "n", "RTC": "n"}, seen="no"),
        params=dict(WINNER.effective) | {"NET": "n"},
    )
    found = lines(both)
    assert found["NET"].reason is Reason.NEEDED
    # Whether RTC is needed by itself is not told by this.
    assert found["RTC"].reason is not Reason.NEEDED


def test_the_last_suspect_of_a_failed_trial_is_needed() -> None:
    passed = trial(2, {"RTC": "n", "SHIFT": "12"}, 25_100)
    failed = trial(3, {"RTC": "n", "SHIFT": "12", "NET": "n"}, seen="no network")
    line = lines(passed, failed)["NET"]
    assert (line.reason, line.trial, line.seen) == (Reason.NEEDED, 3, "no network")


def test_several_suspects_are_suspected_and_the_smallest_set_is_told() -> None:
    found = lines(
        trial(2, {"RTC": "n", "NET": "n", "BUG": "n"}, seen="three"),
        trial(3, {"RTC": "n", "NET": "n"}, seen="two"),
    )
    assert (found["NET"].reason, found["NET"].trial) == (Reason.SUSPECTED, 3)
    assert "one of 2 options" in found["RTC"].says
    assert found["BUG"].trial == 2


def test_what_passed_elsewhere_may_be_dropped() -> None:
    line = lines(trial(2, {"RTC": "n"}, 25_010))["RTC"]
    assert (line.reason, line.trial) == (Reason.DROPPABLE, 2)


def test_what_kconfig_holds_is_forced() -> None:
    held = SymbolFacts("RTC", "bool", value="y", visible=True, settable=("y",), holders=("ARM",))
    hidden = SymbolFacts("NET", "bool", value="y")
    loose = SymbolFacts("BUG", "bool", value="y", visible=True, settable=("n", "y"), holders=("A",))
    found = lines(facts={one.name: one for one in (held, hidden, loose)})
    assert (found["RTC"].reason, found["RTC"].says) == (Reason.FORCED, "selected by ARM")
    assert found["NET"].reason is Reason.FORCED
    assert found["BUG"].reason is Reason.UNTRIED


def test_what_the_winner_asked_off_in_vain_is_forced() -> None:
    refused = replace(
        WINNER,
        resolved=replace(WINNER.resolved, refused=(Refusal("RTC", "n", "y", "selected by X"),)),
    )
    found = certify(Evidence([trial(0, {}, 25_000), refused], refused))
    line = next(one for one in found if one.symbol == "RTC")
    assert (line.reason, line.says) == (Reason.FORCED, "selected by X")


@pytest.mark.parametrize(
    ("judgement", "expected", "words"),
    [
        (Judgement.NEEDED, Reason.NEEDED, "board/works fails without it"),
        (Judgement.REQUIRED, Reason.NEEDED, "INET goes with it, and board/works fails"),
        (Judgement.NO_SAVING, Reason.NO_SAVING, "nothing is gained"),
    ],
)
def test_a_verdict_goes_before_what_trials_suggest(
    judgement: Judgement, expected: Reason, words: str
) -> None:
    failed = trial(2, {"RTC": "n", "NET": "n"}, seen="two")
    verdict = Verdict("NET", "y", "n", judgement, "board/works", 2, through="INET")
    line = lines(failed, verdicts=[verdict])["NET"]
    assert (line.reason, line.trial) == (expected, 2)
    assert words in line.says


def test_what_is_not_settled_is_left_to_the_trials() -> None:
    failed = trial(2, {"RTC": "n", "NET": "n"}, seen="two")
    verdict = Verdict("NET", "y", "n", Judgement.UNSETTLED)
    assert lines(failed, verdicts=[verdict])["NET"] == lines(failed)["NET"]


def test_a_verdict_on_a_choice_is_on_its_member() -> None:
    verdict = Verdict("SLAB|SLOB", "SLOB", "SLAB", Judgement.NO_SAVING, trial=1, gained=-4.0)
    assert lines(verdicts=[verdict])["SLOB"].reason is Reason.NO_SAVING


def test_what_the_study_keeps_is_kept_at_its_price() -> None:
    without = replace(
        trial(2, dict(WINNER.effective), 26_800), sampler="price",
        outcome=Outcome.CONFIG_REFUSED, objective=None,
    )  # fmt: skip
    attribution = Attribution(AttributionKind.KEPT, "PRINTK", "n", 2, 1)
    trials = [trial(0, {}, 25_000), WINNER, without]
    found = prices(trials, WINNER, [attribution], kept=["PRINTK", "ABSENT"])
    price = next(one for one in found if one.option == "PRINTK")
    assert (price.role, price.basis, price.saving_kb) == (Role.KEPT, Basis.MEASURED, 800)
    assert "ABSENT" not in {one.option for one in found}
    line = lines(without, kept=["PRINTK"], prices=found)["PRINTK"]
    assert (line.reason, line.saving_kb) == (Reason.KEPT, 800)
    assert "its price is 800 kB" in line.says


def test_gate_leave_and_what_would_take_a_kept_one_along() -> None:
    found = lines(
        gate=["NET"], leave=["RTC"], left_out={"BUG": "would change PRINTK, which the study keeps"}
    )
    assert {found[name].reason for name in ("NET", "RTC", "BUG")} == {Reason.KEPT}
    assert "PRINTK" in found["BUG"].says


def test_what_is_outside_says_why() -> None:
    assert lines()["PRINTK"].reason is Reason.OUTSIDE
    assert "not visible" in lines(left_out={"PRINTK": "not visible"})["PRINTK"].says


# -- prices ---------------------------------------------------------------------------------------


def priced(*attributions: Attribution, more: tuple[Trial, ...] = ()) -> dict[str, Price]:
    trials = [trial(0, {}, 25_000), WINNER, *more]
    return {one.option: one for one in prices(trials, WINNER, attributions, marks=MARKS)}


def test_a_measurement_goes_before_an_estimate() -> None:
    back = trial(2, {"SLAB|SLOB": "SLOB"}, 25_300)
    alone = trial(3, {"DRM": "n"}, 25_650)
    found = priced(
        Attribution(AttributionKind.WINNER, "DRM", "n", 1, 2),
        Attribution(AttributionKind.BASELINE, "DRM", "n", 3, 0),
        more=(back, alone),
    )
    drm = found["DRM"]
    assert (drm.basis, drm.saving_kb, drm.interaction_kb) == (Basis.MEASURED, 700, 50)
    assert drm.at_winner is not None
    assert drm.at_winner.image_bytes == 700
    slob = found["SLAB|SLOB"]
    assert slob.basis is Basis.ESTIMATED
    assert slob.low_kb is not None
    assert slob.high_kb is not None
    assert slob.low_kb < 325 < slob.high_kb


def test_what_was_measured_at_another_winner_says_so() -> None:
    old = trial(2, {"DRM": "n"}, 25_600)
    back = trial(3, {}, 25_000)
    stale = Attribution(AttributionKind.WINNER, "DRM", "n", 2, 3)
    drm = priced(stale, more=(old, back))["DRM"]
    assert (drm.basis, drm.saving_kb, drm.at_winner) == (Basis.MEASURED, 600, None)
    assert drm.elsewhere is not None
    assert drm.elsewhere.at_trial == 2
    assert drm.interaction_kb is None
    assert "measured at trial 2, not at this one" in note(drm)
    assert price_row(drm)["measured_at"] == 2
    # Measured at this one, it counts for nothing, whichever of them was stored last.
    without = trial(4, {"SLAB|SLOB": "SLOB"}, 25_300)
    here = Attribution(AttributionKind.WINNER, "DRM", "n", 1, 4)
    for pairs in ((stale, here), (here, stale)):
        drm = priced(*pairs, more=(old, back, without))["DRM"]
        assert (drm.saving_kb, drm.elsewhere, note(drm)) == (700, None, "")
        assert price_row(drm)["measured_at"] == 1


def test_a_price_at_another_winner_says_so() -> None:
    old = trial(2, {"DRM": "n"}, 25_600)
    without = replace(trial(3, {"DRM": "n"}, 26_000), outcome=Outcome.CONFIG_REFUSED)
    pair = Attribution(AttributionKind.KEPT, "PRINTK", "n", 3, 2)
    found = prices([trial(0, {}, 25_000), WINNER, old, without], WINNER, [pair], kept=["PRINTK"])
    price = next(one for one in found if one.option == "PRINTK")
    assert (price.saving_kb, price.at_winner) == (400, None)
    assert price.elsewhere is not None
    assert price.elsewhere.at_trial == 2
    line = lines(old, without, kept=["PRINTK"], prices=found)["PRINTK"]
    assert "its price is 400 kB at trial 2" in line.says


def test_a_duplicate_of_the_winner_is_the_winner() -> None:
    twin = replace(WINNER, number=5)
    back = trial(2, {"SLAB|SLOB": "SLOB"}, 25_300)
    pair = Attribution(AttributionKind.WINNER, "DRM", "n", 5, 2)
    assert priced(pair, more=(back, twin))["DRM"].at_winner is not None
    smaller_ring = replace(twin, assignment=Assignment({}, {"log_buf_len": "4k"}))
    assert priced(pair, more=(back, smaller_ring))["DRM"].at_winner is None


def test_an_attribution_of_a_trial_that_is_gone_is_passed_over() -> None:
    found = priced(Attribution(AttributionKind.WINNER, "DRM", "n", 1, 99))
    assert found["DRM"].basis is Basis.ESTIMATED


def test_a_mark_is_for_leaving_the_safe_value() -> None:
    found = priced(more=(trial(2, {"BUG": "n"}, 25_010),))
    assert found["BUG"].mark is MARKS["BUG"]
    assert found["DRM"].mark is None


def test_long_help_is_cut_at_a_sentence() -> None:
    text = "It is a driver. " * 40 + "\n\nSecond paragraph."
    assert says(text).endswith("driver.")
    assert len(says(text)) <= 240
    assert says("Short.\nTwo lines.\n\nMore.") == "Short. Two lines."
    assert says("x" * 300).endswith("...")
