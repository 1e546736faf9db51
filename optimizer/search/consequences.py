"""What Kconfig makes of changes that are asked for on top of the best variant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache

from optimizer.search.knowledge import Knowledge
from optimizer.search.space import Change, Space

# So many of Kconfig's answers are remembered.
REMEMBERED = 500


class Effects:
    """What Kconfig makes of params. From ask to ask a search looks at much the same."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._remembered = lru_cache(REMEMBERED)(self._worked_out)

    def of(
        self, params: Mapping[str, str], names: Iterable[str] | None = None
    ) -> Mapping[str, str]:
        """As :meth:`Space.effective`."""
        return self._remembered(tuple(params.items()), None if names is None else tuple(names))

    def _worked_out(
        self, params: tuple[Change, ...], names: tuple[str, ...] | None
    ) -> Mapping[str, str]:
        return self._space.effective(dict(params), names)


class Consequences:
    """Of changes on top of the best variant by what is known.

    Args:
        space: the search space.
        effects: of params in that space.
        known: what the trials told; its best variant is what changes are made to.
        saving: what a change is expected to save, in kB.

    Attributes:
        base: the best variant's changes that can be asked for.
    """

    def __init__(
        self,
        space: Space,
        effects: Effects,
        known: Knowledge,
        saving: Callable[[Change], float],
    ) -> None:
        self._space = space
        self._effects = effects
        self._known = known
        self._saving = saving
        self._start = space.start
        self.base = {
            # What fell with another option may have no value of its own any more (a choice that is
            # not visible); it cannot be asked for, and follows from the rest.
            name: value
            for name, value in known.best.items()
            if value != self._start[name] and value in space.candidate(name).values
        }
        made = known.changes(known.best)
        self._dropped = [name for name, value in sorted(made) if value == "n"]

    def made(self, batch: Collection[Change]) -> tuple[dict[str, str], set[Change], bool]:
        """The params that ask for the batch on top of the best, the changes that come of it, and
        whether that was tried before.

        What Kconfig would refuse is not asked for.
        """
        asked = self.base | dict(batch)
        effective = self._effects.of(self._space.baseline | asked)
        taken = {name: value for name, value in asked.items() if effective[name] == value}
        made = self._known.changes(effective) - self._known.changes(self._known.best)
        return self._space.baseline | taken, made, self._known.seen(effective)

    def unwanted(
        self, moves: Collection[Change], params: Mapping[str, str], made: Collection[Change]
    ) -> set[Change]:
        """Of moves that were asked for together, those that Kconfig does not make, or that have it
        take back options that save as much: without PARTITION_ADVANCED there is no prompt to drop
        EFI_PARTITION by, and it is on again."""
        found: set[Change] = set()
        for idle in (one for one in moves if one not in made):
            in_its_way: list[Change] = []
            if self.is_made([idle], idle):
                others = (one for one in moves if one != idle)
                in_its_way = [one for one in others if not self.is_made([one, idle], idle)]
            outweighed = sum(map(self._saving, in_its_way)) < self._saving(idle)
            found.update(in_its_way if in_its_way and outweighed else [idle])
        if self._undone(params):
            for move in moves:
                undone = self._undone(self._space.baseline | self.base | dict([move]))
                if undone and sum(map(self._saving, undone)) >= self._saving(move):
                    found.add(move)
        return found

    def is_made(
        self, moves: Iterable[Change], wanted: Change, without: Change | None = None
    ) -> bool:
        """Whether Kconfig makes a change when moves are asked for, all but ``without``."""
        asked = self._space.baseline | self.base | dict(one for one in moves if one != without)
        return self._effects.of(asked, wanted[:1])[wanted[0]] == wanted[1]

    def _undone(self, params: Mapping[str, str]) -> list[Change]:
        """Which options that the best drops are as at the start with those params.

        What was turned on and falls with its parent is another matter: the parent saves more.
        """
        effective = self._effects.of(params, self._dropped)
        return [(name, "n") for name in self._dropped if effective[name] == self._start[name]]
