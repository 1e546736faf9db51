"""What one traced run of the baseline says about every candidate before the first variant.

QEMU logs each piece of guest code when it first runs. The code's functions belong to objects, the
objects to options. The log grows while the machine boots and while each smoke check runs, so it
also says which check first needed the code. An option none of whose functions ran can hardly be
needed; what its objects keep in memory is what dropping it saves at most.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.kernel.elf import Function
from optimizer.kernel.ownership import ObjectFile
from optimizer.search.knowledge import BOOT, Belief
from optimizer.search.space import Candidate, Space

# Probabilities of being needed. Judgement, not measurement: they only set the order in which things
# are tried, and the trials overrule them.
NEEDED_USED_BY_CHECK = 0.5
# An option of which a check ran hardly anything is looked in on, not used: a hook in fork or close.
NEEDED_TOUCHED_BY_CHECK = 0.05
USED_SHARE = 0.05
# It bears the name of the check, or of what the check types: RTC_DRV_DS1307 for clock/rtc,
# MTD_CMDLINE_PARTS for `mount mtd:data`. Code that ran at boot is not seen again.
NEEDED_BY_NAME = 0.3
# In a name or a command, shorter words say nothing.
SHORTEST_WORD = 3
NEEDED_BUSY_AT_BOOT = 0.10
NEEDED_RAN_AT_BOOT = 0.04
NEEDED_ONLY_REGISTERED = 0.015
NEEDED_DID_NOT_RUN = 0.003
NEEDED_WITHOUT_OBJECTS = 0.01
# No object goes and none is compiled again for it: a menu, or a driver of what is not there.
NEEDED_WITHOUT_EFFECT = 0.001
# What ran at boot, if it is needed at all, is needed to boot as often as by one of the checks.
NEEDED_TO_BOOT_SHARE = 0.5
# A driver whose device is there runs this share of its functions; one that finds none, fewer.
BUSY_SHARE = 0.2
# Options without objects of their own work inside others' code. In the reference study's trials
# each that other objects' sources mention saved 8 kB in the mean, by regression; half of it is
# believed, for other kernels. What no object is compiled again for saves nothing.
MENTIONED_SAVING_KB = 4.0
NOTHING_KB = 0.01
# The first of a choice's other alternatives. In three real studies, of five that change how all is
# compiled two saved 26 kB in the mean; of ten for which few objects are compiled again (another
# table, another timer tick) four saved 10 in the mean; of 15 that most objects mention (how often a
# second the timer ticks, where the memory is split) none saved anything.
ALTERNATIVE_FLAG_KB, ALTERNATIVE_FEW_KB, ALTERNATIVE_MANY_KB = 10.0, 4.0, 0.5
MANY = 0.5
# What the study says saves by being on: another allocator, say.
TURNED_ON_SAVING_KB = 64.0
# And when it changes how everything is compiled (for size, without padding): this share of it all.
FLAG_SAVING_SHARE = 0.06
# Integers size tables and buffers: a few pages each, as a rule.
INTEGER_SAVING_KB = 8.0
# Boot parameters likewise; a page or two.
PARAMETER_SAVING_KB = 4.0
PARAMETER_NEEDED = 0.02

_ADDRESS = re.compile(rb"^0x([0-9a-f]{8,16}): ")


def executed(trace: Path, functions: Sequence[Function], start: int, end: int) -> frozenset[str]:
    """Names of the functions that ran, from a part of a log of QEMU's ``-d in_asm``.

    Args:
        trace: the log.
        functions: the image's, by address.
        start: where in the log to begin, in bytes.
        end: where to end.

    Raises:
        OSError: the log cannot be read.
    """
    starts = [function.address for function in functions]
    found: set[str] = set()
    with trace.open("rb") as stream:
        stream.seek(start)
        while stream.tell() < end and (line := stream.readline()):
            if match := _ADDRESS.match(line):
                address = int(match.group(1), 16)
                index = bisect.bisect_right(starts, address) - 1
                if index >= 0 and address < starts[index] + functions[index].bytes:
                    found.add(functions[index].name)
    return frozenset(found)


@dataclass(frozen=True)
class Traces:
    """What the baseline is made of, and what of it ran.

    ``ran`` has, in the order of the run, the names of the functions whose code was first seen at a
    stage: "boot" is the way to the prompt (and anew after a restart), the others are the checks,
    "suite/name". ``flags`` are the options that change every object's compiler command line,
    ``commands`` what is typed for each check.
    """

    objects: tuple[ObjectFile, ...]
    functions: tuple[Function, ...]
    ran: Mapping[str, frozenset[str]]
    flags: frozenset[str] = frozenset()
    commands: Mapping[str, str] = field(default_factory=dict)


def beliefs(space: Space, traces: Traces) -> dict[str, Belief]:
    """A belief for every candidate of the space, from the traced baseline."""
    built, flags = traces.objects, traces.flags
    symbols = sorted(
        name
        for name in flags.union(*(one.options | one.mentions for one in built))
        if space.tree.known(name)
    )
    before = space.tree.values(space.gate, symbols)
    removed: dict[str, dict[str, ObjectFile]] = {}
    compiled: dict[str, int] = {}
    idle: set[str] = set()
    flagged: set[str] = set()
    for candidate in space.candidates:
        if candidate.kind == "parameter":
            removed[candidate.name], compiled[candidate.name] = {}, 0
            continue
        freeing = space.freeing(candidate.name)
        change_values = {**freeing, candidate.name: candidate.alternatives[0]}
        change = space.assignment(change_values)
        without = space.tree.values(space.assignment(freeing), symbols) if freeing else before
        after = space.tree.values(change, symbols)
        changed = {name for name in symbols if without[name] != after[name]}
        if not changed and space.effective(change_values)[candidate.name] != candidate.baseline:
            idle.add(candidate.name)
        if not changed.isdisjoint(flags):
            flagged.add(candidate.name)
        off = {name for name in changed if without[name] == "y"}
        gone = {one.path: one for one in built if not off.isdisjoint(one.options)}
        removed[candidate.name] = gone
        compiled[candidate.name] = sum(
            1 << number
            for number, one in enumerate(built)
            if one.path not in gone
            and not (changed.isdisjoint(one.mentions) and changed.isdisjoint(flags))
        )
    stages = _Stages(traces)
    code_kb = sum(one.bytes for one in built) / 1024.0
    found = {}
    for candidate in space.candidates:
        below = {path for name, _value in candidate.drops for path in removed.get(name, ())}
        own = [one for path, one in removed[candidate.name].items() if path not in below]
        needs, ran = stages.needs(candidate, own, compiled[candidate.name])
        saving, doubt = _saving(candidate, own, candidate.name in idle)
        if candidate.kind == "choice" and not candidate.hinted:
            share = compiled[candidate.name].bit_count() / max(1, len(built))
            saving = doubt = _alternative_kb(share, own, candidate.name in flagged)
        if candidate.name in flagged and _saves_by_being_on(candidate):
            saving, doubt = FLAG_SAVING_SHARE * code_kb, FLAG_SAVING_SHARE * code_kb
        found[candidate.name] = Belief(needs, saving, doubt, compiled[candidate.name], ran)
    return found


def _saves_by_being_on(candidate: Candidate) -> bool:
    """Whether the study expects that something else than an option's absence saves."""
    return candidate.hinted and (candidate.kind == "choice" or candidate.baseline == "n")


def _saving(candidate: Candidate, own: Sequence[ObjectFile], idle: bool) -> tuple[float, float]:
    """(kB expected, standard deviation)."""
    if candidate.kind == "parameter":
        return PARAMETER_SAVING_KB, PARAMETER_SAVING_KB
    if candidate.kind == "int":
        return INTEGER_SAVING_KB, 2 * INTEGER_SAVING_KB
    saving = sum(one.bytes for one in own) / 1024.0
    if not own:
        saving = NOTHING_KB if idle else MENTIONED_SAVING_KB
    if _saves_by_being_on(candidate):
        saving = max(saving, TURNED_ON_SAVING_KB)
        return saving, saving
    # What its objects keep in memory is known; what else goes (tables, calls to it) is not.
    return max(saving, NOTHING_KB), NOTHING_KB if idle else 4.0 + 0.25 * saving


def _alternative_kb(share: float, own: Sequence[ObjectFile], flagged: bool) -> float:
    """kB expected of another alternative of a choice.

    Args:
        share: of all objects, what is compiled again for it, 0 to 1.
        own: objects that go with it.
        flagged: whether everything is compiled in another way for it.
    """
    gone = sum(one.bytes for one in own) / 1024.0
    if flagged:
        return max(ALTERNATIVE_FLAG_KB, gone)
    if not share:
        return max(NOTHING_KB, gone)
    return max(ALTERNATIVE_MANY_KB if share >= MANY else ALTERNATIVE_FEW_KB, gone)


class _Stages:
    """What ran when, seen from an option's own functions."""

    def __init__(self, traces: Traces) -> None:
        init = {function.name for function in traces.functions if function.init}
        self._checks = [stage for stage in traces.ran if stage != BOOT]
        self._titles = {stage: _split(stage) for stage in self._checks}
        self._commands = {stage: _split(traces.commands.get(stage, "")) for stage in self._checks}
        booted = traces.ran.get(BOOT, frozenset())
        self._registered = booted & init
        self._booted = booted - init
        self._ran = {stage: traces.ran[stage] - init for stage in self._checks}

    def needs(
        self, candidate: Candidate, own: Sequence[ObjectFile], compiled: int
    ) -> tuple[dict[str, float], str]:
        """Stage -> probability that the option is needed there; and in words what that is from."""
        if candidate.kind == "parameter":
            return self._spread(PARAMETER_NEEDED), "boot parameter"
        functions = {name for one in own for name in one.functions}
        if not own and not compiled and not candidate.drops:
            return self._spread(NEEDED_WITHOUT_EFFECT), "no code is changed"
        if candidate.baseline == "n" or candidate.kind != "bool" or not functions:
            needs = self._spread(NEEDED_WITHOUT_OBJECTS)
            if candidate.kind == "bool" and candidate.baseline == "y":
                self._add_named(needs, candidate, own)
            return needs, "no code of its own"
        booted = functions & self._booted
        if len(booted) >= BUSY_SHARE * len(functions):
            needs = self._spread(NEEDED_BUSY_AT_BOOT)
        elif booted:
            needs = self._spread(NEEDED_RAN_AT_BOOT)
        elif functions & self._registered:
            needs = self._spread(NEEDED_ONLY_REGISTERED)
        else:
            needs = self._spread(NEEDED_DID_NOT_RUN)
        ran = {stage: functions & self._ran[stage] for stage in self._checks}
        seen = [stage for stage in self._checks if ran[stage]]
        used = [stage for stage in seen if len(ran[stage]) >= USED_SHARE * len(functions)]
        for stage in seen:
            # Used by several checks it is hardly more likely to be needed than used by one.
            needed = NEEDED_USED_BY_CHECK if stage in used else NEEDED_TOUCHED_BY_CHECK
            count = len(used) if stage in used else len(seen)
            needs[stage] = max(needs[stage], 1.0 - (1.0 - needed) ** (1.0 / count))
        if booted:
            self._add_named(needs, candidate, own)
        count = len(booted.union(*ran.values()))
        when = [*([BOOT] if booted else []), *seen]
        if not when:
            return needs, "registered only" if functions & self._registered else "did not run"
        return needs, f"{count} of {len(functions)} functions ran: {', '.join(when)}"

    def _add_named(
        self, needs: dict[str, float], candidate: Candidate, own: Sequence[ObjectFile]
    ) -> None:
        """Make it likelier that an option is needed for the checks that bear its name."""
        name = _split(candidate.name)
        files = name.union(*(_split(one.path) for one in own))
        named = [
            stage
            for stage in self._checks
            if files & self._titles[stage] or name & self._commands[stage]
        ]
        for stage in named:
            needs[stage] = max(needs[stage], 1.0 - (1.0 - NEEDED_BY_NAME) ** (1.0 / len(named)))

    def _spread(self, needed: float) -> dict[str, float]:
        """A probability shared out between the boot and the checks."""
        share = NEEDED_TO_BOOT_SHARE if self._checks else 1.0
        each = needed * (1.0 - share) / max(1, len(self._checks))
        return {BOOT: needed * share} | dict.fromkeys(self._checks, each)


def _split(text: str) -> set[str]:
    """Its words, in small letters."""
    return {one for one in re.split(r"[^a-z0-9]+", text.lower()) if len(one) >= SHORTEST_WORD}
