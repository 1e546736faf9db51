"""A study as one page of HTML that needs nothing else: no network, no file beside it.

Whatever came from outside (log lines, names, help texts) is escaped by the template. A content
security policy in the page forbids every request and every script but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jinja2
import markupsafe

from optimizer.records import MEASURING_SAMPLERS, Outcome, Step, Trial
from optimizer.review import plots
from optimizer.review.certificate import OPEN, CertificateLine, Reason, evidence_of
from optimizer.review.ledger import LedgerPart
from optimizer.review.plots import Bar, Plot, Point
from optimizer.review.prices import Basis, Price, Role
from optimizer.review.savings import changes
from optimizer.settings import Mark

_FOLDER = Path(__file__).parent
# A page that shows a thousand trials must stay small; the rest is in the database.
MOST_FAILURES_SHOWN = 60


@dataclass(frozen=True)
class Subject:
    """What the page is about.

    ``name`` is what a user types for the study in a command; ``facts`` are lines of how to
    reproduce it, title -> text; ``ledger`` is empty when the RAM's parts are not known.
    """

    study: str
    name: str
    version: str
    objective: str
    kernel: str
    compiler: str
    emulator: str
    settings: str
    trials: Sequence[Trial]
    baseline: Trial
    winner: Trial
    prices: Sequence[Price]
    certificate: Sequence[CertificateLine]
    steps: Sequence[Step]
    ledger: Sequence[LedgerPart]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class _Saving:
    option: str
    before: str
    value: str
    role: str
    saving_kb: float | None
    saving: str
    basis: str
    image_bytes: int | None
    trials: int
    mark: Mark | None
    prompt: str
    does: str
    note: str


@dataclass(frozen=True)
class _Line:
    symbol: str
    value: str
    reason: str
    open: bool
    says: str
    seen: str
    trial: int | None
    prompt: str


def render(subject: Subject) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_FOLDER / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        page=_page(subject),
        plots={name: _safe(plot) for name, plot in _plots(subject).items()},
        # The program's own files, not text from outside.
        style=markupsafe.Markup((_FOLDER / "report.css").read_text(encoding="utf-8")),  # noqa: S704
        script=markupsafe.Markup(script),  # noqa: S704
        script_hash=markupsafe.Markup(f"sha256-{digest}"),  # noqa: S704
        kb=_kb,
        signed=_signed,
    )


def _page(subject: Subject) -> dict[str, object]:
    winner, baseline = subject.winner, subject.baseline
    before, after = baseline.objective or 0.0, winner.objective or 0.0
    savings = [_saving(one) for one in subject.prices]
    reasons = {
        reason.value: count
        for reason in Reason
        if (count := sum(one.reason is reason for one in subject.certificate))
    }
    checks = winner.boot.checks if winner.boot else ()
    return {
        "study": subject.study,
        "name": subject.name,
        "version": subject.version,
        "objective": {"mem_total": "MemTotal", "mem_available": "MemAvailable"}.get(
            subject.objective, subject.objective
        ),
        "kernel": subject.kernel,
        "compiler": subject.compiler,
        "emulator": subject.emulator,
        "settings": subject.settings,
        "winner": winner.number,
        "baseline_kb": before,
        "winner_kb": after,
        "gain_kb": after - before,
        "gain_percent": 100 * (after - before) / before if before else 0.0,
        "trials": len(subject.trials),
        "hours": _hours(sum(one.seconds for one in subject.trials)),
        "checks": f"{sum(check.passed for check in checks)} of {len(checks)}",
        "dangers": [
            one
            for one in savings
            if one.role == Role.MADE.value and one.mark and one.mark.kind != "diagnosis"
        ],
        "way_caption": (
            "Each step is built, booted and checked with all steps before it."
            if subject.steps
            else "Each bar is a trial that was better than all before it, and what it added."
        ),
        "ledger": subject.ledger,
        "savings": savings,
        "measured": sum(one.basis in (Basis.MEASURED, Basis.SECTIONS) for one in subject.prices),
        "certificate": [_line(one) for one in subject.certificate],
        "certificate_says": _certificate_says(subject.certificate),
        "reasons": reasons,
        "failures": _failures(subject),
        "facts": subject.facts,
        "defconfig": winner.resolved.defconfig,
    }


def _plots(subject: Subject) -> dict[str, Plot | None]:
    points = _points(subject.trials)
    before, after = subject.baseline.objective or 0.0, subject.winner.objective or 0.0
    return {
        "trials": plots.history(points, "trials"),
        "hours": plots.history(points, "hours"),
        "way": plots.waterfall(before, _bars(subject), after),
        "ledger": plots.stacked(subject.ledger) if subject.ledger else None,
    }


def _safe(plot: Plot | None) -> dict[str, object] | None:
    if plot is None:
        return None
    # matplotlib escapes the texts that it draws.
    return {
        "label": plot.label,
        "wide": markupsafe.Markup(plot.wide),  # noqa: S704
        "narrow": markupsafe.Markup(plot.narrow),  # noqa: S704
    }


def _points(trials: Sequence[Trial]) -> list[Point]:
    begun = [_when(one.started_at) for one in trials]
    first = min((one for one in begun if one is not None), default=None)
    found = []
    reached = 0.0
    for trial, began in zip(trials, begun, strict=True):
        if began is not None and first is not None:
            ended = (began - first).total_seconds() + trial.seconds
            reached = max(reached, ended / 3600)
        found.append(
            Point(trial.number, reached, trial.objective, trial.sampler in MEASURING_SAMPLERS)
        )
    return found


def _when(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _bars(subject: Subject) -> list[Bar]:
    """What led to the winner: the measured steps, else the trials that were each the best so
    far."""
    objectives = {one.number: one.objective or 0.0 for one in subject.trials}
    reached = subject.baseline.objective or 0.0
    bars = []
    if subject.steps:
        for step in subject.steps:
            bars.append(Bar(step.title, objectives[step.trial] - reached))
            reached = objectives[step.trial]
        return bars
    for trial in subject.trials:
        if trial.outcome is Outcome.PASSED and trial.objective and trial.objective > reached:
            if trial.objective > (subject.winner.objective or 0.0):
                continue
            bars.append(Bar(f"trial {trial.number}", trial.objective - reached))
            reached = trial.objective
    return bars


def _saving(price: Price) -> _Saving:
    told = price.told
    notes = []
    if price.elsewhere:
        notes.append(f"Measured at trial {price.elsewhere.at_trial}, not at this one.")
    if price.interaction_kb:
        notes.append(f"{_signed(price.interaction_kb)} of it only together with others.")
    if price.together_with:
        shown = ", ".join(name for name, _ in price.together_with[:4])
        more = len(price.together_with) - 4
        seen = "Never seen without" if price.basis is Basis.ESTIMATED else "Together with"
        notes.append(f"{seen} {shown}{f' and {more} more' if more > 0 else ''}.")
    return _Saving(
        option=price.option.replace("|", " | "),
        before=price.before,
        value=price.value,
        role=price.role.value,
        saving_kb=price.saving_kb,
        saving=_saving_text(price),
        basis=price.basis.value,
        image_bytes=told.image_bytes if told else None,
        trials=price.trials,
        mark=price.mark,
        prompt=price.prompt,
        does=price.does,
        note=" ".join(notes),
    )


def _saving_text(price: Price) -> str:
    if price.saving_kb is None:
        return "not known"
    if price.basis is Basis.ESTIMATED and price.high_kb is not None:
        return f"{price.saving_kb:,.0f} ± {price.high_kb - price.saving_kb:,.0f} kB"
    return f"{price.saving_kb:,.0f} kB"


def _line(line: CertificateLine) -> _Line:
    return _Line(
        symbol=line.symbol,
        value=line.value,
        reason=line.reason.value,
        open=line.reason in OPEN,
        says=line.says,
        seen=line.seen,
        trial=line.trial,
        prompt=line.prompt,
    )


def _certificate_says(lines: Sequence[CertificateLine]) -> str:
    left = sum(one.reason in OPEN for one in lines)
    settled = len(lines) - left
    if left:
        return (
            f"{len(lines)} options are on in the winner. Of {settled} it is known why; for {left} "
            "the search ended before it could tell."
        )
    return f"{len(lines)} options are on in the winner, and of each it is known why."


def _failures(subject: Subject) -> list[dict[str, object]]:
    groups: dict[tuple[str, str], list[dict[str, object]]] = {}
    for trial in subject.trials:
        if trial.outcome in (Outcome.PASSED, Outcome.DUPLICATE):
            continue
        check, seen = evidence_of(trial)
        groups.setdefault((check, trial.outcome.value), []).append(
            {
                "number": trial.number,
                "changes": len(changes(trial, subject.baseline)),
                "seen": seen,
            }
        )
    return [
        {
            "check": check,
            "outcome": outcome,
            "count": len(members),
            "trials": members[:MOST_FAILURES_SHOWN],
        }
        for (check, outcome), members in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def _kb(value: float) -> str:
    return f"{value:,.0f} kB"


def _signed(value: float) -> str:
    return f"{value:+,.0f} kB"


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
