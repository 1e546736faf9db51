"""Which code and data stays in memory though only code that is freed after boot reaches it.

A function belongs in .init when every use of it is a call, and every caller is freed after boot or
belongs there itself. The greatest set of such functions is what remains when one starts with all of
them and removes, until nothing changes, each that is used otherwise.

A use by address is no call: whoever holds an address may call later. Left out are therefore
functions whose address is taken anywhere but in the tables that only the boot walks (initcalls,
kernel parameters), exported ones, and weak ones.

Of data only single values (8 bytes at most, without an address in them) are looked at: code that is
handed the address of a larger thing may keep it, and neither object nor relocation tells. GCC
reaches values of one section by way of a common anchor, up to 4095 bytes away, so a value counts as
used by every function that names a place so near.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optimizer.records import Definition, ObjectContents, Reference

SMALL_BYTES = 8
# arch/arm/arm.cc, -fsection-anchors: what a load reaches from its base.
ANCHOR_BYTES = 4095
PAGE_BYTES = 4096
# Walked while booting and freed: include/asm-generic/vmlinux.lds.h, INIT_CALLS, INIT_SETUP.
_CALLED_AT_BOOT = (".initcall", ".con_initcall", ".security_initcall", ".init.setup")
# Not .exit, which must not call .init, and not .meminit, which a kernel with memory hotplug keeps.
_FREED = (".init", ".initcall", ".con_initcall", ".security_initcall")
_PLAIN = (".text", ".data", ".bss", ".rodata")
# Sections with rules of their own: entry code, locking, probes, what must not be instrumented.
_SPECIAL = (
    *(".text.unlikely.noinstr", ".noinstr", ".sched", ".spinlock", ".lock", ".kprobes", ".entry"),
    *(
        ".irqentry",
        ".softirqentry",
        ".idmap",
        ".hyp",
        ".cpuidle",
        ".ref",
        ".fixup",
        ".data..percpu",
    ),
    *(".data..read_mostly", ".data..ro_after_init", ".data..page_aligned", ".bss..page_aligned"),
    *(
        ".data..cacheline_aligned",
        ".data..shared_aligned",
        ".data..init_task",
        ".head",
        ".rodata.str",
    ),
    *(".rodata.cst", ".data..once", ".data.unlikely", ".data..percpu..read_mostly"),
)


@dataclass(frozen=True)
class Candidate:
    """A function or value that could be freed after boot.

    ``callers`` are the names of what uses it, ``with_`` those of them that are candidates
    themselves and must move first.
    """

    name: str
    object: str
    kind: str
    bytes: int
    attribute: str
    callers: tuple[str, ...]
    with_: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why, in words."""
        how = "called" if self.kind == "text" else "used"
        users = ", ".join(self.callers[:4]) + (", ..." if len(self.callers) > 4 else "")
        also = f"; with {', '.join(self.with_[:3])}" if self.with_ else ""
        return f"only {how} by {users}{also}"


@dataclass(frozen=True)
class Audit:
    """What was found, the largest first. ``pages`` is how many they would free once grouped."""

    candidates: tuple[Candidate, ...]
    bytes: int
    pages: int


_Key = tuple[str, str, int]  # object, section, offset


class _Image:
    """The image's definitions and who uses them."""

    def __init__(self, objects: Sequence[ObjectContents]) -> None:
        self.definitions: dict[_Key, Definition] = {}
        self.names: dict[_Key, str] = {}
        self._places: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._global: dict[str, _Key] = {}
        self.ambiguous: set[str] = set()
        for one in objects:
            for definition in one.definitions:
                self._define(one.path, definition)
        for places in self._places.values():
            places.sort()
        # user: a definition, or a section when no definition is there
        self.uses: dict[_Key, list[tuple[_Key | str, bool]]] = defaultdict(list)
        self.near: dict[tuple[str, str], list[tuple[int, _Key | str]]] = defaultdict(list)
        # Data that holds addresses: tables of functions and the like, which are handed on.
        self.holding: set[_Key] = set()
        for one in objects:
            for reference in one.references:
                self._use(one.path, reference)

    def _define(self, path: str, one: Definition) -> None:
        key = (path, one.section, one.offset)
        before = self.definitions.get(key)
        if before is not None:
            # Two names of one thing: what is asked of one of them is asked of both.
            self.ambiguous |= {before.name, one.name}
            if before.bytes >= one.bytes:
                if not one.local:
                    self._global.setdefault(one.name, key)
                return
        else:
            self._places[path, one.section].append(one.offset)
        self.definitions[key] = one
        self.names[key] = one.name
        if not one.local:
            other = self._global.get(one.name)
            if other is None or self.definitions[other].weak:
                self._global[one.name] = key

    def at(self, path: str, section: str, offset: int) -> _Key | None:
        """The definition that covers a place."""
        places = self._places.get((path, section), [])
        index = bisect.bisect_right(places, offset) - 1
        if index < 0:
            return None
        key = (path, section, places[index])
        one = self.definitions[key]
        return key if offset < one.offset + max(one.bytes, 1) else None

    def _use(self, path: str, one: Reference) -> None:
        user: _Key | str = self.at(path, one.section, one.place) or one.section
        if not isinstance(user, str):
            self.holding.add(user)
        if one.symbol:
            target = self._global.get(one.symbol)
        else:
            target = self.at(path, one.target, one.offset)
            if not one.call:
                self.near[path, one.target].append((one.offset, user))
        if one.symbol and target is not None and not one.call:
            self.near[target[0], target[1]].append((target[2], user))
        if target is not None and user != target:
            self.uses[target].append((user, one.call))

    def freed(self, user: _Key | str) -> bool:
        """Whether a user is given back after boot."""
        section = user if isinstance(user, str) else user[1]
        return section.startswith(_FREED)

    def label(self, user: _Key | str) -> str:
        """How to call a user."""
        return user if isinstance(user, str) else self.names[user]


def audit(
    objects: Sequence[ObjectContents],
    sources: Mapping[str, str] | None = None,
) -> Audit:
    """What could be freed after boot and is not.

    Args:
        objects: all that the image was linked from.
        sources: the C source of each object, by the object's path. Given, a function that the
            source names more often than the object uses it is left out: the compiler may have
            built it into code that stays, and may call it from there once it is marked.
    """
    image = _Image(objects)
    functions = _functions(image)
    values = _values(image)
    chosen = functions | values
    while True:
        wrong = {key for key in chosen if not _only_from_boot(image, key, chosen)}
        if not wrong:
            break
        chosen -= wrong
    chosen = _reached(image, chosen)
    if sources is not None:
        chosen = _told_apart(image, chosen, sources)
    found = [_candidate(image, key, chosen) for key in chosen]
    found.sort(key=lambda one: (-one.bytes, one.object, one.name))
    size = sum(one.bytes for one in found)
    return Audit(tuple(found), size, size // PAGE_BYTES)


def _functions(image: _Image) -> set[_Key]:
    return {
        key
        for key, one in image.definitions.items()
        if one.function and one.kind == "text" and one.bytes and _ordinary(image, one)
    }


def _values(image: _Image) -> set[_Key]:
    return {
        key
        for key, one in image.definitions.items()
        if not one.function
        and one.kind in ("data", "bss", "rodata")
        and 0 < one.bytes <= SMALL_BYTES
        and key not in image.holding
        and _ordinary(image, one)
    }


def _ordinary(image: _Image, one: Definition) -> bool:
    return (
        not one.weak
        # A compiler's copy (.constprop, .isra, .part) has no line in the source to mark.
        and "." not in one.name
        and one.name not in image.ambiguous
        and one.section.startswith(_PLAIN)
        and not one.section.startswith(_SPECIAL)
    )


def _only_from_boot(image: _Image, key: _Key, chosen: set[_Key]) -> bool:
    one = image.definitions[key]
    if one.function:
        uses = image.uses.get(key, [])
        return bool(uses) and all(
            (image.freed(user) and (call or _table(user))) or (call and user in chosen)
            for user, call in uses
        )
    users = _users_of_value(image, key)
    return bool(users) and all(
        user in chosen or (image.freed(user) and not _data(user)) for user in users
    )


def _table(user: _Key | str) -> bool:
    section = user if isinstance(user, str) else user[1]
    return section.startswith(_CALLED_AT_BOOT)


def _data(user: _Key | str) -> bool:
    """Whether a user is a table in freed data: it may be copied to where it stays."""
    section = user if isinstance(user, str) else user[1]
    return not section.startswith(".init.text")


def _users_of_value(image: _Image, key: _Key) -> list[_Key | str]:
    path, section, offset = key
    return [
        user
        for place, user in image.near.get((path, section), [])
        if abs(place - offset) <= ANCHOR_BYTES
    ]


def _reached(image: _Image, chosen: set[_Key]) -> set[_Key]:
    """Those of the chosen that the boot comes to; the rest only name each other."""
    users = {
        key: [user for user, _call in image.uses.get(key, [])]
        if image.definitions[key].function
        else _users_of_value(image, key)
        for key in chosen
    }
    reached = {key for key in chosen if any(image.freed(user) for user in users[key])}
    while True:
        more = {
            key
            for key in chosen - reached
            if any(not isinstance(user, str) and user in reached for user in users[key])
        }
        if not more:
            return reached
        reached |= more


def _told_apart(image: _Image, chosen: set[_Key], sources: Mapping[str, str]) -> set[_Key]:
    """Without functions that the source names where the object does not call them, and without
    those that only code so left out leads to."""
    while True:
        wrong = {
            key
            for key in chosen
            if not _named_as_used(image, key, sources) or not _only_from_boot(image, key, chosen)
        }
        if not wrong:
            return _reached(image, chosen)
        chosen = chosen - wrong


_NO_CODE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)


def _named_as_used(image: _Image, key: _Key, sources: Mapping[str, str]) -> bool:
    """Whether a source defines the thing, does not export it, and names it no more often than the
    object uses it."""
    one = image.definitions[key]
    source = sources.get(key[0])
    if source is None:
        return False
    text = _NO_CODE.sub(" ", source)
    name = re.escape(one.name)
    if re.search(rf"EXPORT_\w*SYMBOL\w*\s*\(\s*{name}\s*[,)]", text):
        return False
    named = len(re.findall(rf"(?<!\w){name}(?!\w)", text))
    if not one.function:
        return named >= 1
    # What begins at a line's start and ends in a body, and what so begins and ends at once.
    head = rf"^[A-Za-z_][\w\s*()]*?(?<!\w){name}\s*\([^;{{}}]*\)[\w\s()]*"
    defined = len(re.findall(head + r"\{", text, re.MULTILINE))
    declared = len(re.findall(head + r";", text, re.MULTILINE))
    uses = image.uses.get(key, [])
    within = sum(1 for user, _call in uses if isinstance(user, str) or user[0] == key[0])
    return defined == 1 and named - defined - declared <= within


def _candidate(image: _Image, key: _Key, chosen: set[_Key]) -> Candidate:
    one = image.definitions[key]
    users: Iterable[_Key | str] = (
        [user for user, _call in image.uses[key]] if one.function else _users_of_value(image, key)
    )
    known = list(dict.fromkeys(users))
    attribute = "__init"
    if not one.function:
        attribute = "__initconst" if one.kind == "rodata" else "__initdata"
    return Candidate(
        one.name,
        key[0],
        one.kind,
        one.bytes,
        attribute,
        tuple(sorted(image.label(user) for user in known)),
        tuple(
            sorted(
                image.label(user) for user in known if not isinstance(user, str) and user in chosen
            )
        ),
    )
