"""Landscapes: what a search would meet on the real kernel, at no build's cost.

The Kconfig tree is the real one and resolves every assignment. Sizes of objects, the options that
bring them and what ran in which check were measured on the real baseline (see
:mod:`benchmarks.recording`). What another alternative of a choice does is what that of some choice
did in a real study (see :mod:`benchmarks.alternatives`); in the landscape ``measured`` of the same
one, as far as that was measured. What cannot be measured without building every variant is drawn by
the seed: savings inside other options' objects, which check a value breaks, and, but for
``measured``, what the boot and the checks need.

The model of MemTotal, in bytes, above the baseline's:

    objects that are gone
  + for each option off, the parts of its code in other options' objects that are still there
  + a share of all that remains, for what changes the whole code (optimization, unwinder)
  + tables sized by integers, against their size in the baseline
  + what a choice or an option turned on saves (or costs)

rounded down to pages. The needs: an option, or one of two, without which checks, the boot or the
build fail, and values that break one.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import recording
from benchmarks.alternatives import MeasuredChoice
from benchmarks.record_landscape import owned, stages
from benchmarks.recording import BOOT, NEVER, RecordedObject, Recording
from optimizer.records import (
    BootResult,
    BootState,
    BuildResult,
    CheckResult,
    Measurement,
    Outcome,
    ResolvedConfig,
    Trial,
)
from optimizer.search.prior import Traces
from optimizer.search.space import Candidate, Space

PAGE_KB = 4
BUILD = "build"
NO_OOPS = "kernel/no_oops"
# Seconds of a trial without compiling, and objects compiled a second, on two cores (measured).
OVERHEAD_SECONDS = 25.0
OBJECTS_PER_SECOND = 4.9

# What one step of an integer allocates before MemTotal is counted, from the sources: a ring of 2^n
# bytes, a table of 2^n bytes a processor; for counts the bytes of one. What is allocated later, or
# by a driver that MemTotal does not see, is 0.
POWERS = {"LOG_BUF_SHIFT": 1.0, "PRINTK_SAFE_LOG_BUF_SHIFT": 1.0, "INET_TABLE_PERTURB_ORDER": 0.0}
COUNTS = {"LEGACY_PTY_COUNT": 200.0, "CMA_AREAS": 150.0, "BLK_DEV_RAM_COUNT": 0.0}


@dataclass(frozen=True)
class Spec:
    """What a kind of landscape draws.

    ``needs`` is the number of options needed (None: those measured), ``pairs`` that of pairs of
    which one is needed, ``misleading`` the share of needs whose code never ran in the baseline;
    ``build_breaks`` options without which nothing compiles. ``spread`` is the standard deviation of
    the logarithm by which an object's real saving differs from its size; ``largest_power`` by how
    many powers of two a board's integers may be larger than this one's.
    """

    name: str
    needs: int | None
    pairs: int
    misleading: float = 0.2
    build_breaks: int = 0
    spread: float = 0.0
    largest_power: int = 0


SPECS = {
    one.name: one
    for one in (
        Spec("measured", None, 0),
        Spec("needs-3", 3, 1, spread=0.2, largest_power=5),
        Spec("needs-15", 15, 3, build_breaks=1, spread=0.2, largest_power=5),
        Spec("needs-40", 40, 6, build_breaks=2, spread=0.2, largest_power=5),
    )
}


@dataclass(frozen=True)
class Need:
    """Fails when none of its options is on, or when a candidate has one of the bad values.

    ``breaks`` are the checks that fail, or :data:`BOOT`, or :data:`BUILD`; ``fatal`` needs take the
    machine along, so that no later check can be made.
    """

    options: frozenset[str]
    breaks: frozenset[str]
    fatal: bool = False
    value: tuple[str, str] | None = None

    def violated(self, effective: Mapping[str, str]) -> bool:
        """Whether it is, with those values of the candidates."""
        if self.value is not None:
            return effective[self.value[0]] == self.value[1]
        return all(effective[name] == "n" for name in self.options)


@dataclass(frozen=True)
class Verdict:
    """What a variant comes to. ``mem_total_kb`` is what it would have if it booted."""

    effective: Mapping[str, str]
    digest: str
    outcome: Outcome
    violated: tuple[Need, ...]
    mem_total_kb: int
    image_bytes: int
    values: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything works."""
        return self.outcome is Outcome.PASSED


class Ground:
    """What all landscapes of one recording share: the tree, the objects, who needs what compiled.

    Args:
        space: the study's search space on the recorded kernel.
        recorded: the recording.
        alternatives: what other alternatives of choices did in real studies, the recorded one's
            first; none: what nobody expects to save does nothing.
    """

    def __init__(
        self, space: Space, recorded: Recording, alternatives: Sequence[MeasuredChoice] = ()
    ) -> None:
        self.space = space
        self.recorded = recorded
        self.alternatives = alternatives
        self.start = space.effective({})
        self.names = tuple(sorted({*recorded.symbols, *space.keep}))
        self.before = space.tree.values(space.gate, self.names)
        self.sizes = np.array([one.bytes for one in recorded.objects], float)
        symbols = recorded.symbols
        row = {name: number for number, name in enumerate(symbols)}
        self._options = np.zeros((len(symbols), len(recorded.objects)), bool)
        self._mentions = np.zeros((len(symbols), len(recorded.objects)), bool)
        for number, one in enumerate(recorded.objects):
            self._options[[row[name] for name in one.options], number] = True
            self._mentions[[row[name] for name in one.mentions], number] = True
        for name in recorded.flags:
            self._mentions[row[name], :] = True
        self._positions = {name: position for position, name in enumerate(self.names)}
        self._gone: dict[tuple[str, str], np.ndarray] = {}
        self._rows = [(row[name], self._positions[name]) for name in symbols]
        self._before = tuple(self.before[name] for name in self.names)

    @functools.cached_property
    def owners(self) -> dict[str, list[RecordedObject]]:
        """By candidate, the objects that it alone takes out."""
        return owned(self.space, self.recorded)

    @functools.cached_property
    def hosts(self) -> dict[str, list[int]]:
        """By candidate, the objects of others whose sources mention it."""
        own = {name: {one.path for one in found} for name, found in self.owners.items()}
        found: dict[str, list[int]] = {one.name: [] for one in self.space.candidates}
        for number, one in enumerate(self.recorded.objects):
            for name in one.mentions:
                if name in found and one.path not in own[name]:
                    found[name].append(number)
        return found

    @functools.cached_property
    def reaches(self) -> dict[str, str]:
        """By choice how far it reaches: "none" when no object is compiled for it (how the image is
        packed, say), "few" or "many" (at least half of them), "flags" when each is compiled in
        another way."""
        found = {}
        for one in self.space.candidates:
            if one.kind != "choice":
                continue
            values = self.look({one.name: one.alternatives[0]})[1]
            changed = {
                name
                for name, before, after in zip(self.names, self._before, values, strict=True)
                if before != after
            }
            share = self.compiled(self._before, values) / len(self.recorded.objects)
            reach = "many" if share >= 0.5 else "few" if share else "none"
            found[one.name] = "flags" if changed & set(self.recorded.flags) else reach
        return found

    @functools.cached_property
    def effects(self) -> dict[str, list[tuple[float | None, ...]]]:
        """By reach, what the alternatives of each measured choice did, in their order; choices that
        this space does not have are left out."""
        found: dict[str, list[tuple[float | None, ...]]] = {}
        for one in self.alternatives:
            if one.choice in self.reaches:
                found.setdefault(self.reaches[one.choice], []).append(tuple(one.effects.values()))
        return found

    def own_effects(self, candidate: Candidate) -> Mapping[str, float | None]:
        """What was measured of just this choice, by alternative, in the study that tried most of
        it; nothing where it never was."""
        studies = [one.effects for one in self.alternatives if one.choice == candidate.name]
        return max(studies, key=len, default={})

    @property
    def traces(self) -> Traces:
        """The traced baseline, for the product's own prior."""
        return recording.traces(self.recorded)

    def look(self, params: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
        """The candidates' values, and the recorded symbols', when that is asked of Kconfig."""
        effective = self.space.effective(params)
        values = self.space.tree.values(self.space.assignment(params), self.names)
        return effective, tuple(values[name] for name in self.names)

    def gone(self, values: Sequence[str]) -> np.ndarray:
        """Which objects are not in the image, a bool each."""
        off = [
            row for row, position in self._rows if self._before[position] == "y" != values[position]
        ]
        return self._options[off].any(axis=0)

    def gone_by(self, change: tuple[str, str]) -> np.ndarray:
        """Which objects a single change takes out of the baseline's image."""
        if change not in self._gone:
            self._gone[change] = self.gone(self.look(dict([change]))[1])
        return self._gone[change]

    def compiled(self, before: Sequence[str], after: Sequence[str]) -> int:
        """Objects that kbuild compiles when a tree goes from one configuration to another."""
        changed = [row for row, position in self._rows if before[position] != after[position]]
        there = ~self.gone(after)
        again = self._mentions[changed].any(axis=0) | self.gone(before)
        return int((there & again).sum())

    def lost(self, values: Sequence[str]) -> list[str]:
        """Symbols of the study's keep-list that are not what they were."""
        return [
            name for name in self.space.keep if values[self._positions[name]] != self.before[name]
        ]


class Landscape:
    """One landscape with one seed. Evaluating changes nothing but the simulated build tree.

    Args:
        ground: the recording and its tree.
        spec: what is drawn.
        seed: of what is drawn.
    """

    def __init__(self, ground: Ground, spec: Spec, seed: int) -> None:
        self.ground = ground
        self.spec = spec
        self.seed = seed
        # Each thing is drawn by its own generator, so that one more draw here moves nothing there.
        self._effects = self._draw_alternatives(self._random("alternatives"))
        self._sizes = self._draw_sizes(self._random("sizes"))
        self._inside = self._draw_inside(self._random("inside"))
        self._shares, self._extras = self._draw_values(self._random("values"))
        self._steps = self._draw_steps(self._random("steps"))
        self.needs = tuple(self._draw_needs(self._random("needs")))
        self._total = float(self._sizes.sum())
        self._start_steps = self._tables(ground.start)

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.spec.name

    # --- the truth, for the oracle

    def inside_saves(self, name: str) -> bool:
        """Whether an option's code inside others' objects saves, or is nothing, when it is off."""
        return sum(size for _host, size in self._inside.get(name, ())) >= 0

    def worth(self, name: str, value: str) -> float:
        """What a value saves by itself: above 0, or below it where it costs."""
        return self._shares.get((name, value), 0.0) + self._extras.get((name, value), 0.0)

    # --- evaluating

    def judge(self, params: Mapping[str, str]) -> Verdict:
        """What becomes of a variant."""
        effective, values = self.ground.look(params)
        gone = self.ground.gone(values)
        remain = self._total - float(self._sizes[gone].sum())
        digest = hashlib.sha256(
            "\0".join((*values, *(effective[name] for name in sorted(effective)))).encode()
        ).hexdigest()
        violated = tuple(one for one in self.needs if one.violated(effective))
        breaks = {what for one in violated for what in one.breaks}
        if self.ground.lost(values):
            outcome = Outcome.CONFIG_REFUSED
        elif BUILD in breaks:
            outcome = Outcome.BUILD_FAILED
        elif BOOT in breaks:
            outcome = Outcome.BOOT_FAILED
        else:
            outcome = Outcome.SMOKE_FAILED if breaks else Outcome.PASSED
        saved, code = self._saved(effective, gone, remain)
        total = self.ground.recorded.baseline_kb + math.floor(saved / 1024 / PAGE_KB) * PAGE_KB
        return Verdict(effective, digest, outcome, violated, total, int(code * 0.52), values)

    def _saved(
        self, effective: Mapping[str, str], gone: np.ndarray, remain: float
    ) -> tuple[float, float]:
        """Bytes saved in all, and bytes of code and data that remain."""
        saved = self._total - remain
        start = self.ground.start
        for name, parts in self._inside.items():
            if effective[name] == "n" != start[name]:
                saved += sum(size for host, size in parts if not gone[host])
        code = self._total - saved
        share = sum(
            self._shares.get((name, value), 0.0)
            for name, value in effective.items()
            if value != start[name]
        )
        saved += share * code
        code -= share * code
        extras = sum(
            self._extras.get((name, value), 0.0)
            for name, value in effective.items()
            if value != start[name]
        )
        return saved + extras + self._start_steps - self._tables(effective), code

    def _tables(self, effective: Mapping[str, str]) -> float:
        """Bytes of what integers size; one whose prompt is gone sizes nothing."""
        total = 0.0
        for name, (unit, power) in self._steps.items():
            value = effective.get(name, "")
            if value.isdecimal():
                total += unit * (2 ** int(value) if power else int(value))
        return total

    def trial(
        self,
        number: int,
        sampler: str,
        params: Mapping[str, str],
        verdict: Verdict,
        before: Sequence[str] | None = None,
    ) -> Trial:
        """The verdict as the product's own record, as if the variant had been built and booted.

        Args:
            number: the trial's.
            sampler: its name.
            params: what was asked.
            verdict: what came of it; not a refused or repeated one.
            before: values of the configuration that the build tree held; None for an empty tree.
        """
        ok = verdict.outcome is not Outcome.BUILD_FAILED
        if before is None:
            objects = int((~self.ground.gone(verdict.values)).sum())
        else:
            objects = self.ground.compiled(before, verdict.values)
        seconds = objects / OBJECTS_PER_SECOND
        build = BuildResult(
            ok=ok,
            seconds=seconds,
            objects=objects,
            log=Path("build.log"),
            config_text="",
            image=Path("zImage") if ok else None,
            image_bytes=verdict.image_bytes if ok else 0,
            errors=() if ok else ("undefined reference",),
        )
        boot = self._boot(verdict) if ok else None
        measurement = None
        if boot is not None and boot.state is BootState.READY:
            # What is available is what MemTotal is without what the running system uses.
            figures = {
                "MemTotal": verdict.mem_total_kb,
                "MemAvailable": verdict.mem_total_kb - 2816,
            }
            measurement = Measurement(figures["MemTotal"], figures["MemAvailable"], figures, "")
        reason = "" if boot is None else boot.detail
        return Trial(
            number=number,
            outcome=verdict.outcome,
            sampler=sampler,
            params=dict(params),
            assignment=self.ground.space.assignment(params),
            effective=verdict.effective,
            resolved=ResolvedConfig(verdict.digest, "", ""),
            objective=float(verdict.mem_total_kb) if verdict.passed else None,
            build=build,
            boot=boot,
            measurement=measurement,
            reason=reason if ok else "undefined reference",
            seconds=OVERHEAD_SECONDS + seconds,
        )

    def _boot(self, verdict: Verdict) -> BootResult:
        boot_breaks = [one for one in verdict.violated if BOOT in one.breaks]
        if boot_breaks:
            state = BootState.PANIC if boot_breaks[0].fatal else BootState.HANG
            return BootResult(state, 1.0, Path("console.log"), detail=state.value)
        recorded = self.ground.recorded
        results = []
        lost = ""
        for check in recorded.checks:
            broken = [one for one in verdict.violated if check in one.breaks]
            if check in recorded.restarts:
                # All of them are one restart, whichever suite asks for it.
                again = set(recorded.restarts)
                broken = [one for one in verdict.violated if not one.breaks.isdisjoint(again)]
            detail = ""
            if check == NO_OOPS:
                detail = "Oops: 817 [#1] ARM" if broken else ""
            elif lost:
                detail = f"not run: {lost}"
            elif broken and check in recorded.restarts:
                detail = "'reboot -f' did not end the machine within 30 s"
                lost = f"no restart: {detail}"
            elif broken:
                detail = "expected /^same$/, exit status 1, got nothing"
                if any(one.fatal for one in broken):
                    lost = "the console no longer answers"
            suite, _slash, name = check.partition("/")
            results.append(CheckResult(suite, name, not detail, 0.1, detail))
        detail = next(
            (f"{one.suite}/{one.name}: {one.detail}" for one in results if not one.passed), ""
        )
        return BootResult(
            BootState.READY, 1.0, Path("console.log"), 10.0, detail, checks=tuple(results)
        )

    # --- drawing

    def _random(self, what: str) -> random.Random:
        return random.Random(f"{self.spec.name}/{self.seed}/{what}")

    def _draw_sizes(self, source: random.Random) -> np.ndarray:
        """What each object's going really saves: its size, give or take."""
        spread = self.spec.spread
        factors = [
            source.lognormvariate(-spread * spread / 2, spread)
            for _ in self.ground.recorded.objects
        ]
        return self.ground.sizes * np.array(factors)

    def _draw_inside(self, source: random.Random) -> dict[str, list[tuple[int, float]]]:
        """By option, what of it is in which of other options' objects.

        Nothing for options that no object mentions. Of the others some save nothing, a few cost,
        and the rest is drawn from a logarithmic normal distribution whose mean is the real trials'.
        """
        mean = self.ground.recorded.savings["mentioned_bytes"]
        zero, costs, spread = 0.35, 0.03, 1.4
        found: dict[str, list[tuple[int, float]]] = {}
        for candidate in self._options():
            luck, size = source.random(), source.lognormvariate(-spread * spread / 2, spread)
            hosts = self.ground.hosts[candidate.name]
            chosen = source.sample(hosts, min(len(hosts), source.randint(1, 80)))
            if not chosen or luck < zero:
                continue
            whole = mean / (1 - zero - costs) * size
            if luck > 1 - costs:
                whole = -source.uniform(1024, 12288)
            sizes = [float(self._sizes[host]) + 1.0 for host in chosen]
            found[candidate.name] = [
                (host, max(-0.3, min(0.3, whole / sum(sizes))) * size)
                for host, size in zip(chosen, sizes, strict=True)
            ]
        # An object cannot hold more of others' code than it has.
        held = np.zeros(len(self._sizes))
        for parts in found.values():
            for host, part in parts:
                held[host] += max(part, 0.0)
        room = np.minimum(1.0, 0.6 * self._sizes / np.maximum(held, 1e-9))
        return {
            name: [(host, part * float(room[host])) for host, part in parts]
            for name, parts in found.items()
        }

    def _draw_values(
        self, source: random.Random
    ) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
        """Of choices and of what is turned on: shares of all code, and bytes, saved (or cost)."""
        shares: dict[tuple[str, str], float] = {}
        extras: dict[tuple[str, str], float] = {}
        whole = self.ground.recorded.savings["all_code_share"]
        flags = set(self.ground.recorded.flags)
        for candidate in self.ground.space.candidates:
            if candidate.kind == "int":
                continue
            for place, value in enumerate(candidate.alternatives):
                change = (candidate.name, value)
                # A choice's hinted values come first; the others of it are as good as any.
                hinted = candidate.hinted and not (candidate.kind == "choice" and place)
                flagged = not flags.isdisjoint({*candidate.name.split("|"), value})
                luck = source.random()
                if change in self._effects:
                    # The objects that go with it are part of what was measured.
                    gone = float(self._sizes[self.ground.gone_by(change)].sum())
                    extras[change] = (self._effects[change] or 0.0) * 1024 - gone
                elif candidate.kind == "bool" and candidate.baseline == "y":
                    if flagged and luck < 0.5:
                        shares[change] = source.uniform(0.0, 0.01)
                elif candidate.kind == "parameter":
                    extras[change] = source.uniform(4, 48) * 1024 if luck < 0.6 else 0.0
                elif "CC_OPTIMIZE_FOR_SIZE" in change:
                    shares[change] = whole * source.uniform(0.6, 1.1)
                elif flagged:
                    shares[change] = source.uniform(-0.02, 0.01)
                elif hinted:
                    saves = luck < 0.8
                    extras[change] = (
                        source.uniform(8, 120) if saves else -source.uniform(4, 60)
                    ) * 1024
                elif luck < 0.3:
                    extras[change] = -source.uniform(1, 60) * 1024
                elif luck < 0.4:
                    extras[change] = min(source.expovariate(1 / 8), 40.0) * 1024
        return shares, extras

    def _draw_alternatives(self, source: random.Random) -> dict[tuple[str, str], float | None]:
        """Of choices of which the study expects nothing: kB saved, None for what breaks something.

        Each gets all that was measured of one choice that reaches as far; where it has more
        alternatives, the rest do nothing. Where no object is compiled for it, nothing is to be had,
        and nothing breaks. Where the landscape is the measured one, a choice that was tried gets
        what was measured of itself.
        """
        found: dict[tuple[str, str], float | None] = {}
        for candidate in self.ground.space.candidates:
            if candidate.kind != "choice" or candidate.hinted:
                continue
            reach = self.ground.reaches[candidate.name]
            drawn = source.choice(self.ground.effects.get(reach, [()])) if reach != "none" else ()
            effects = dict(zip(candidate.alternatives, drawn, strict=False))
            if self.spec.needs is None:
                effects = self.ground.own_effects(candidate) or effects
            for value in candidate.alternatives:
                found[candidate.name, value] = effects.get(value, 0.0)
        return found

    def _draw_steps(self, source: random.Random) -> dict[str, tuple[float, bool]]:
        """By integer, the bytes of its unit, and whether it counts powers of two."""
        found = {}
        for candidate in self.ground.space.candidates:
            if candidate.kind == "int":
                larger = 2.0 ** source.randint(0, self.spec.largest_power)
                power = candidate.name in POWERS
                unit = POWERS.get(candidate.name, COUNTS.get(candidate.name, 64.0))
                found[candidate.name] = (unit * larger, power)
        return found

    def _options(self) -> list[Candidate]:
        return [
            one
            for one in self.ground.space.candidates
            if one.kind == "bool" and one.baseline == "y"
        ]

    def _draw_needs(self, source: random.Random) -> list[Need]:
        # Drawn by itself: one more that was measured moves no other need.
        checks = self._random("broken")
        broken = [
            Need(frozenset(), self._breaks(checks, change[0]), value=change)
            for change, effect in self._effects.items()
            if effect is None
        ]
        if self.spec.needs is None:
            return broken + [
                Need(frozenset({one.option}), frozenset(one.checks))
                for one in self.ground.recorded.needs
                if one.option in self.ground.start
            ]
        ran, silent = self._by_stage()
        wrong = round(self.spec.needs * self.spec.misleading)
        singles = _weighted(source, ran, self.spec.needs - wrong) + source.sample(silent, wrong)
        found = [
            Need(frozenset({name}), self._breaks(source, name), fatal=source.random() < 0.15)
            for name in singles
        ]
        free = [one for one in self._options() if one.name not in singles]
        for _number in range(self.spec.pairs):
            first = source.choice(free)
            free.remove(first)
            below = {name for name, _value in first.drops}
            others = [
                one
                for one in free
                if one.name not in below and first.name not in {name for name, _ in one.drops}
            ]
            near = [one for one in others if one.menu == first.menu]
            second = source.choice(near if near and source.random() < 0.5 else others)
            free.remove(second)
            found.append(
                Need(
                    frozenset({first.name, second.name}),
                    self._breaks(source, source.choice((first.name, second.name))),
                )
            )
        # What nothing else takes along: else hardly any variant of a random search would compile.
        below = {name for one in self._options() for name, _value in one.drops}
        alone = [one for one in free if one.name not in below]
        found += [
            Need(frozenset({one.name}), frozenset({BUILD}))
            for one in source.sample(alone, self.spec.build_breaks)
        ]
        return found + broken + self._draw_bad_values(source)

    def _draw_bad_values(self, source: random.Random) -> list[Need]:
        """Values of integers, and of choices of which the study expects something, that break
        something."""
        found = []
        for candidate in self.ground.space.candidates:
            if candidate.kind == "bool" and candidate.baseline == "y":
                continue
            if candidate.kind == "choice" and not candidate.hinted:
                continue
            values = (
                candidate.alternatives[:1] if candidate.kind == "int" else (candidate.alternatives)
            )
            for value in values:
                if source.random() < 0.15:
                    what = source.choice((BOOT, *self.ground.recorded.checks))
                    found.append(
                        Need(frozenset(), frozenset({what}), value=(candidate.name, value))
                    )
        return found

    def _by_stage(self) -> tuple[dict[str, float], list[str]]:
        """Options whose code ran, by how likely they are drawn, and those whose code did not."""
        ran: dict[str, float] = {}
        silent = []
        for candidate in self._options():
            counts = stages(self.ground.owners[candidate.name])
            del counts[NEVER]
            if sum(counts.values()):
                ran[candidate.name] = 3.0 if set(counts) - {BOOT} else 1.0
            else:
                silent.append(candidate.name)
        return ran, silent

    def _breaks(self, source: random.Random, name: str) -> frozenset[str]:
        """What fails without an option: a check that runs its code, the boot, or just any check.

        The later checks of the suite often fail with the first.
        """
        checks = self.ground.recorded.checks
        counts = stages(self.ground.owners[name])
        users = [one for one in checks if counts[one]]
        if users:
            check = source.choices(users, [counts[one] for one in users])[0]
        elif source.random() < 0.5:
            return frozenset({BOOT})
        else:
            check = source.choice(checks)
        suite = check.partition("/")[0]
        later = [
            one
            for one in checks[checks.index(check) + 1 :]
            if one.startswith(f"{suite}/") and one not in self.ground.recorded.restarts
        ]
        also = later if source.random() < 0.5 else []
        return frozenset({check, *also})


def _weighted(source: random.Random, weights: Mapping[str, float], count: int) -> list[str]:
    """So many different names, drawn by weight."""
    left = dict(weights)
    found = []
    for _number in range(min(count, len(left))):
        name = source.choices(list(left), list(left.values()))[0]
        found.append(name)
        del left[name]
    return found


def symbols_of(needs: Iterable[Need]) -> Collection[str]:
    """Every option that some need names."""
    return {name for one in needs for name in one.options}
