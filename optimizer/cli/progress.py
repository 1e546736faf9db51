"""How a run goes: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from optimizer.cli.screen import console, kb, span
from optimizer.records import Trial

LINES_SHOWN = 12


@dataclass
class _Slot:
    number: int = 0
    phase: str = "idle"
    detail: str = ""
    since: float = field(default_factory=time.monotonic)
    expected: int | None = None


class Progress:
    """The run's reporter for people. A context manager: the display is there while it is entered.

    Args:
        baseline_kb: the baseline's figure, if it is known already.
        best: the best trial so far, if there is one.
        done: trials stored before this run.
        budget_seconds: this run's, None without.
        trials: the limit of trials, None without.
        aside: on standard error, because a document goes to standard output.
    """

    def __init__(
        self,
        baseline_kb: float | None,
        best: Trial | None,
        done: int,
        budget_seconds: float | None,
        trials: int | None,
        *,
        aside: bool = False,
    ) -> None:
        self._console = console(aside=aside)
        self._baseline_kb = baseline_kb
        self._best = best
        self._done = done
        self._done_here = 0
        self._budget_seconds = budget_seconds
        self._trials = trials
        self._began = time.monotonic()
        self._slots: dict[int, _Slot] = {}
        self._objects: dict[int, int] = {}
        self._recent: deque[str] = deque(maxlen=LINES_SHOWN)
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render, console=self._console, refresh_per_second=4
            )
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """A line that stays on the screen."""
        self._console.print(Text(line))

    def started(self, number: int, slot: int, expected: int | None = None) -> None:
        """A trial was given to a slot; about so many objects will be compiled."""
        self._slots[slot] = _Slot(number, "configure", expected=expected)
        self._objects.pop(slot, None)

    def phase(self, number: int, slot: int, phase: str, detail: str) -> None:
        """A trial came to a phase."""
        state = self._slots.setdefault(slot, _Slot(number))
        if state.phase != phase and self._live is None:
            more = detail
            if phase == "build":
                more = "" if state.expected is None else f"about {state.expected:,} objects"
            self.say(f"trial {number}: {phase} {more}".rstrip())
        if phase == "build":
            self._objects[slot] = int(detail or 0)
        state.number, state.phase, state.detail = number, phase, detail

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """A trial is stored."""
        self._done += 1
        self._done_here += 1
        if trial.number == 0 and trial.objective is not None:
            self._baseline_kb = trial.objective
        self._best = best
        self._slots = {key: one for key, one in self._slots.items() if one.number != trial.number}
        self.say(self._line(trial))
        if trial.build is not None and trial.build.unlike:
            self.say(
                f"trial {trial.number}: {', '.join(trial.build.unlike)} came out otherwise than a "
                "clean build has it when compiled from what it was reduced to. From now on it is "
                "compiled as it is written; trials before this one may have had it: verify them."
            )

    def trouble(self, number: int, message: str) -> None:
        """The machine failed at a trial."""
        self.say(f"trial {number}: {message} Trying again.")

    def _line(self, trial: Trial) -> str:
        changed = len(trial.assignment.values)
        figure = kb(trial.objective) or trial.outcome.value
        gain = ""
        if trial.objective is not None and self._baseline_kb is not None:
            gain = f" ({trial.objective - self._baseline_kb:+,.0f})"
        mark = " *" if self._best is not None and self._best.number == trial.number else ""
        why = f"  {trial.reason[:100]}" if trial.reason else ""
        objects = f", {trial.build.objects} objects" if trial.build else ""
        return (
            f"trial {trial.number:>4}  {figure}{gain}{mark}  "
            f"{changed} asked, {span(trial.seconds)}{objects}{why}"
        )

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for slot, state in sorted(self._slots.items()):
            detail = state.detail
            if state.phase == "build":
                about = "" if state.expected is None else f" of about {state.expected:,}"
                detail = f"{self._objects.get(slot, 0):,}{about} objects compiled"
            table.add_row(
                f"trial {state.number}", state.phase, detail, span(time.monotonic() - state.since)
            )
        return Group(table, Text(self._summary(), style="bold"))

    def _summary(self) -> str:
        elapsed = time.monotonic() - self._began
        parts = [f"{self._done} trials"]
        if self._best is not None and self._best.objective is not None:
            parts.append(f"best {kb(self._best.objective)} (trial {self._best.number})")
            if self._baseline_kb is not None:
                parts.append(f"{self._best.objective - self._baseline_kb:+,.0f} kB on the baseline")
        if self._done_here:
            parts.append(f"{self._done_here / elapsed * 3600:.0f} trials/h")
        left = []
        if self._budget_seconds is not None:
            left.append(max(0.0, self._budget_seconds - elapsed))
        if self._trials is not None and self._done_here:
            left.append((self._trials - self._done) * elapsed / self._done_here)
        if left:
            parts.append(f"{span(max(0.0, min(left)))} left")
        return " | ".join(parts)
