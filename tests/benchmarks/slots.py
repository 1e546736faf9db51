"""Trials an hour with one slot and with several, on the variants that a real search asked for.

Each variant is built with reuse of objects, booted, checked and its RAM accounted for, as a run
does it. The baseline comes first in every slot and is not counted. Two slots share a tree and build
by turns; what one has built boots while the other builds. Each count of slots has trees and a store
of its own that begin empty, and is finished as a whole: what was cut short begins anew.
"""

from __future__ import annotations

import argparse
import json
import queue
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.build import SEQUENCE, cpu_seconds, empty_store
from optimizer.cli import workshop
from optimizer.cli.host import cores
from optimizer.errors import MemtotalError, UserError
from optimizer.kernel.kconfig import SymbolTree
from optimizer.records import Assignment, Outcome
from optimizer.search.trial import Slot, Variant
from optimizer.settings import StudySettings, cache_folder, load_study


@dataclass(frozen=True)
class Evaluated:
    """A study's variants evaluated with so many slots: seconds by the clock and of all processors,
    outcome of each."""

    study: str
    slots: int
    compilers: int
    trials: int
    wall_seconds: float
    cpu_seconds: float
    outcomes: dict[str, str]

    @property
    def an_hour(self) -> float:
        """Trials an hour."""
        return 3600.0 * self.trials / self.wall_seconds

    @property
    def busy(self) -> float:
        """Share of the processors' time that was used."""
        return self.cpu_seconds / (self.wall_seconds * cores())


class Lane:
    """Slots that share a queue of variants, in a folder of their own."""

    def __init__(
        self, settings: StudySettings, tools: Mapping[str, str], folder: Path, slots: int
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        self.compilers = workshop.compilers(slots)
        store = empty_store(settings, folder)
        self._slots = workshop.slots_below(folder, settings, tools, slots, store)
        for slot in self._slots:
            self._free.put(slot)

    def warm_up(self, baseline: Variant) -> None:
        """Build and boot the baseline in every slot.

        Raises:
            UserError: it does not pass; then trials an hour would mean nothing.
        """
        for number, slot in enumerate(self._slots):
            logs = self._logs(f"baseline-{number}")
            trial = slot.evaluate(baseline, logs, _silent, threading.Event())
            if trial.outcome is not Outcome.PASSED:
                raise UserError(f"The baseline does not pass: {trial.reason}.", f"See {logs}.")

    def evaluate(self, variants: Iterable[Variant]) -> list[str]:
        """Evaluate them, as many at once as there are slots; their outcomes, in their order."""
        with ThreadPoolExecutor(len(self._slots)) as pool:
            return list(pool.map(self._one, variants))

    def close(self) -> None:
        """Give the trees back."""
        for slot in self._slots:
            slot.close()

    def _one(self, variant: Variant) -> str:
        slot = self._free.get()
        try:
            logs = self._logs(str(variant.number))
            return slot.evaluate(variant, logs, _silent, threading.Event()).outcome.value
        finally:
            self._free.put(slot)

    def _logs(self, name: str) -> Path:
        return self._folder / "logs" / name


def _silent(_phase: str, _detail: str) -> None:
    """Nobody looks."""


def variant(
    number: int, symbols: SymbolTree, settings: StudySettings, values: Mapping[str, str]
) -> Variant:
    """A recorded variant as a run would give it to a slot; the study's gates are on."""
    assignment = Assignment(dict.fromkeys(settings.options.gate, "y") | dict(values))
    return Variant(number, "recorded", {}, assignment, {}, symbols.resolve(assignment))


def measure(asked: argparse.Namespace, screen: Console) -> list[Evaluated]:
    """Evaluate the variants with each count of slots, as far as that is not done.

    Raises:
        UserError: a tree is in use, objects cannot be reused with this compiler.
        MachineFault: the machine failed.
    """
    settings = load_study(asked.study)
    if asked.afresh:
        asked.output.unlink(missing_ok=True)
    recorded = json.loads(asked.sequence.read_text(encoding="utf-8"))[1 : 1 + asked.variants]
    found = [
        one
        for one in _read(asked.output)
        if one.study == settings.name and list(one.outcomes) == _names(recorded)
    ]
    symbols = workshop.symbol_tree(settings)
    tools = workshop.tools(settings, symbols)
    baseline, *variants = (
        variant(number, symbols, settings, values)
        for number, values in enumerate([{}, *(one["values"] for one in recorded)])
    )
    for slots in asked.slots:
        if any(one.slots == slots for one in found):
            continue
        screen.print(f"{slots} slots: the baseline, then {len(variants)} variants ...")
        lane = Lane(settings, tools, cache_folder() / "bench-slots" / str(slots), slots)
        try:
            lane.warm_up(baseline)
            began, used = time.monotonic(), cpu_seconds()
            outcomes = lane.evaluate(variants)
            seconds, used = time.monotonic() - began, cpu_seconds() - used
        finally:
            lane.close()
        by_name = dict(zip(_names(recorded), outcomes, strict=True))
        found.append(
            Evaluated(
                settings.name,
                slots,
                lane.compilers,
                len(variants),
                round(seconds, 1),
                round(used, 1),
                by_name,
            )
        )
        _write(asked.output, found)
    return sorted(
        (one for one in found if one.slots in asked.slots),
        key=lambda one: asked.slots.index(one.slots),
    )


def _names(recorded: Sequence[Mapping[str, object]]) -> list[str]:
    return [str(one["variant"]) for one in recorded]


def _read(path: Path) -> list[Evaluated]:
    if not path.is_file():
        return []
    try:
        return [Evaluated(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not what this benchmark writes: {error}.", "Move it out of the way."
        ) from None


def _write(path: Path, found: Sequence[Evaluated]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
    half.replace(path)


def show(found: Sequence[Evaluated], screen: Console) -> None:
    """Print a table, each count of slots beside the first."""
    table = Table(box=None)
    for title in ("slots", "compilers each", "trials", "wall s", "trials/h", "to the first",
                  "busy", "passed"):  # fmt: skip
        table.add_column(title, justify="right")
    for one in found:
        table.add_row(
            str(one.slots), str(one.compilers), str(one.trials), f"{one.wall_seconds:.0f}",
            f"{one.an_hour:.1f}", f"{one.an_hour / found[0].an_hour:.2f}", f"{one.busy:.0%}",
            str(sum(outcome == Outcome.PASSED.value for outcome in one.outcomes.values())),
        )  # fmt: skip
    screen.print(table)
    unlike = {name for one in found for name in one.outcomes
              if one.outcomes[name] != found[0].outcomes[name]}  # fmt: skip
    if unlike:
        screen.print(f"not the same outcome: {', '.join(sorted(unlike))}")


def main(arguments: Sequence[str]) -> int:
    """Evaluate what is not evaluated yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-slots")
    parser.add_argument("--study", default="versatilepb")
    parser.add_argument("--sequence", type=Path, default=SEQUENCE, help="variants, baseline first")
    parser.add_argument("--variants", type=int, default=16, help="the first N after the baseline")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=Path("results/bench/slots.json"))
    parser.add_argument("--afresh", action="store_true", help="forget what is finished")
    asked = parser.parse_args(arguments)
    if min(asked.variants, *asked.slots) < 1:
        parser.error("--variants and --slots are 1 or more")
    screen = Console(width=None if sys.stdout.isatty() else 140)
    try:
        show(measure(asked, screen), screen)
    except MemtotalError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
