"""Stretches of physical memory, each with who has it. End addresses are exclusive."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Region:
    """Bytes from ``start`` up to ``end``: what they are for, and who told."""

    start: int
    end: int
    name: str
    source: str = ""

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.end - self.start


class RegionMap:
    """Regions that do not overlap, by address. Who came first keeps what it has."""

    def __init__(self, regions: Iterable[Region] = ()) -> None:
        self._regions: list[Region] = []
        for region in regions:
            self.add(region)

    @property
    def regions(self) -> tuple[Region, ...]:
        """All of them by address."""
        return tuple(self._regions)

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return sum(one.bytes for one in self._regions)

    def add(self, region: Region) -> None:
        """Add what of the region nobody has yet."""
        first = last = self._first_after(region.start)
        start = region.start
        pieces: list[Region] = []
        while last < len(self._regions) and self._regions[last].start < region.end:
            one = self._regions[last]
            if one.start > start:
                pieces.append(replace(region, start=start, end=one.start))
            pieces.append(one)
            start = one.end
            last += 1
        if start < region.end:
            pieces.append(replace(region, start=start))
        self._regions[first:last] = pieces

    def remove(self, start: int, end: int) -> list[Region]:
        """Take everything between two addresses out; returns what was there."""
        first = last = self._first_after(start)
        kept: list[Region] = []
        gone: list[Region] = []
        while last < len(self._regions) and self._regions[last].start < end:
            one = self._regions[last]
            low, high = max(one.start, start), min(one.end, end)
            if low < high:
                gone.append(replace(one, start=low, end=high))
                if one.start < low:
                    kept.append(replace(one, end=low))
                if high < one.end:
                    kept.append(replace(one, start=high))
            else:
                kept.append(one)
            last += 1
        self._regions[first:last] = kept
        return gone

    def _first_after(self, address: int) -> int:
        """The index of the first region that ends after an address."""
        return bisect.bisect_right(self._regions, address, key=lambda one: one.end)

    def replaced(self, parts: Iterable[Region]) -> RegionMap:
        """The same memory with other names where the parts lie inside it."""
        result = RegionMap(self._regions)
        for part in parts:
            for one in result.remove(part.start, part.end):
                result.add(replace(part, start=one.start, end=one.end))
        return result

    def pages(self, page_bytes: int) -> list[tuple[int, int]]:
        """Address ranges of all pages with a byte in a region, joined where they touch."""
        found: list[tuple[int, int]] = []
        for one in self._regions:
            start = one.start // page_bytes * page_bytes
            end = -(-one.end // page_bytes) * page_bytes
            if found and start <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], end))
            else:
                found.append((start, end))
        return found
