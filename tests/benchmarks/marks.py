"""Section attributes put into C source: text in, text out.

No parser: what is at the outer level of a file begins at a line's start, as the kernel's coding
style has it, and what the preprocessor would make of a macro is not known. What does not look like
a plain definition is not marked, and why is said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NO_CODE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b")
_INIT_H = re.compile(r"^[ \t]*#[ \t]*include[ \t]*<linux/init\.h>", re.MULTILINE)
_HEAD = re.compile(r"[A-Za-z_][\w\s*]*\Z")
_WORDS = re.compile(r"[\w\s]*\Z")
# Has its own section, or may not have the one of .init.
_PLACED = re.compile(
    r"\b(?:__init|__initdata|__initconst|__exit|__exitdata|__ref|__refdata|__meminit|__cpuinit"
    r"|__section|section|__read_mostly|__ro_after_init|__always_inline|__weak)\b"
)
_TAG = re.compile(r"\b(?:struct|union|enum)\s*\Z")


class Unmarkable(Exception):  # noqa: N818 - an answer, not an error
    """A definition that cannot be marked; the message says why."""


@dataclass(frozen=True)
class _Place:
    """Where an attribute goes: before the character at ``offset``."""

    offset: int
    text: str


def marked(text: str, name: str, *, function: bool) -> tuple[str, str]:
    """Mark a definition for .init.

    Args:
        text: a C file.
        name: of a function or a variable at its outer level.
        function: which of the two it is.

    Returns:
        The file with the attribute, and the attribute: ``__init``, ``__initdata``, or
        ``__initconst`` where the source calls the variable itself const.

    Raises:
        Unmarkable: no definition is found, or it has a section of its own.
    """
    code = _blanked(text)
    find = _function if function else _variable
    places = []
    seen = False
    for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", code):
        seen = True
        place = find(code, match.start(), match.end())
        if place is not None:
            places.append(place)
    if not seen:
        raise Unmarkable("its file does not name it")
    if not places:
        raise Unmarkable("no plain definition: a macro may make it")
    for place in reversed(places):
        text = text[: place.offset] + place.text + text[place.offset :]
    return text, places[0].text.strip()


def including_init(text: str) -> str:
    """A C file that includes <linux/init.h>, as it was where it does already."""
    if _INIT_H.search(text):
        return text
    offset = depth = 0
    line = "#include <linux/init.h>\n"
    commented = _NO_CODE.sub(_spaces, text)
    for one in commented.splitlines(keepends=True):
        directive = one.split("#", 1)[1].strip() if one.lstrip().startswith("#") else ""
        if depth == 0 and _INCLUDE.match(one):
            return text[:offset] + line + text[offset:]
        if directive.startswith("if"):
            depth += 1
        elif directive.startswith("endif"):
            depth -= 1
        offset += len(one)
    return line + text


def _spaces(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _blanked(text: str) -> str:
    """The text without comments, literals and directives, each character where it was.

    A directive ends what is before it, as a semicolon would.
    """
    code = _NO_CODE.sub(_spaces, text)

    def ended(match: re.Match[str]) -> str:
        return ";" + _spaces(match)[1:]

    return _DIRECTIVE.sub(ended, code)


def _head(code: str, start: int) -> str | None:
    """What is before a name in its declaration; None when that is not at the outer level."""
    begin = max(code.rfind(one, 0, start) for one in ";{}") + 1
    while begin < start and code[begin].isspace():
        begin += 1
    if begin == start or (begin and code[begin - 1] != "\n"):
        return None
    return code[begin:start]


def _function(code: str, start: int, end: int) -> _Place | None:
    head = _head(code, start)
    if head is None:
        return None
    opening = _skip_spaces(code, end)
    closing = _balanced(code, opening, "()")
    if closing is None:
        return None
    body = code.find("{", closing)
    between = code[closing:body] if body >= 0 else ";"
    plain = _without_calls(head)
    if not _HEAD.match(plain) or not _WORDS.match(_without_calls(between)):
        return None
    _free(head + " " + between)
    return _Place(start, "__init ")


def _variable(code: str, start: int, end: int) -> _Place | None:
    head = _head(code, start)
    if head is None:
        return None
    inner = re.search(r"\(\s*(\*[\s*]*(?:const\s*)?)\Z", head)
    if inner is not None:
        # A pointer to functions: (*name)(arguments), (*name[2])(arguments).
        pointer, head = inner[1], head[: inner.start()]
        closing = _skip_spaces(code, _arrays(code, end))
        if code[closing : closing + 1] != ")":
            return None
        after = _balanced(code, _skip_spaces(code, closing + 1), "()")
        if after is None:
            return None
    else:
        pointer, after = "", _arrays(code, end)
    tail = re.match(r"[^=;,{]*", code[after:])
    assert tail is not None
    plain = _without_calls(head).replace(",", " ")
    if not _HEAD.match(plain) or not _WORDS.match(_without_calls(tail[0])):
        return None
    follows = code[after + tail.end() : after + tail.end() + 1]
    if follows not in ("=", ";", ",") or _TAG.search(head):
        return None
    if re.search(r"\b(?:typedef|return|goto)\b", head):
        return None
    if re.search(r"\bextern\b", head) and follows != "=":
        return None
    _free(head + " " + tail[0])
    qualified = (head + pointer).rsplit("*", 1)[-1]
    mark = "__initconst" if re.search(r"\bconst\b", qualified) else "__initdata"
    return _Place(after, f" {mark}")


def _free(words: str) -> None:
    """
    Raises:
        Unmarkable: the words have a section in them.
    """
    if placed := _PLACED.search(words):
        raise Unmarkable(f"it has {placed[0]}")


def _skip_spaces(code: str, at: int) -> int:
    while at < len(code) and code[at].isspace():
        at += 1
    return at


def _arrays(code: str, at: int) -> int:
    """The place after as many [...] as follow."""
    while (end := _balanced(code, _skip_spaces(code, at), "[]")) is not None:
        at = end
    return at


def _balanced(code: str, at: int, pair: str) -> int | None:
    """The place after what the bracket at ``at`` encloses; None when there is none."""
    if code[at : at + 1] != pair[0]:
        return None
    depth = 0
    for place in range(at, len(code)):
        depth += (code[place] == pair[0]) - (code[place] == pair[1])
        if depth == 0:
            return place + 1
    return None


def _without_calls(words: str) -> str:
    """Words without the arguments of attributes such as __printf(1, 2); an open bracket stays."""
    before = ""
    while words != before:
        before, words = words, re.sub(r"\([^()]*\)", " ", words)
    return words
