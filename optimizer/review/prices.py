"""What each option costs in RAM: measured where it was measured, estimated elsewhere.

A saving is measured by two trials that differ in one change (and what Kconfig ties to it). It is
measured at the winner, where everything else is gone already, and, for the changes asked for, at
the baseline; the difference of the two is their interaction: what the change saves together with
others and not by itself.

Two measurements are in another configuration than the winner's: those of an earlier winner, and
those of a change that cannot be taken back alone, where what it stands on was back as well. They
stand as measured where there is nothing nearer, and name the trial that they are of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from optimizer.records import Attribution, AttributionKind, Outcome, SymbolFacts, Trial
from optimizer.review.savings import Change, Expectation, OptionSaving, differences, option_savings
from optimizer.settings import Mark

HELP_CHARACTERS = 240


class Role(StrEnum):
    """What a change is to the winner."""

    MADE = "made"  # the winner has it
    TRIED = "tried"  # other trials made it, the winner has not
    KEPT = "kept"  # the study forbids it


class Basis(StrEnum):
    """Where a figure is from."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    SECTIONS = "sections"  # measured on the built image only: it did not boot
    NONE = "none"


@dataclass(frozen=True)
class Measured:
    """A change's saving by two trials; None where one of them has no such figure.

    ``saving_kb`` is of the study's objective. ``outcome`` is that of the trial with the change.
    ``at_trial`` is the trial whose configuration it was measured in.
    """

    saving_kb: float | None
    mem_total_kb: int | None
    mem_available_kb: int | None
    image_bytes: int | None
    resident_bytes: int | None
    with_trial: int
    without_trial: int
    outcome: Outcome
    at_trial: int
    tied: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Price:
    """One change and what it saves. ``saving_kb`` is the best figure there is, see ``basis``.

    ``low_kb`` and ``high_kb`` are the ends of an estimate's 90 % interval; ``estimate_kb`` the
    estimate, also where there is a measurement. ``elsewhere`` is the last measurement in another
    configuration than the winner's or the baseline's; None where there is one at the winner.
    ``does`` says in the words of its own help text
    what the option was for; ``mark`` what is lost besides, where ``configs/marks`` knows.
    """

    option: str
    value: str
    before: str
    role: Role
    saving_kb: float | None
    basis: Basis
    estimate_kb: float | None = None
    low_kb: float | None = None
    high_kb: float | None = None
    at_winner: Measured | None = None
    at_baseline: Measured | None = None
    elsewhere: Measured | None = None
    together_with: tuple[Change, ...] = ()
    trials: int = 0
    passed: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    prompt: str = ""
    does: str = ""
    mark: Mark | None = None

    @property
    def told(self) -> Measured | None:
        """The measurement that the saving is from, if there is any: the nearest to the winner."""
        return self.at_winner or self.elsewhere or self.at_baseline

    @property
    def interaction_kb(self) -> float | None:
        """What the change saves more at the winner than by itself; None unless both are
        measured."""
        if self.at_winner is None or self.at_baseline is None:
            return None
        if self.at_winner.saving_kb is None or self.at_baseline.saving_kb is None:
            return None
        return self.at_winner.saving_kb - self.at_baseline.saving_kb


class _Place(StrEnum):
    """In which configuration a change was measured."""

    WINNER = "winner"
    BASELINE = "baseline"
    ELSEWHERE = "elsewhere"


def prices(
    trials: Sequence[Trial],
    winner: Trial | None,
    attributions: Iterable[Attribution],
    *,
    kept: Collection[str] = (),
    facts: Mapping[str, SymbolFacts] | None = None,
    marks: Mapping[str, Mark] | None = None,
    objective: str = "mem_total",
    expected: Mapping[str, Expectation] | None = None,
) -> list[Price]:
    """What every change saves that was made or measured, and the price of what is kept.

    Args:
        trials: of one study, number 0 the baseline.
        winner: the trial that the figures are told for; None when none passed.
        attributions: the pairs of trials that measure a change, in the order they were measured.
        kept: symbols that the study keeps.
        facts: what Kconfig says of the symbols, for the words.
        marks: options of which more is lost than RAM is gained.
        objective: the study's: ``mem_total`` or ``mem_available``.
        expected: what each option was expected to save before any trial.

    Returns:
        The winner's changes first, then what is kept, then the others; the greatest saving first.
    """
    by_number = {trial.number: trial for trial in trials}
    baseline = by_number.get(0)
    made = {
        (name, after): before
        for name, before, after in (differences(winner, baseline) if winner and baseline else ())
    }
    measured: dict[Change, dict[_Place, Measured]] = {}
    for one in attributions:
        if one.with_trial in by_number and one.without_trial in by_number:
            found_at = measured.setdefault((one.option, one.value), {})
            found_at[_place(one, by_number, winner)] = measurement(
                one, by_number[one.with_trial], by_number[one.without_trial], objective
            )
    estimated = {(one.option, one.value): one for one in option_savings(trials, expected)}
    changes = [*made, *(one for one in estimated if one not in made)]
    changes += [one for one in measured if one not in estimated and one not in made]
    changes += [
        (name, "n")
        for name in kept
        if not any(option == name for option, _ in changes) and _on(name, winner, facts)
    ]
    found = []
    for change in changes:
        role = Role.KEPT if change[0] in kept else Role.MADE if change in made else Role.TRIED
        before = made.get(change) or (baseline.effective.get(change[0]) if baseline else None)
        found.append(
            _price(
                change,
                before or (facts[change[0]].value if facts and change[0] in facts else "y"),
                role,
                measured.get(change, {}),
                estimated.get(change),
                _facts(change[0], facts or {}),
                lost(change, before, marks or {}),
            )
        )
    order = [Role.MADE, Role.KEPT, Role.TRIED]
    return sorted(
        found,
        key=lambda one: (
            order.index(one.role),
            one.saving_kb is None,
            -(one.saving_kb or 0.0),
            one.option,
            one.value,
        ),
    )


def measurement(
    attribution: Attribution, having: Trial, lacking: Trial, objective: str
) -> Measured:
    """What a change saves, by the trial that has it and the one that lacks it."""
    a, b = having.measurement, lacking.measurement
    total = a.mem_total_kb - b.mem_total_kb if a and b else None
    available = (
        a.mem_available_kb - b.mem_available_kb
        if a and b and a.mem_available_kb is not None and b.mem_available_kb is not None
        else None
    )
    built = having.build, lacking.build
    image = resident = None
    if built[0] and built[1] and built[0].ok and built[1].ok:
        image = built[1].image_bytes - built[0].image_bytes
        resident = resident_bytes(built[1].sections) - resident_bytes(built[0].sections)
    return Measured(
        saving_kb=available if objective == "mem_available" else total,
        mem_total_kb=total,
        mem_available_kb=available,
        image_bytes=image,
        resident_bytes=resident,
        with_trial=having.number,
        without_trial=lacking.number,
        outcome=having.outcome,
        at_trial=at_trial(attribution),
        tied=attribution.tied,
    )


def at_trial(attribution: Attribution) -> int:
    """The trial in whose configuration a change was measured: the one of the pair that is whole."""
    whole_has_it = attribution.kind is AttributionKind.WINNER
    return attribution.with_trial if whole_has_it else attribution.without_trial


def resident_bytes(sections: Mapping[str, int]) -> int:
    """What of vmlinux stays in memory after boot: its sections without those freed with .init."""
    freed = (".init", ".exit", ".head", ".stubs", ".vectors")
    return sum(size for name, size in sections.items() if not name.startswith(freed))


def lost(change: Change, before: str | None, marks: Mapping[str, Mark]) -> Mark | None:
    """What a change takes away besides RAM: the mark of an option that leaves its safe value.

    A choice (``A|B``) leaves the member that it had.
    """
    name, value = change
    names = name.split("|")
    if len(names) > 1:
        return marks.get(before or "") if value != before else None
    mark = marks.get(name)
    return mark if mark is not None and before == mark.safe != value else None


def says(help_text: str) -> str:
    """The first sentences of a help text, one line that fits a table."""
    paragraph = " ".join(help_text.split("\n\n")[0].split())
    if len(paragraph) <= HELP_CHARACTERS:
        return paragraph
    cut = paragraph[:HELP_CHARACTERS]
    end = cut.rfind(". ")
    return cut[: end + 1] if end > HELP_CHARACTERS // 3 else cut.rsplit(" ", 1)[0] + " ..."


def _place(one: Attribution, by_number: Mapping[int, Trial], winner: Trial | None) -> _Place:
    if one.kind is AttributionKind.BASELINE:
        return _Place.BASELINE
    at = by_number[at_trial(one)]
    same = winner is not None and (
        at.number == winner.number
        or (
            at.resolved.digest == winner.resolved.digest
            and at.assignment.parameters == winner.assignment.parameters
        )
    )
    return _Place.WINNER if same else _Place.ELSEWHERE


def _price(
    change: Change,
    before: str,
    role: Role,
    measured: Mapping[_Place, Measured],
    estimate: OptionSaving | None,
    facts: SymbolFacts | None,
    mark: Mark | None,
) -> Price:
    at_winner, at_baseline = measured.get(_Place.WINNER), measured.get(_Place.BASELINE)
    elsewhere = None if at_winner else measured.get(_Place.ELSEWHERE)
    told = at_winner or elsewhere or at_baseline
    saving, basis = estimate.saving_kb if estimate else None, Basis.ESTIMATED
    if told is not None and told.saving_kb is not None:
        saving, basis = told.saving_kb, Basis.MEASURED
    elif told is not None and told.resident_bytes is not None:
        saving, basis = told.resident_bytes / 1024, Basis.SECTIONS
    return Price(
        option=change[0],
        value=change[1],
        before=before,
        role=role,
        saving_kb=saving,
        basis=basis if saving is not None else Basis.NONE,
        estimate_kb=estimate.saving_kb if estimate else None,
        low_kb=estimate.low_kb if estimate else None,
        high_kb=estimate.high_kb if estimate else None,
        at_winner=at_winner,
        at_baseline=at_baseline,
        elsewhere=elsewhere,
        together_with=told.tied if told else estimate.together_with if estimate else (),
        trials=estimate.trials if estimate else 0,
        passed=estimate.passed if estimate else 0,
        failed={one.value: count for one, count in estimate.failed.items()} if estimate else {},
        prompt=facts.prompt if facts else "",
        does=says(facts.help) if facts else "",
        mark=mark,
    )


def _facts(name: str, facts: Mapping[str, SymbolFacts]) -> SymbolFacts | None:
    return next((facts[one] for one in name.split("|") if one in facts), None)


def _on(name: str, winner: Trial | None, facts: Mapping[str, SymbolFacts] | None) -> bool:
    if facts and name in facts:
        return facts[name].value == "y"
    return winner is not None and f"CONFIG_{name}=y" in winner.resolved.text.splitlines()
