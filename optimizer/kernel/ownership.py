"""Which option brings which object, read from kbuild's own Makefiles and a built tree.

An object is in the image because of a chain of conditions: its own ``obj-$(CONFIG_X) += x.o`` and
those of the folders above it. Any one of them going off takes the object out.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import MachineFault
from optimizer.kernel import elf

_CONDITION = re.compile(r"^(.+?)-(y|m|objs|\$\(CONFIG_(\w+)\)|\$\(subst m,y,\$\(CONFIG_(\w+)\)\))$")
# How fixdep writes down that an object depends on an option.
_MENTION = re.compile(r"\$\(wildcard include/config/(\w+)\)")
# Variables of the top Makefiles that end up in each compiler's command line.
_FLAGS = re.compile(r"(KBUILD_(C|A|CPP)FLAGS|arch|tune|CFLAGS_ABI|CFLAGS_ISA)(-|$)")
_BLOCK = re.compile(r"^ifn?eq\s*\(\$\(CONFIG_(\w+)\),\s*[ym]?\s*\)|^ifdef\s+CONFIG_(\w+)")
_ASSIGNMENT = re.compile(r"^([^\s:+?=#]+(?:\([^)]*\)\S*)?)\s*(?:\+|:)?=\s*(.*)$")


@dataclass(frozen=True)
class ObjectFile:
    """A compiled object: path in the tree, bytes that it keeps in memory, functions it defines.

    ``options`` are the symbols of its chain of conditions, ``mentions`` those that its sources and
    headers mention, a change of which makes kbuild compile it again. ``bytes`` leaves out what is
    freed after boot (.init sections).
    """

    path: str
    options: frozenset[str]
    bytes: int
    functions: frozenset[str]
    mentions: frozenset[str] = frozenset()


def objects(
    tree: Path, output: Path, cross_compile: str, env: Mapping[str, str]
) -> list[ObjectFile]:
    """Every object that the built tree's image was linked from.

    Args:
        tree: the kernel's sources.
        output: a tree in which the image was built.
        cross_compile: prefix of the cross binutils.
        env: environment for nm.

    Raises:
        MachineFault: nm does not run.
    """
    paths = sorted(built(output))
    functions = _functions(output, paths, cross_compile, env)
    rules = Rules(tree)
    return [
        ObjectFile(
            path,
            rules.options(path),
            sum(
                size
                for name, size in elf.section_sizes(output / path).items()
                if not name.startswith((".init", ".exit", ".ARM.ex", "__ksymtab", ".modinfo"))
            ),
            functions.get(path, frozenset()),
            _mentions(output / path),
        )
        for path in paths
    ]


def flag_options(tree: Path, arch: str) -> frozenset[str]:
    """Options that change the compiler's command line for every object: optimization, unwinder.

    kbuild compiles everything again when one of them changes, though no source mentions them.

    Args:
        tree: the kernel's sources.
        arch: the kernel's name of the architecture.
    """
    found: set[str] = set()
    for path in (tree / "Makefile", tree / "arch" / arch / "Makefile"):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            for left, right, block in _statements(text):
                if _FLAGS.match(left):
                    found |= block | set(re.findall(r"CONFIG_(\w+)", f"{left} {right}"))
    return frozenset(found)


class Rules:
    """The conditions in the Makefiles of one tree, each file read once."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._folders: dict[str, dict[str, frozenset[str]]] = {}

    def options(self, path: str) -> frozenset[str]:
        """Every option on the way from the top of the tree to an object."""
        found: set[str] = set()
        part = Path(path)
        goals = {part.name}
        for folder in part.parents:
            # A Makefile may name things in folders below it, so the path is kept as it grows.
            conditions = self._conditions(str(folder))
            for goal in goals:
                found |= conditions.get(goal, frozenset())
            goals = {f"{folder.name}/{goal}" for goal in goals} | {f"{folder.name}/"}
        return frozenset(found)

    def _conditions(self, folder: str) -> dict[str, frozenset[str]]:
        if folder not in self._folders:
            self._folders[folder] = self._read(folder)
        return self._folders[folder]

    def _read(self, folder: str) -> dict[str, frozenset[str]]:
        """goal -> options, for one Makefile, with composite objects resolved to their parts."""
        text = ""
        for name in ("Kbuild", "Makefile"):
            if (path := self._tree / folder / name).is_file():
                text = path.read_text(encoding="utf-8", errors="replace")
                break
        direct: dict[str, frozenset[str]] = {}
        parts: dict[str, list[tuple[str, frozenset[str]]]] = {}
        for left, right, block in _statements(text):
            match = _CONDITION.match(left)
            if match is None:
                continue
            what, symbol = match.group(1), match.group(3) or match.group(4)
            options = block | ({symbol} if symbol else frozenset())
            goals = [word for word in right.split() if word.endswith((".o", "/"))]
            for goal in goals:
                if what in ("obj", "lib", "core", "drivers", "net", "libs"):
                    direct[goal] = _either(direct.get(goal), frozenset(options))
                else:
                    parts.setdefault(f"{what}.o", []).append((goal, frozenset(options)))
        for _depth in range(4):
            for whole, members in parts.items():
                if whole in direct:
                    for goal, options in members:
                        direct.setdefault(goal, direct[whole] | options)
        return direct


def _either(before: frozenset[str] | None, options: frozenset[str]) -> frozenset[str]:
    """Two rules for one goal: only what both ask for takes it out."""
    return options if before is None else before & options


def _statements(text: str) -> Iterator[tuple[str, str, frozenset[str]]]:
    """(left side, right side, options of the conditional blocks around) of each assignment."""
    blocks: list[str] = []
    for raw in text.replace("\\\n", " ").splitlines():
        line = raw.split("#", 1)[0].strip()
        if line.startswith("if"):
            match = _BLOCK.match(line)
            negative = line.startswith("ifneq") and not re.search(r",\s*\)", line)
            positive = match is not None and not negative and not line.startswith("ifndef")
            blocks.append((match.group(1) or match.group(2)) if match and positive else "")
        elif line.startswith("else") and blocks:
            blocks[-1] = ""
        elif line.startswith("endif") and blocks:
            blocks.pop()
        elif match := _ASSIGNMENT.match(line):
            yield match.group(1), match.group(2), frozenset(filter(None, blocks))


def built(output: Path) -> Iterator[str]:
    """Compiled objects of the image; programs of the build itself are left out."""
    for path in output.rglob("*.o"):
        inside = path.relative_to(output)
        if (
            inside.parts[0] in ("scripts", "tools")
            or "boot" in inside.parts
            or len(inside.parts) == 1
        ):
            continue
        # A command file with a source dependency tells a compiled object from a linked one.
        record = path.with_name(f".{path.name}.cmd")
        if record.is_file() and b"source_" in record.read_bytes()[:200_000]:
            yield str(inside)


def _mentions(path: Path) -> frozenset[str]:
    record = path.with_name(f".{path.name}.cmd").read_text(encoding="utf-8", errors="replace")
    return frozenset(_MENTION.findall(record))


def _functions(
    output: Path, paths: Iterable[str], cross_compile: str, env: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    try:
        said = subprocess.run(
            [f"{cross_compile}nm", "-A", "--defined-only", *paths],
            cwd=output,
            env=dict(env),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise MachineFault(
            f"{cross_compile}nm does not run: {error}.", "Run: memtotal doctor"
        ) from error
    found: dict[str, set[str]] = {}
    for line in said.stdout.splitlines():
        path, _colon, rest = line.partition(":")
        words = rest.split()
        if len(words) == 3 and words[1] in "tTwW" and not words[2].startswith("$"):
            found.setdefault(path, set()).add(words[2])
    return {path: frozenset(names) for path, names in found.items()}
