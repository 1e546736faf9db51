"""The search space: what may be changed, and what each change asks of Kconfig.

A candidate is an option with the values it may take; the first is the baseline's, then the others,
most promising first. A change of candidates becomes an assignment of symbols, always with the
study's gate on top, because the gate is what makes the rest visible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from optimizer.errors import UserError
from optimizer.kernel.kconfig import Option, SymbolTree
from optimizer.records import Assignment, Refusal
from optimizer.settings import OptionSettings

MOST_INTEGER_VALUES = 9
# How deep options select each other, at most; three were seen.
MOST_SELECTING_ROUNDS = 8

Change = tuple[str, str]


@dataclass(frozen=True)
class Candidate:
    """One thing that may be changed.

    ``name`` is the symbol, or ``A|B|C`` for a choice between them; a choice's values are its
    members' names. A parameter of the kernel's command line is named ``NAME=``, and its baseline
    is what the board gives, '' for nothing. ``hinted`` says that the study expects the change to
    save RAM; where it is False (a choice nobody spoke of) the change may as well cost some. Of a
    choice's alternatives that is said of the first ``hints``.
    ``drops`` are the changes of other candidates that the first change brings along: (name, value);
    ``holders`` those without which something selects the option still.
    """

    name: str
    kind: str  # "bool", "choice", "int" or "parameter"
    baseline: str
    alternatives: tuple[str, ...]
    menu: tuple[str, ...]
    prompt: str
    hinted: bool = True
    drops: frozenset[Change] = frozenset()
    holders: frozenset[Change] = frozenset()
    hints: int = 0

    def promises(self, value: str) -> bool:
        """Whether the study expects just this value to save RAM."""
        if self.kind != "choice" or value not in self.alternatives:
            return self.hinted
        return self.alternatives.index(value) < self.hints

    @property
    def values(self) -> tuple[str, ...]:
        """Every value it may take, the baseline's first."""
        return (self.baseline, *self.alternatives)


@dataclass(frozen=True)
class Space:
    """All candidates, and what was left out with the reason.

    ``params`` everywhere means candidate name -> value; a candidate that is not mentioned has its
    baseline value. ``pinned`` are the candidates that are on only because others select them.
    """

    tree: SymbolTree
    gate: Assignment
    candidates: tuple[Candidate, ...]
    excluded: tuple[Refusal, ...]
    keep: tuple[str, ...]
    _by_name: Mapping[str, Candidate] = field(default_factory=dict)
    pinned: tuple[str, ...] = ()

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name; KeyError when there is none."""
        return self._by_name[name]

    @property
    def baseline(self) -> dict[str, str]:
        """The params that change nothing."""
        return {candidate.name: candidate.baseline for candidate in self.candidates}

    def assignment(self, params: Mapping[str, str]) -> Assignment:
        """What to ask of Kconfig: the gate, every candidate that leaves its baseline value, and of
        those that do not the ones that only others' select has turned on.

        Without the last an option would go with whatever happens to select it: I2C with a display
        driver, although the clock on the bus needs it.
        """
        asked = self._asked(params)
        held = [name for name in self.pinned if asked.values.get(name) == "y"]
        after = self.tree.values(asked, held)
        # One that cannot be on any more (what it depends on is gone) is not asked for.
        lost = {name for name in held if after[name] != "y"}
        values = {name: value for name, value in asked.values.items() if name not in lost}
        return Assignment(values, asked.parameters)

    def _asked(self, params: Mapping[str, str]) -> Assignment:
        asked = dict(self.gate.values)
        asked.update({name: "y" for name in self.pinned if params.get(name, "y") == "y"})
        parameters = {}
        for name, value in params.items():
            candidate = self._by_name.get(name)
            if candidate is None or value == candidate.baseline:
                continue
            if candidate.kind == "parameter":
                parameters[name.removesuffix("=")] = value
            else:
                asked.update({value: "y"} if candidate.kind == "choice" else {name: value})
        return Assignment(asked, parameters)

    def effective(
        self, params: Mapping[str, str], names: Iterable[str] | None = None
    ) -> dict[str, str]:
        """What the candidates' values become when that is asked; Kconfig has the last word.

        Args:
            params: what is asked.
            names: the candidates to look at; all of them unless told. Kconfig works out only what
                these depend on.
        """
        chosen = self.candidates if names is None else [self.candidate(one) for one in names]
        return self._effective(self._asked(params), chosen)

    def effective_of(self, assignment: Assignment) -> dict[str, str]:
        """Each candidate's value by an assignment as it was stored. The empty one is the untouched
        defconfig, the gate not opened."""
        return self._effective(assignment, self.candidates)

    def freeing(self, name: str) -> dict[str, str]:
        """The params that make room for a candidate's first change; {} when nothing is in its way.

        An option that others select stays on until these go. What selects it and is itself no
        candidate is followed up to candidates; where none is found the change is impossible, and
        what was found so far is given.
        """
        params: dict[str, str] = {}
        candidate = self._by_name[name]
        if candidate.kind != "bool" or candidate.baseline != "y":
            return params
        for _round in range(MOST_SELECTING_ROUNDS):
            assignment = self._asked({**params, name: "n"})
            if self.tree.values(assignment, (name,))[name] == "n":
                break
            found = self._holding_candidates(assignment, name)
            if not found - params.keys():
                break
            params.update(dict.fromkeys(found, "n"))
        return params

    def _holding_candidates(self, assignment: Assignment, name: str) -> set[str]:
        found: set[str] = set()
        seen, ahead = {name}, [name]
        while ahead:
            for holder in self.tree.holders(assignment, ahead.pop()):
                if holder in self._by_name and self._by_name[holder].kind == "bool":
                    found.add(holder)
                elif holder not in seen and self.tree.known(holder):
                    seen.add(holder)
                    ahead.append(holder)
        return found

    def lost(self, params: Mapping[str, str]) -> list[str]:
        """Symbols of the keep-list that those params would change."""
        before = self._kept
        values = self.tree.values(self._asked(params), self.keep)
        return [name for name in self.keep if values[name] != before[name]]

    @cached_property
    def start(self) -> dict[str, str]:
        """Each candidate's value when nothing but the gate is asked."""
        return self.effective({})

    @cached_property
    def _kept(self) -> dict[str, str]:
        # Once: going back and forth between far configurations is what costs time.
        return self.tree.values(self.gate, self.keep)

    def _effective(self, assignment: Assignment, candidates: Iterable[Candidate]) -> dict[str, str]:
        names = [one for candidate in candidates for one in _symbols(candidate)]
        values = self.tree.values(assignment, names)
        return {
            candidate.name: (
                assignment.parameters.get(candidate.name.removesuffix("="), candidate.baseline)
                if candidate.kind == "parameter"
                else _value(candidate, values)
            )
            for candidate in candidates
        }


def build_space(
    tree: SymbolTree,
    settings: OptionSettings,
    on_progress: Callable[[int, int], None] | None = None,
    command_line: str = "",
) -> Space:
    """Find the candidates of a tree whose base configuration is loaded.

    They are: every visible bool and tristate that is built in (of those that something selects at
    present too: that something may be dropped); every visible choice with more than one member to
    choose; the study's ranges of integers; the study's options that may save by being on; and its
    parameters of the kernel's command line.

    Args:
        tree: with its base loaded.
        settings: the study's option lists.
        on_progress: called with (candidates probed, all).
        command_line: the board's, where a parameter may have a value already.

    Raises:
        UserError: the study names a symbol that the tree does not have. Only ``turn_on``, ``gate``,
            ``ranges`` and ``leave`` may name symbols of other versions (the last two none that is
            near one of the tree's): there is nothing to try then, and that is recorded as excluded.
    """
    _check_names(tree, settings)
    settings = settings.model_copy(update={"keep": kept_names(tree, settings)})
    excluded = [
        Refusal(name, "y", "", _unknown(tree, name))
        for name in (*settings.gate, *settings.turn_on, *settings.ranges)
        if not tree.known(name)
    ]
    gate = Assignment({name: "y" for name in settings.gate if tree.known(name)})
    options = {option.name: option for option in tree.options(gate)}
    found = [
        candidate
        for candidate in _candidates(options, settings, excluded)
        if not settings.try_only or _named(candidate, settings.try_only)
    ]
    for name in settings.try_only:
        if not any(_named(candidate, (name,)) for candidate in found):
            excluded.append(
                Refusal(
                    name,
                    "",
                    options[name].value if name in options else "",
                    _no_candidate(options.get(name)),
                )
            )
    found += _parameters(settings, command_line)
    by_name = {one.name: one for one in found}
    pinned = tuple(
        one.name
        for one in found
        if (one.kind, one.baseline) == ("bool", "y")
        and not tree.set_in_base(one.name)
        and tree.holders(gate, one.name)
    )
    space = Space(tree, gate, tuple(found), (), settings.keep, by_name, pinned)
    kept: list[Candidate] = []
    start = space.start
    for number, candidate in enumerate(found, 1):
        if on_progress is not None:
            on_progress(number, len(found))
        if candidate.kind == "parameter":
            kept.append(candidate)
            continue
        change = {candidate.name: candidate.alternatives[0]}
        if lost := space.lost(change):
            excluded.append(
                Refusal(
                    candidate.name,
                    candidate.alternatives[0],
                    candidate.baseline,
                    "would change " + ", ".join(lost) + ", which the study keeps",
                )
            )
            continue
        before = start
        if freeing := space.freeing(candidate.name):
            # What others select goes only after them; what it takes along shows only then.
            before = space.effective(freeing)
        after = space.effective({**freeing, **change})
        drops = {
            (name, value)
            for name, value in after.items()
            if value != before[name] and name != candidate.name
        }
        holders = frozenset(freeing.items())
        kept.append(replace(candidate, drops=frozenset(drops), holders=holders))
    names = {one.name for one in kept}
    kept = [
        replace(
            one,
            drops=frozenset(drop for drop in one.drops if drop[0] in names),
            holders=frozenset(holder for holder in one.holders if holder[0] in names),
        )
        for one in kept
    ]
    return Space(
        tree,
        gate,
        tuple(kept),
        tuple(excluded),
        settings.keep,
        {one.name: one for one in kept},
        tuple(name for name in pinned if name in names),
    )


def kept_names(tree: SymbolTree, settings: OptionSettings) -> tuple[str, ...]:
    """The symbols that the study keeps: its own, and those of its presets that the tree has."""
    presets = (name for preset in settings.presets for name in preset.symbols)
    return tuple(dict.fromkeys((*settings.keep, *(name for name in presets if tree.known(name)))))


def _unknown(tree: SymbolTree, name: str) -> str:
    similar = tree.similar(name)
    more = f" (it has {', '.join(similar)})" if similar else ""
    return f"{tree.tree.name} has no such symbol{more}"


def _check_names(tree: SymbolTree, settings: OptionSettings) -> None:
    for role, names, must_exist in (
        ("keep", settings.keep, True),
        ("leave", settings.leave, False),
        ("try", settings.try_only, True),
        ("ranges", tuple(settings.ranges), False),
    ):
        for name in names:
            if tree.known(name):
                continue
            # What need not exist may be another version's; what is near one that does is misspelt.
            similar = tree.similar(name)
            if must_exist or similar:
                raise UserError(
                    f"options.{role} names {name}, which {tree.tree.name} does not have.",
                    f"Did you mean {' or '.join(similar)}?" if similar else "Remove it.",
                )


def _candidates(
    options: Mapping[str, Option], settings: OptionSettings, excluded: list[Refusal]
) -> Iterable[Candidate]:
    untouched = {*settings.keep, *settings.leave, *settings.gate}
    choices: set[tuple[str, ...]] = set()
    for option in options.values():
        if not option.visible or option.name in untouched:
            continue
        if option.choice:
            if option.choice not in choices and not untouched & set(option.choice):
                choices.add(option.choice)
                if (candidate := _choice(option, options, settings)) is not None:
                    yield candidate
        elif option.name in settings.ranges:
            if (candidate := _integer(option, settings, excluded)) is not None:
                yield candidate
        elif option.type in ("bool", "tristate") and option.value == "y":
            yield Candidate(option.name, "bool", "y", ("n",), option.menu, option.prompt)
        elif option.name in settings.turn_on and option.value == "n":
            yield Candidate(option.name, "bool", "n", ("y",), option.menu, option.prompt)
    for name in (*settings.ranges, *settings.turn_on):
        if name in options and not options[name].visible:
            excluded.append(Refusal(name, "", options[name].value, "not visible"))
        elif name not in options and not any(name in refusal.symbol for refusal in excluded):
            excluded.append(Refusal(name, "", "", "has no prompt"))


def _choice(
    option: Option, options: Mapping[str, Option], settings: OptionSettings
) -> Candidate | None:
    members = [options[name] for name in option.choice if name in options]
    chosen = next((one.name for one in members if one.value == "y"), None)
    others = [one.name for one in members if "y" in one.settable and one.name != chosen]
    if chosen is None or not others:
        return None
    hinted = [name for name in others if name in settings.turn_on]
    rest = [name for name in others if name not in hinted]
    name = "|".join(one.name for one in members if one.settable)
    return Candidate(
        name,
        "choice",
        chosen,
        (*hinted, *rest),
        option.menu,
        option.prompt,
        bool(hinted),
        hints=len(hinted),
    )


def _integer(option: Option, settings: OptionSettings, excluded: list[Refusal]) -> Candidate | None:
    least, most = settings.ranges[option.name]
    if option.legal is not None:
        least, most = max(least, option.legal[0]), min(most, option.legal[1])
    if option.type != "int" or least > most:
        excluded.append(
            Refusal(
                option.name,
                f"{settings.ranges[option.name]}",
                option.value,
                f"no integer in its legal range {option.legal}",
            )
        )
        return None
    steps = min(most - least, MOST_INTEGER_VALUES - 1)
    spread = [least + round(step * (most - least) / max(1, steps)) for step in range(steps + 1)]
    values = tuple(str(value) for value in spread if str(value) != option.value)
    if not values:
        return None
    return Candidate(option.name, "int", option.value, values, option.menu, option.prompt)


def _parameters(settings: OptionSettings, command_line: str) -> Iterable[Candidate]:
    given = dict(word.split("=", 1) for word in command_line.split() if "=" in word)
    for name, values in settings.boot_parameters.items():
        before = given.get(name, "")
        if others := tuple(dict.fromkeys(value for value in values if value != before)):
            yield Candidate(f"{name}=", "parameter", before, others, ("Kernel command line",), name)


def _named(candidate: Candidate, names: Iterable[str]) -> bool:
    return not set(_symbols(candidate)).isdisjoint(names)


def _no_candidate(option: Option | None) -> str:
    if option is None:
        return "has no prompt"
    if not option.visible:
        return "not visible"
    return f"is {option.value} and can take {', '.join(option.settable) or 'nothing else'}"


def _symbols(candidate: Candidate) -> tuple[str, ...]:
    if candidate.kind == "parameter":
        return ()
    return tuple(candidate.name.split("|")) if candidate.kind == "choice" else (candidate.name,)


def _value(candidate: Candidate, values: Mapping[str, str]) -> str:
    if candidate.kind != "choice":
        value = values[candidate.name]
        # A bool that a module-capable tree made 'm' is not in the image; an integer whose prompt
        # went away has no value, and nothing that costs RAM by it.
        return "n" if value == "m" else value
    return next((name for name in _symbols(candidate) if values[name] == "y"), "n")
