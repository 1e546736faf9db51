"""What two traced boots of the baseline say about every candidate before the first variant.

QEMU logs each piece of guest code the first time it runs. The code's functions belong to objects,
the objects to options. One boot goes to the prompt and ends, the other runs the smoke checks: what
runs in the second only is what the checks use. An option none of whose functions ran can hardly be
needed; what its objects keep in memory is what dropping it saves at most.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optimizer.kernel.elf import Function
from optimizer.kernel.ownership import ObjectFile
from optimizer.search.samplers import Belief
from optimizer.search.space import Candidate, Space

# Probabilities of being needed. Judgement, not measurement: they only set the order in which things
# are tried, and the trials overrule them.
NEEDED_USED_BY_CHECKS = 0.6
NEEDED_BUSY_AT_BOOT = 0.12
NEEDED_RAN_AT_BOOT = 0.04
NEEDED_ONLY_REGISTERED = 0.015
NEEDED_DID_NOT_RUN = 0.003
NEEDED_WITHOUT_OBJECTS = 0.01
# A driver whose device is there runs this share of its functions; one that finds none, fewer.
BUSY_SHARE = 0.2
# Options without objects of their own work inside others' code; a small saving is assumed.
LEAST_SAVING_BYTES = 512.0
# What the study says saves by being on (size optimization, another allocator) changes all objects.
TURNED_ON_SAVING_BYTES = 65536.0
# Integers size tables and buffers: a few pages each, as a rule.
INTEGER_SAVING_BYTES = 8192.0

_ADDRESS = re.compile(rb"^0x([0-9a-f]{8,16}): ", re.M)


def executed(trace: Path, functions: Sequence[Function]) -> set[str]:
    """Names of the functions that ran, from a log of QEMU's ``-d in_asm``.

    Args:
        trace: the log.
        functions: the image's, by address.

    Raises:
        OSError: the log cannot be read.
    """
    starts = [function.address for function in functions]
    found: set[str] = set()
    with trace.open("rb") as stream:
        for line in stream:
            if match := _ADDRESS.match(line):
                address = int(match.group(1), 16)
                index = bisect.bisect_right(starts, address) - 1
                if index >= 0 and address < starts[index] + functions[index].bytes:
                    found.add(functions[index].name)
    return found


@dataclass(frozen=True)
class Traces:
    """What the baseline is made of, and what of it ran.

    ``booted`` are the names of the functions that ran on the way to the prompt and out, ``checked``
    of those that ran in a boot with the smoke checks; ``flags`` the options that change every
    object's compiler command line.
    """

    objects: tuple[ObjectFile, ...]
    functions: tuple[Function, ...]
    booted: frozenset[str]
    checked: frozenset[str]
    flags: frozenset[str] = frozenset()


def beliefs(space: Space, traces: Traces) -> dict[str, Belief]:
    """A belief for every candidate of the space, from the traced baseline."""
    init = {function.name for function in traces.functions if function.init}
    booted, checked = traces.booted - init, traces.checked - init
    built, flags = traces.objects, traces.flags
    symbols = sorted(
        name
        for name in flags.union(*(one.options | one.mentions for one in built))
        if space.tree.known(name)
    )
    before = space.tree.values(space.gate, symbols)
    removed: dict[str, dict[str, ObjectFile]] = {}
    compiled: dict[str, int] = {}
    for candidate in space.candidates:
        change = space.assignment({candidate.name: candidate.alternatives[0]})
        after = space.tree.values(change, symbols)
        changed = {name for name in symbols if before[name] != after[name]}
        off = {name for name in changed if before[name] == "y"}
        gone = {one.path: one for one in built if not off.isdisjoint(one.options)}
        removed[candidate.name] = gone
        compiled[candidate.name] = sum(
            one.path not in gone
            and not (changed.isdisjoint(one.mentions) and changed.isdisjoint(flags))
            for one in built
        )
    return {
        candidate.name: replace(
            _belief(candidate, removed, booted, checked, traces.booted & init),
            objects=compiled[candidate.name],
        )
        for candidate in space.candidates
    }


def _belief(
    candidate: Candidate,
    removed: Mapping[str, Mapping[str, ObjectFile]],
    booted: frozenset[str],
    checked: frozenset[str],
    registered: frozenset[str],
) -> Belief:
    below = {path for name, _value in candidate.drops for path in removed[name]}
    own = [one for path, one in removed[candidate.name].items() if path not in below]
    saving = max(LEAST_SAVING_BYTES, float(sum(one.bytes for one in own)))
    if candidate.kind == "int":
        return Belief(NEEDED_WITHOUT_OBJECTS, INTEGER_SAVING_BYTES)
    if candidate.baseline == "n" or (candidate.kind == "choice" and candidate.hinted):
        return Belief(NEEDED_WITHOUT_OBJECTS, max(saving, TURNED_ON_SAVING_BYTES))
    functions = {name for one in own for name in one.functions}
    if not functions:
        return Belief(NEEDED_WITHOUT_OBJECTS, saving)
    if functions & (checked - booted):
        return Belief(NEEDED_USED_BY_CHECKS, saving)
    if len(functions & booted) >= BUSY_SHARE * len(functions):
        return Belief(NEEDED_BUSY_AT_BOOT, saving)
    if functions & booted:
        return Belief(NEEDED_RAN_AT_BOOT, saving)
    if functions & registered:
        return Belief(NEEDED_ONLY_REGISTERED, saving)
    return Belief(NEEDED_DID_NOT_RUN, saving)
