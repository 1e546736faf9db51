"""What people have today, on the same terms: ask for a variant, be told what came of it.

``ktest``: `make_min_config` of tools/testing/ktest/ktest.pl, as of Linux 6.1. ``halving``: drop a
batch of options, halve it when it fails. Random search, TPE and NSGA-II are Optuna's, by the
product's own study.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from optimizer.records import Outcome, Trial
from optimizer.search.space import Change, Space


class Finished(Exception):  # noqa: N818 - not an error: the rival came to its end
    """The rival has nothing left to ask for."""


class Rival(Protocol):
    """What the benchmark drives; the product's Study has the same two methods."""

    def ask(self, number: int) -> dict[str, str]:
        """The params of the next variant; :class:`Finished` at the end."""

    def tell(self, trial: Trial) -> None:
        """What came of it."""


@dataclass(frozen=True)
class Dependencies:
    """What ktest reads from the Kconfig files.

    ``parents`` are an option's words of ``depends on`` and who selects it, ``counts`` how often a
    whole ``depends on`` text, or a selecting option, occurs.
    """

    parents: Mapping[str, Sequence[str]]
    counts: Mapping[str, int]


def dependencies(tree: Path, arch: str) -> Dependencies:
    """ktest's own reading (read_kconfig), by its own regular expressions.

    In its favour it begins at the top Kconfig file and knows $(SRCARCH). By itself it begins at the
    architecture's, which since Linux 4.20 includes little else, and would know hardly anything.
    """
    parents: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()

    def add(config: str, condition: str) -> None:
        parents.setdefault(config, []).append(condition)
        counts[condition] += 1

    files = ["Kconfig"]
    read = set(files)
    while files:
        path = tree / files.pop(0)
        if not path.is_file():
            continue
        config, new = "", False
        conditions: list[str] = []
        text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
        for line in text.splitlines():
            if match := re.match(r'source\s*"(.*)"', line):
                name = match.group(1).replace("$(SRCARCH)", arch)
                if name not in read:
                    read.add(name)
                    files.append(name)
            elif match := re.match(r"\s*(?:menu)?config\s+(\S+)\s*$", line):
                config, new = match.group(1), True
                for condition in conditions:
                    add(config, condition)
            elif new and (match := re.match(r"\s*depends\s+on\s+(.*)$", line)):
                add(config, match.group(1))
            elif new and (match := re.match(r"\s*select\s+(\S+)", line)):
                add(match.group(1), config)
            elif match := re.match(r"if\s+(.*\S)\s*$", line):
                conditions.append(":".join(re.findall(r"[a-zA-Z0-9_]+", match.group(1))))
            elif line.startswith("endif"):
                del conditions[-1:]
            elif re.match(r"\s*help\s*$", line):
                new = False
    words = {
        name: [word for text in texts for word in re.findall(r"[A-Za-z_0-9]+", text)]
        for name, texts in parents.items()
    }
    return Dependencies(words, counts)


class Ktest:
    """One option a build; what fails once is kept for ever.

    Its own rules: options by how many depend on them (the rest in the order of Perl's hashes, here
    the seed's), before each the options that it depends on or that select it; an option whose going
    changes nothing costs no build and is tried again later; when one goes, all that went with it is
    done.

    In its favour, where its rules would stop it short of what the others may reach: options that
    allnoconfig sets alike are tried too (it leaves them out, without holding them, and so loses
    AEABI and never drops PRINTK); what the study keeps is in its IGNORE_CONFIG; an option that
    went stays off though it is `default y`; options off already cost no builds. It knows nothing of
    integers, choices and options that save by being on: they are tried first, one value a build,
    the study's hints before the rest, and are kept if they save; choices without a hint come last.
    """

    def __init__(self, space: Space, known: Dependencies, seed: int) -> None:
        self._space = space
        self._known = known
        self._made: dict[str, str] = {}
        self._gone: set[str] = set()
        self._kept: set[str] = set()
        self._unchanged: set[str] = set()
        self._settled: set[str] = set()
        self._best: float | None = None
        options = [
            one.name for one in space.candidates if one.kind == "bool" and one.baseline == "y"
        ]
        random.Random(f"ktest/{seed}").shuffle(options)
        self._order = sorted(options, key=lambda name: -known.counts.get(name, 0))
        self._options = frozenset(options)
        others = [one for one in space.candidates if one.name not in set(options)]
        self._first = [
            (one.name, value) for one in others if one.hinted for value in one.alternatives
        ]
        self._last = [
            (one.name, value) for one in others if not one.hinted for value in one.alternatives
        ]
        self._asked: Change | None = None

    def ask(self, number: int) -> dict[str, str]:
        """The next single change on top of all that worked."""
        change = self._value(self._first) or self._option() or self._value(self._last)
        if change is None:
            raise Finished
        self._asked = change
        return self._space.baseline | self._made | dict([change])

    def tell(self, trial: Trial) -> None:
        """Keep the change, or what it would have changed, for good."""
        if self._asked is None:
            self._best = trial.objective
            return
        name, value = self._asked
        self._asked = None
        works = trial.objective is not None
        if value == "n" and self._space.candidate(name).kind == "bool":
            if not works:
                self._kept.add(name)
                return
            self._gone.add(name)
            self._gone |= {one for one in self._order if trial.effective[one] == "n"}
            self._made[name] = value
        elif works:
            self._settled.add(name)
            if (trial.objective or 0.0) <= (self._best or 0.0):
                return
            self._made[name] = value
        if works:
            self._best = trial.objective

    def _value(self, changes: list[Change]) -> Change | None:
        """The next value of something that is no option to drop; one per candidate if it worked."""
        while changes:
            change = changes.pop(0)
            candidate = self._space.candidate(change[0])
            settled = change[0] in self._settled and candidate.kind != "choice"
            if not settled and self._changes(change):
                return change
        return None

    def _option(self) -> Change | None:
        """The next option by ktest's order whose going changes the configuration."""
        for _take in range(2):
            done: set[str] = set()
            # Those that changed nothing are at the end.
            waiting = sorted(self._left(), key=lambda name: name in self._unchanged)
            for name in waiting:
                if found := self._test(name, done):
                    return (found, "n")
            if not self._unchanged:
                return None
            self._unchanged.clear()
        return None

    def _left(self) -> list[str]:
        return [one for one in self._order if one not in self._gone and one not in self._kept]

    def _test(self, name: str, done: set[str]) -> str | None:
        """test_this_config: parents first, then the option itself."""
        if name in done or name in self._unchanged or name in self._gone or name in self._kept:
            return None
        done.add(name)
        for parent in self._known.parents.get(name, ()):
            if parent in self._options and (found := self._test(parent, done)):
                return found
        if self._changes((name, "n")):
            return name
        self._unchanged.add(name)
        return None

    def _changes(self, change: Change) -> bool:
        """Whether Kconfig lets the change happen, and nothing that the study keeps goes with it."""
        params = self._made | dict([change])
        taken = self._space.effective(params)[change[0]] == change[1]
        return taken and not self._space.lost(params)


class Halving:
    """Drop everything; halve what fails, down to the single change; what works stays.

    The menu's order keeps what belongs together in one half. Nothing known to fail is built: a
    variant with all changes of one that failed fails too, so that when one half works the other is
    halved at once. What was left is gone through again until nothing more goes; integers then get
    their next values, and other values of choices are tried one at a time.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._start = space.effective({})
        self._made: dict[str, str] = {}
        self._best: float | None = None
        self._effective: Mapping[str, str] = self._start
        self._failed: list[frozenset[Change]] = []
        self._refused: set[Change] = set()
        self._held: set[Change] = set()
        self._asked: list[Change] = []
        self._stack: list[list[Change]] = []
        self._rounds: Iterator[list[Change]] = self._plan()

    def ask(self, number: int) -> dict[str, str]:
        """The next batch of which it is not known that it fails."""
        while True:
            if not self._stack:
                batch = next(self._rounds, None)
                if batch is None:
                    raise Finished
                self._stack.append(batch)
            batch = [one for one in self._stack.pop() if self._open(one)]
            if not batch:
                continue
            params = self._made | dict(batch)
            effective = self._space.effective(params)
            changes = self._changes(effective)
            if changes == self._changes(self._effective):
                self._held.update(batch)
            elif self._space.lost(params) or any(one <= changes for one in self._failed):
                self._halve(batch)
            else:
                self._asked = batch
                return self._space.baseline | params

    def tell(self, trial: Trial) -> None:
        """Take the batch, or halve it."""
        if not self._asked:
            self._best = trial.objective
            return
        batch, self._asked = self._asked, []
        if trial.objective is not None and (
            trial.objective > (self._best or 0.0)
            or (trial.objective == self._best and self._all_hinted(batch))
        ):
            # What something else still holds on may be what works only as long as it does.
            self._made.update(one for one in batch if trial.effective[one[0]] == one[1])
            self._best = trial.objective
            self._effective = trial.effective
            return
        if trial.outcome in (Outcome.SMOKE_FAILED, Outcome.BOOT_FAILED, Outcome.BUILD_FAILED):
            self._failed.append(frozenset(self._changes(trial.effective)))
        self._halve(batch)

    def _plan(self) -> Iterator[list[Change]]:
        """The batches to begin with, in their order."""
        hinted = [one for one in self._space.candidates if one.hinted]
        while True:
            before = dict(self._made)
            # What something else held on may be free now.
            self._held.clear()
            yield [(one.name, one.alternatives[0]) for one in hinted if one.name not in self._made]
            if self._made == before:
                break
        for one in hinted:
            for value in one.alternatives[1:]:
                if one.name not in self._made or one.kind == "choice":
                    yield [(one.name, value)]
        for one in self._space.candidates:
            if not one.hinted:
                for value in one.alternatives:
                    yield [(one.name, value)]

    def _halve(self, batch: list[Change]) -> None:
        if len(batch) == 1:
            self._refused.add(batch[0])
            return
        middle = len(batch) // 2
        self._stack += [batch[middle:], batch[:middle]]

    def _open(self, change: Change) -> bool:
        """Whether the change is neither made, by whatever way, nor known not to work."""
        name, value = change
        if change in self._refused | self._held or self._effective[name] == value:
            return False
        # What fell with something else has no value of its own any more.
        return self._effective[name] not in ("n", "") or self._effective[name] == self._start[name]

    def _changes(self, effective: Mapping[str, str]) -> set[Change]:
        return {(name, value) for name, value in effective.items() if value != self._start[name]}

    def _all_hinted(self, batch: Sequence[Change]) -> bool:
        return all(self._space.candidate(name).hinted for name, _value in batch)
