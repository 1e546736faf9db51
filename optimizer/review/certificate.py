"""Why each option that is on in the winner is on: the certificate.

Evidence is used in this order. What the study keeps is kept. A verdict of the search on an option
is taken as it is. A trial that differs from the winner in that option alone says whether it is
needed and what it saves. Kconfig may hold an option: something selects it, or it has no prompt
there. Then the failed trials are read: of the changes of a failed trial those that some passed
trial made too are not to blame (which takes the effects of changes to be independent of each
other); when one is left, that one is needed. What is left of larger sets is suspected, what no
trial changed is untried, and both are said to be so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from optimizer.records import Judgement, Outcome, SymbolFacts, Trial, Verdict
from optimizer.review.export import settings_of
from optimizer.review.prices import Basis, Price, Role, lost
from optimizer.review.savings import Change, changes
from optimizer.settings import Mark


class Reason(StrEnum):
    """Why an option is as it is in the winner."""

    NEEDED = "needed"  # something fails without it
    FORCED = "forced"  # Kconfig holds it there
    KEPT = "kept"  # the study keeps it
    NO_SAVING = "no saving"  # without it nothing fails and nothing is gained
    CHOSEN = "chosen"  # the search set it so, because that saves
    BEST = "best of its values"  # others were tried, and gave less
    DROPPABLE = "droppable"  # a trial without it passed with more RAM, or with options restored
    SUSPECTED = "suspected"  # fails in company only; the search ended before it was told apart
    UNTRIED = "untried"  # no trial changed it
    OUTSIDE = "outside"  # not among what the study tries


# What the search could still settle by going on.
OPEN = (Reason.SUSPECTED, Reason.UNTRIED, Reason.DROPPABLE)


@dataclass(frozen=True)
class CertificateLine:
    """One option that is on, and why.

    ``says`` is the reason in words; ``check``, ``trial`` and ``seen`` (the console's line) are the
    evidence where something failed; ``saving_kb`` is what dropping it would give, where known.
    """

    symbol: str
    value: str
    reason: Reason
    says: str
    check: str = ""
    trial: int | None = None
    seen: str = ""
    saving_kb: float | None = None
    prompt: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Evidence:
    """What a certificate is made from.

    ``kept``: the study's keep-list with its presets, ``gate`` and ``leave`` as in the study,
    ``left_out``: symbol -> why the search space has it not, ``facts``: Kconfig's own words at the
    winner (empty when the kernel tree was not at hand), ``prices``: for the price of what is kept.
    """

    trials: Sequence[Trial]
    winner: Trial
    verdicts: Iterable[Verdict] = ()
    kept: Collection[str] = ()
    gate: Collection[str] = ()
    leave: Collection[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, SymbolFacts] = field(default_factory=dict)
    prices: Iterable[Price] = ()
    marks: Mapping[str, Mark] = field(default_factory=dict)


def certify(evidence: Evidence) -> list[CertificateLine]:
    """A line for each option that is on in the winner: its defconfig's, those it leaves at a
    default that a person could change, and what the study keeps. By reason, then by name."""
    case = _Case(evidence)
    written = settings_of(evidence.winner.resolved.text)
    names = [
        name
        for name, value in settings_of(evidence.winner.resolved.defconfig).items()
        if value not in ("n", '""')
    ]
    names += [
        fact.name
        for fact in evidence.facts.values()
        if fact.visible and fact.type in ("bool", "tristate") and written.get(fact.name, "n") != "n"
    ]
    names += [name for name in evidence.kept if written.get(name, "n") != "n"]
    names += [name for name in case.members if written.get(name, "n") != "n"]
    lines = [case.line(name, written.get(name, "")) for name in dict.fromkeys(names)]
    order = list(Reason)
    return sorted(lines, key=lambda one: (order.index(one.reason), one.symbol))


def evidence_of(trial: Trial) -> tuple[str, str]:
    """(what failed, the line that was seen) of a trial that did not pass."""
    if trial.outcome is Outcome.BUILD_FAILED:
        return "build", trial.reason
    if trial.boot is not None:
        for check in trial.boot.checks:
            if not check.passed:
                return f"{check.suite}/{check.name}", check.detail
        if trial.outcome is Outcome.BOOT_FAILED:
            return "boot", trial.boot.detail or trial.boot.state.value
    return trial.outcome.value, trial.reason


class _Case:
    """The evidence, sorted by whom it concerns."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._winner = evidence.winner
        # Of several values tried of one option the first tells most: it was the best hope.
        self._verdicts = {one.option: one for one in reversed(list(evidence.verdicts))}
        self._trials = [one for one in evidence.trials if one.outcome is not Outcome.DUPLICATE]
        self._by_number = {one.number: one for one in evidence.trials}
        prices = list(evidence.prices)
        self._kept_prices = {one.option: one for one in prices if one.role is Role.KEPT}
        self._made_prices = {one.option: one for one in prices if one.role is Role.MADE}
        self._baseline = self._by_number.get(0, evidence.winner)
        # A choice is one candidate; its members are what a .config names.
        self.members = {
            member: name for name in evidence.winner.effective for member in name.split("|")
        }
        changed = {one.number: changes(one, self._baseline) for one in self._trials}
        passed = [one for one in self._trials if one.outcome is Outcome.PASSED]
        cleared = frozenset().union(*(changed[one.number] for one in passed))
        self._changed = changed
        self._blamed: dict[str, tuple[Trial, frozenset[Change]]] = {}
        for trial in self._trials:
            if trial.outcome in (Outcome.PASSED, Outcome.CONFIG_REFUSED):
                continue
            suspects = changed[trial.number] - cleared
            for name, _ in suspects:
                known = self._blamed.get(name)
                if known is None or len(suspects) < len(known[1]):
                    self._blamed[name] = (trial, suspects)
        self._alone = self._neighbours()

    def line(self, name: str, value: str) -> CertificateLine:
        """The line of one symbol."""
        evidence = self._evidence
        candidate = self.members.get(name)
        fact = evidence.facts.get(name)
        line = (
            self._kept(name, value)
            or self._by_verdict(candidate or name, name, value)
            or (self._as_candidate(candidate, name, value) if candidate else None)
            or self._held(name, value, fact)
            or self._tried(candidate, name, value)
        )
        mark = lost((name, "n"), value, evidence.marks)
        return replace(line, prompt=fact.prompt if fact else "", mark=mark)

    def _kept(self, name: str, value: str) -> CertificateLine | None:
        evidence = self._evidence
        price = self._kept_prices.get(name)
        saving = price.saving_kb if price else None
        if name in evidence.kept:
            words = "the study keeps it" + (
                "" if saving is None else f"; its price is {saving:,.0f} kB{_where(price)}"
            )
            line = CertificateLine(name, value, Reason.KEPT, words, saving_kb=saving)
            tried = (
                self._by_number.get(near.with_trial)
                if price and (near := price.at_winner or price.elsewhere)
                else None
            )
            return _failing(line, tried)
        if name in evidence.gate:
            return CertificateLine(
                name,
                value,
                Reason.KEPT,
                "the study's gate: it makes other options' prompts visible",
            )
        if name in evidence.leave:
            return CertificateLine(name, value, Reason.KEPT, "the study leaves it alone")
        if "keeps" in (why := evidence.left_out.get(name, "")):
            return CertificateLine(name, value, Reason.KEPT, f"dropping it {why}")
        return None

    def _by_verdict(self, option: str, name: str, value: str) -> CertificateLine | None:
        verdict = self._verdicts.get(option) or self._verdicts.get(name)
        if verdict is None or verdict.judgement is Judgement.UNSETTLED:
            return None
        trial = None if verdict.trial is None else self._by_number.get(verdict.trial)
        what = verdict.broken or "something"
        if verdict.judgement is Judgement.NO_SAVING:
            kind, check = Reason.NO_SAVING, ""
            words = "everything works without it, but nothing is gained"
        elif verdict.judgement is Judgement.REQUIRED:
            kind, check = Reason.NEEDED, verdict.broken
            words = f"{verdict.through} goes with it, and {what} fails without that"
        else:
            kind, check = Reason.NEEDED, verdict.broken
            words = f"{what} fails without it"
            if not verdict.alone:
                words += ": all else that was new in that trial works"
        return CertificateLine(
            name,
            value,
            kind,
            words,
            check=check,
            trial=verdict.trial,
            seen=evidence_of(trial)[1] if trial and trial.outcome is not Outcome.PASSED else "",
            saving_kb=verdict.gained,
        )

    def _as_candidate(self, candidate: str, name: str, value: str) -> CertificateLine | None:
        """What trials near the winner say."""
        winner = self._winner
        own = winner.effective.get(candidate, "")
        before = self._baseline.effective.get(candidate, own)
        if own != before:
            price = self._made_prices.get(candidate)
            words = f"the search changed it from {before}{_saved(price)}"
            saving = price.saving_kb if price and price.basis is Basis.MEASURED else None
            return CertificateLine(name, value, Reason.CHOSEN, words, saving_kb=saving)
        near = self._alone.get(candidate, [])
        values = [one for one in near if one.outcome is Outcome.PASSED]
        if values:
            best = max(values, key=lambda one: one.objective or 0.0)
            gained = (best.objective or 0.0) - (winner.objective or 0.0)
            to = best.effective[candidate]
            if gained > 0:
                return CertificateLine(
                    name,
                    value,
                    Reason.DROPPABLE,
                    f"trial {best.number} with {to} passed and has {gained:,.0f} kB more",
                    trial=best.number,
                    saving_kb=gained,
                )
            kind = Reason.NO_SAVING if to == "n" else Reason.BEST
            more = f"{gained:+,.0f} kB" if gained else "nothing"
            return CertificateLine(
                name,
                value,
                kind,
                f"measured: {to} in its place gives {more} (trial {best.number})",
                trial=best.number,
                saving_kb=gained,
            )
        for trial in near:
            check, _ = evidence_of(trial)
            line = CertificateLine(name, value, Reason.NEEDED, f"{check} fails without it")
            return _failing(line, trial)
        return None

    def _held(self, name: str, value: str, fact: SymbolFacts | None) -> CertificateLine | None:
        """What Kconfig says."""
        for refusal in self._winner.resolved.refused:
            if refusal.symbol == name and refusal.asked == "n":
                return CertificateLine(name, value, Reason.FORCED, refusal.reason)
        if fact is None:
            return None
        if fact.holders and "n" not in fact.settable:
            return CertificateLine(
                name, value, Reason.FORCED, f"selected by {', '.join(fact.holders)}"
            )
        if not fact.visible:
            return CertificateLine(
                name, value, Reason.FORCED, "it has no prompt here: its value follows from others"
            )
        if fact.type in ("bool", "tristate") and not fact.choice and "n" not in fact.settable:
            return CertificateLine(
                name, value, Reason.FORCED, "its prompt does not offer to switch it off here"
            )
        return None

    def _tried(self, candidate: str | None, name: str, value: str) -> CertificateLine:
        """What the failed trials leave open, and what was never tried."""
        if candidate is None:
            why = self._evidence.left_out.get(name, "")
            if why:
                return CertificateLine(name, value, Reason.OUTSIDE, f"not tried: {why}")
            if value == "m":
                words = "a module: it is not in the image, and costs RAM only when loaded"
            elif value not in ("y", "n"):
                words = "a value, and the study gives no range to try it in"
            else:
                words = "not among the options that the study tries"
            return CertificateLine(name, value, Reason.OUTSIDE, words)
        if candidate in self._blamed:
            trial, suspects = self._blamed[candidate]
            check, seen = evidence_of(trial)
            if len(suspects) == 1:
                words = (
                    f"{check} fails without it: trial {trial.number} failed, and each of its other "
                    f"changes was made in a trial that passed"
                )
                return _failing(CertificateLine(name, value, Reason.NEEDED, words), trial)
            return CertificateLine(
                name,
                value,
                Reason.SUSPECTED,
                f"one of {len(suspects)} options of which at least one is needed: trial "
                f"{trial.number} dropped them together, and {check} failed",
                check=check,
                trial=trial.number,
                seen=seen,
            )
        without = [
            one
            for one in self._trials
            if one.outcome is Outcome.PASSED
            and one.effective.get(candidate) != self._winner.effective.get(candidate)
        ]
        if without:
            best = max(without, key=lambda one: one.rank)
            return CertificateLine(
                name,
                value,
                Reason.DROPPABLE,
                f"trial {best.number} has {best.effective.get(candidate)} and passed; the winner "
                "was not tried with that",
                trial=best.number,
            )
        return CertificateLine(
            name, value, Reason.UNTRIED, "no trial changed it: the search ended before"
        )

    def _neighbours(self) -> dict[str, list[Trial]]:
        """Trials that differ from the winner in one candidate, by candidate.

        Other candidates may fall along with it (Kconfig ties them to it) as long as they were asked
        to stay: what was asked must differ in that candidate only.
        """
        found: dict[str, list[Trial]] = {}
        own = self._winner.effective
        for trial in self._trials:
            differing = [
                name for name, value in trial.effective.items() if own.get(name, value) != value
            ]
            asked = [
                name
                for name in differing
                if trial.params.get(name, trial.effective[name]) == trial.effective[name]
            ]
            if len(differing) == 1 or (len(asked) == 1 and len(differing) <= _MOST_TIED):
                found.setdefault((asked or differing)[0], []).append(trial)
        return found


# More than this falls along with an option only when it is a whole subsystem's switch.
_MOST_TIED = 12


def _saved(price: Price | None) -> str:
    """What a change saves, in words that follow the change; '' when nobody knows."""
    if price is None or price.saving_kb is None:
        return ""
    if price.basis is Basis.ESTIMATED:
        return f": that saves about {price.saving_kb:,.0f} kB, by estimate"
    if price.basis is Basis.SECTIONS:
        return f": that saves {price.saving_kb:,.0f} kB of the image{_where(price)}"
    return f": that saves {price.saving_kb:,.0f} kB, measured{_where(price)}"


def _where(price: Price | None) -> str:
    """At which trial a price was measured, in words; '' when that is the winner."""
    return f" at trial {price.elsewhere.at_trial}" if price and price.elsewhere else ""


def _failing(line: CertificateLine, trial: Trial | None) -> CertificateLine:
    """The line with a failed trial for its evidence; as it is when the trial did not fail."""
    if trial is None or trial.outcome is Outcome.PASSED:
        return line
    check, seen = evidence_of(trial)
    return replace(line, check=check, trial=trial.number, seen=seen)
