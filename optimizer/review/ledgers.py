"""Ledgers as people compare them: entries of one name together, two trials side by side; and what
of an image is largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizer.records import Ledger, ObjectContents, Part


def by_name(ledger: Ledger, part: Part) -> list[tuple[str, int, tuple[str, ...]]]:
    """(name, bytes, who told) of the entries of a part, the largest first; same names together.

    What is a remainder stays last.
    """
    sums: dict[str, int] = {}
    sources: dict[str, list[str]] = {}
    for entry in ledger.entries:
        if entry.part is part:
            sums[entry.name] = sums.get(entry.name, 0) + entry.bytes
            sources.setdefault(entry.name, []).append(entry.source)
    order = sorted(sums, key=lambda name: (name.startswith("remainder"), -sums[name], name))
    return [(name, sums[name], tuple(filter(None, sources[name]))) for name in order]


@dataclass(frozen=True)
class Difference:
    """What one name has in two ledgers."""

    part: Part
    name: str
    before_bytes: int
    after_bytes: int
    change_bytes: int


def difference(before: Ledger, after: Ledger) -> list[Difference]:
    """Every name that either ledger has, part by part, the greatest change first."""
    found = []
    for part in (Part.RESERVED, Part.FREED, Part.TAKEN, Part.HELD):
        old = {name: size for name, size, _ in by_name(before, part)}
        new = {name: size for name, size, _ in by_name(after, part)}
        rows = [
            Difference(
                part, name, old.get(name, 0), new.get(name, 0), new.get(name, 0) - old.get(name, 0)
            )
            for name in {**old, **new}
        ]
        found += sorted(rows, key=lambda row: (-abs(row.change_bytes), row.name))
    return found


@dataclass(frozen=True)
class LargeSymbol:
    """A function or variable that stays in memory, and the options in whose object it is."""

    name: str
    bytes: int
    kind: str
    object: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class LargeObject:
    """An object of the image, with the bytes that it keeps in memory."""

    path: str
    bytes: int
    options: tuple[str, ...]


@dataclass(frozen=True)
class Largest:
    """What takes most of an image."""

    symbols: tuple[LargeSymbol, ...]
    objects: tuple[LargeObject, ...]


def largest(contents: Sequence[ObjectContents], count: int) -> Largest:
    """The largest symbols and objects.

    Args:
        contents: the image's objects.
        count: how many of each.
    """
    symbols = sorted(
        (
            LargeSymbol(
                symbol.name, symbol.bytes, symbol.kind, one.path, tuple(sorted(one.options))
            )
            for one in contents
            for symbol in one.definitions
            if symbol.kind != "init"
        ),
        key=lambda symbol: (-symbol.bytes, symbol.name),
    )
    objects = sorted(
        (LargeObject(one.path, one.bytes, tuple(sorted(one.options))) for one in contents),
        key=lambda one: (-one.bytes, one.path),
    )
    return Largest(tuple(symbols[:count]), tuple(objects[:count]))
