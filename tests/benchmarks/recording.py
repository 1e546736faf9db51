"""What was measured of a real baseline, small enough to be kept beside the benchmark.

Read by the landscapes, written by :mod:`benchmarks.record_landscape`.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.kernel.elf import Function
from optimizer.kernel.ownership import ObjectFile
from optimizer.search.prior import Traces

DATA = Path(__file__).parent / "data"
FORMAT = 1
# Stages of a function besides the checks' names.
BOOT, NEVER = "boot", "never"


@dataclass(frozen=True)
class RecordedObject:
    """An object of the baseline.

    ``functions`` counts its functions by what they first ran in: :data:`BOOT`, a check's
    "suite/name" or :data:`NEVER`; ``init`` likewise those that are freed after boot.
    """

    path: str
    bytes: int
    options: tuple[str, ...]
    mentions: tuple[str, ...]
    functions: Mapping[str, int]
    init: Mapping[str, int]


@dataclass(frozen=True)
class RecordedNeed:
    """Checks (or :data:`BOOT`) that fail without an option, and how that is known."""

    option: str
    checks: tuple[str, ...]
    known_by: str


@dataclass(frozen=True)
class Recording:
    """A baseline as measured.

    ``symbols`` are those that any candidate changes and any object mentions; an object's options
    and mentions name no others. ``checks`` are in the study's order, ``restarts`` those of them
    that restart the machine. ``savings`` are the coefficients of the real trials' savings that
    objects do not explain (see :func:`benchmarks.record_landscape.fit`).
    """

    kernel: str
    baseline_kb: int
    checks: tuple[str, ...]
    restarts: tuple[str, ...]
    symbols: tuple[str, ...]
    flags: tuple[str, ...]
    objects: tuple[RecordedObject, ...]
    needs: tuple[RecordedNeed, ...]
    savings: Mapping[str, float]


def write(recording: Recording, path: Path) -> None:
    """Write it, the same bytes for the same content."""
    index = {name: number for number, name in enumerate(recording.symbols)}
    document = {
        "format": FORMAT,
        "kernel": recording.kernel,
        "baseline_kb": recording.baseline_kb,
        "checks": recording.checks,
        "restarts": recording.restarts,
        "symbols": recording.symbols,
        "flags": recording.flags,
        "objects": [
            [one.path, one.bytes, sorted(index[name] for name in one.options), dict(one.functions),
             dict(one.init)]
            for one in recording.objects
        ],
        # By symbol: which objects mention it, a bit each. Headers make neighbours alike.
        "mentions": [
            f"{_mask(name in one.mentions for one in recording.objects):x}"
            for name in recording.symbols
        ],
        "needs": [[one.option, one.checks, one.known_by] for one in recording.needs],
        "savings": dict(recording.savings),
    }  # fmt: skip
    text = json.dumps(document, separators=(",", ":"), sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> Recording:
    """Read what :func:`write` wrote.

    Raises:
        ValueError: another format.
    """
    document: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    if document.get("format") != FORMAT:
        raise ValueError(f"{path} has format {document.get('format')}; make it again.")
    symbols: Sequence[str] = document["symbols"]
    masks = [int(mask, 16) for mask in document["mentions"]]
    objects = []
    for number, (name, size, options, functions, init) in enumerate(document["objects"]):
        mentions = tuple(
            symbol for symbol, mask in zip(symbols, masks, strict=True) if mask >> number & 1
        )
        objects.append(
            RecordedObject(
                name, size, tuple(symbols[one] for one in options), mentions, functions, init
            )
        )
    return Recording(
        kernel=document["kernel"],
        baseline_kb=document["baseline_kb"],
        checks=tuple(document["checks"]),
        restarts=tuple(document["restarts"]),
        symbols=tuple(symbols),
        flags=tuple(document["flags"]),
        objects=tuple(objects),
        needs=tuple(RecordedNeed(one, tuple(by), how) for one, by, how in document["needs"]),
        savings=document["savings"],
    )


def traces(recording: Recording) -> Traces:
    """The recording as the product's own traces, functions under made-up names."""
    ran: dict[str, set[str]] = {stage: set() for stage in (BOOT, *recording.checks)}
    functions: list[Function] = []
    objects = []
    address = itertools.count(0x80008000, 16)
    for number, one in enumerate(recording.objects):
        names = []
        for init, counts in ((False, one.functions), (True, one.init)):
            for stage, count in counts.items():
                for serial in range(count):
                    name = f"{stage}:{'init:' if init else ''}{number}:{serial}"
                    names.append(name)
                    functions.append(Function(next(address), 16, name, init))
                    if stage != NEVER:
                        ran[stage].add(name)
        objects.append(
            ObjectFile(
                one.path,
                frozenset(one.options),
                one.bytes,
                frozenset(names),
                frozenset(one.mentions),
            )
        )
    return Traces(
        tuple(objects),
        tuple(functions),
        {stage: frozenset(names) for stage, names in ran.items()},
        frozenset(recording.flags),
    )


def _mask(bits: Iterable[bool]) -> int:
    return sum(1 << number for number, bit in enumerate(bits) if bit)
