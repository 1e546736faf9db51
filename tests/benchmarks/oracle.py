"""What only the landscape knows: the best there is, and whether a search's end is minimal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from benchmarks.landscape import PAGE_KB, Landscape, Verdict
from optimizer.search.space import Candidate

# Passes over everything that might still be improved; two are enough nearly always.
MOST_PASSES = 4


@dataclass(frozen=True)
class Optimum:
    """The best variant found with knowledge of the truth."""

    params: Mapping[str, str]
    mem_total_kb: int


@dataclass(frozen=True)
class Minimality:
    """What becomes of the best variant's options when each is removed alone, with what falls.

    ``breaks`` fail, ``nothing`` gain no page, ``page`` gain one, ``more`` gain more; ``held`` stay
    on whatever is asked, or take along what the study keeps.
    """

    breaks: tuple[str, ...]
    nothing: tuple[str, ...]
    page: tuple[str, ...]
    more: tuple[str, ...]
    held: tuple[str, ...]

    @property
    def minimal(self) -> bool:
        """1-minimal: nothing alone can go and gain anything."""
        return not self.page and not self.more


def optimum(landscape: Landscape) -> Optimum:
    """The best variant, greedily: everything off that may be off, then improved step by step.

    Not proven to be the best (interactions may hide a better one), so a caller should raise it when
    a search finds more.
    """
    climb = _Climb(landscape)
    pairs = [need.options for need in landscape.needs if len(need.options) == 2]
    keep = {pair: min(pair) for pair in pairs}
    climb.drop_everything(set(keep.values()))
    climb.improve()
    for _pass in range(MOST_PASSES):
        before = climb.best.mem_total_kb
        for pair in pairs:
            other = {**keep, pair: next(iter(pair - {keep[pair]}))}
            if climb.drop_everything(set(other.values())):
                keep = other
        climb.improve()
        climb.unblock()
        if climb.best.mem_total_kb == before:
            break
    return Optimum(climb.params, climb.best.mem_total_kb)


def minimality(landscape: Landscape, params: Mapping[str, str]) -> Minimality:
    """Try every option of a variant that is still on, each alone."""
    best = landscape.judge(params)
    found: dict[str, list[str]] = {
        "breaks": [], "nothing": [], "page": [], "more": [], "held": []
    }  # fmt: skip
    for candidate in landscape.ground.space.candidates:
        if candidate.kind != "bool" or best.effective[candidate.name] != "y":
            continue
        verdict = landscape.judge({**params, candidate.name: "n"})
        gain = verdict.mem_total_kb - best.mem_total_kb
        if verdict.effective[candidate.name] == "y" or landscape.ground.lost(verdict.values):
            kind = "held"
        elif not verdict.passed:
            kind = "breaks"
        elif gain <= 0:
            kind = "nothing"
        else:
            kind = "page" if gain <= PAGE_KB else "more"
        found[kind].append(candidate.name)
    return Minimality(**{kind: tuple(names) for kind, names in found.items()})


class _Climb:
    """A variant on its way up, and what is known to be the best value of each candidate."""

    def __init__(self, landscape: Landscape) -> None:
        self._landscape = landscape
        self._space = landscape.ground.space
        self.params: dict[str, str] = {}
        self.best: Verdict = landscape.judge({})

    def drop_everything(self, keep: Collection[str]) -> bool:
        """All options off but those needed, those to keep of pairs, and what they depend on; go
        there if that is better, and say whether it is."""
        needed = {*keep}.union(
            *(one.options for one in self._landscape.needs if len(one.options) == 1)
        )
        values = {
            name: value
            for name, value in self.params.items()
            if self._space.candidate(name).kind != "bool" or value == "y"
        }
        off = {
            one.name: "n"
            for one in self._space.candidates
            if one.kind == "bool"
            and one.baseline == "y"
            and one.name not in {*needed, *values}
            and not any(name in needed and value == "n" for name, value in one.drops)
            and self._landscape.inside_saves(one.name)
        }
        # What Kconfig makes of it all may still break a need, through selects and choices: what
        # must come back is found by halving, one culprit after another.
        names = sorted(off)
        while not self._works({**values, **off}):
            few, many = 0, len(names)
            while many - few > 1:
                middle = (few + many) // 2
                back = set(names[:middle])
                fits = self._works({**values, **{one: "n" for one in off if one not in back}})
                few, many = (few, middle) if fits else (middle, many)
            if not names:
                return False
            culprit = names[many - 1]
            del off[culprit]
            names.remove(culprit)
        return self._take({**values, **off})

    def improve(self) -> None:
        """Single changes, and swaps of pairs, until none gains anything."""
        for _pass in range(MOST_PASSES):
            before = self.best.mem_total_kb
            for candidate in self._space.candidates:
                for value in self._values(candidate):
                    self._take({**self.params, candidate.name: value})
            if self.best.mem_total_kb == before:
                return

    def unblock(self) -> None:
        """Bring an option back where that makes room for a value that saves more."""
        for candidate in self._space.candidates:
            if candidate.kind not in ("bool", "choice") or candidate.baseline == "y":
                continue
            for value in candidate.alternatives:
                gain = self._landscape.worth(candidate.name, value)
                if gain <= 0 or self._settable(candidate.name, value, self.params):
                    continue
                for name in [one for one, off in self.params.items() if off == "n"]:
                    without = {one: off for one, off in self.params.items() if one != name}
                    if self._settable(candidate.name, value, without):
                        self._take({**without, candidate.name: value})

    def _settable(self, name: str, value: str, params: Mapping[str, str]) -> bool:
        return self._space.effective({**params, name: value})[name] == value

    def _values(self, candidate: Candidate) -> list[str]:
        """Values worth trying: all of the few kinds of which the landscape draws the worth."""
        now = self.params.get(candidate.name, candidate.baseline)
        if candidate.kind == "bool" and candidate.baseline == "y":
            costly = now == "n" and not self._landscape.inside_saves(candidate.name)
            return ["n"] if now == "y" else ["y"] if costly else []
        worth = [
            value
            for value in candidate.alternatives
            if candidate.kind == "int" or self._landscape.worth(candidate.name, value) > 0
        ]
        return [value for value in worth if value != now]

    def _works(self, params: Mapping[str, str]) -> bool:
        return self._landscape.judge(params).passed

    def _take(self, params: Mapping[str, str]) -> bool:
        """Go there if it works and is better; say whether it is."""
        verdict = self._landscape.judge(params)
        better = verdict.passed and verdict.mem_total_kb > self.best.mem_total_kb
        if better:
            self.params, self.best = dict(params), verdict
        return better
