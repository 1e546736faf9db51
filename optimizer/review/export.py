"""A variant as text for other people's trees: fragment, defconfig, whole .config.

Symbols are written here as in a .config, with their ``CONFIG_`` prefix left out of keys only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

# As scripts/kconfig/confdata.c and merge_config.sh read them.
_SET = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)")
_NOT_SET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set")


def settings_of(config_text: str) -> dict[str, str]:
    """The settings written in a .config, defconfig or fragment: symbol -> value, in their order.

    A value is as written: strings keep their quotes, so ``"y"`` is not the boolean ``y``.
    "is not set" is ``n``. Of several lines for a symbol the last one counts, as for kconfig.
    """
    found: dict[str, str] = {}
    for line in config_text.split("\n"):
        stripped = line.removesuffix("\r")
        if match := _SET.fullmatch(stripped):
            found[match[1]] = match[2]
        elif match := _NOT_SET.fullmatch(stripped):
            found[match[1]] = "n"
    return found


def fragment(base_config: str, config: str, header: Sequence[str] = ()) -> str:
    """What turns one .config into the other with merge_config.sh and ``make olddefconfig``.

    Every symbol that is written in either and differs is listed. Not only those that are set: one
    that the variant merely does not have would otherwise keep the base's value. A number or string
    that is invisible in the variant has no "not set" in kconfig, which ignores that line; but
    merge_config.sh does take the base's value out because of it, which is what is wanted.

    Args:
        base_config: the whole .config that the fragment will be merged into.
        config: the whole .config to arrive at.
        header: lines for a comment at the top.
    """
    base, wanted = settings_of(base_config), settings_of(config)
    # "is not set" and not written at all are two things: a symbol that becomes visible in the
    # variant gets its default unless the fragment says that it is off.
    lines = [_line(name, value) for name, value in wanted.items() if base.get(name) != value]
    lines += [_line(name, "n") for name in base if name not in wanted and base[name] != "n"]
    return with_header("".join(f"{line}\n" for line in lines), header)


def with_header(text: str, header: Sequence[str]) -> str:
    """The text under a comment that kconfig and merge_config.sh read nothing from.

    Args:
        text: a .config, defconfig or fragment.
        header: what to say; an empty one leaves the text as it is.
    """
    # Kconfig takes "# CONFIG_X is not set" for a setting; a line that begins "## " it never does.
    comment = [f"## {line}".rstrip() for entry in header for line in entry.splitlines() or [""]]
    return "".join(f"{line}\n" for line in comment) + text


def provenance(
    study: str, trial: int, tree: str, compiler: str, figures: Mapping[str, str] | None = None
) -> list[str]:
    """Header lines that say where an exported text comes from.

    Args:
        study: its name.
        trial: its number.
        tree: the kernel tree's identity.
        compiler: its version line.
        figures: more lines, title -> text.
    """
    said = {"study": study, "trial": str(trial), "kernel": tree, "compiler": compiler}
    lines = {**said, **(figures or {})}
    return ["Made by memtotal.", *(f"{title}: {text}" for title, text in lines.items())]


def _line(name: str, value: str) -> str:
    return f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}"


def annotated(
    defconfig: str, notes: Mapping[str, str], others: Mapping[str, str], header: Sequence[str] = ()
) -> str:
    """A defconfig in which each line is preceded by what is known of it; Kconfig reads it as
    before.

    Args:
        defconfig: as ``make savedefconfig`` writes it.
        notes: symbol -> what it saves or why it stays.
        others: the same for changes that a defconfig does not show (back at Kconfig's default).
        header: lines for a comment at the top.
    """
    lines: list[str] = []
    for line in defconfig.splitlines():
        match = _SET.fullmatch(line) or _NOT_SET.fullmatch(line)
        if match and (note := notes.get(match[1])):
            lines.append(f"## {' '.join(note.split())}")
        lines.append(line)
    if others:
        lines += ["", "## Changed too, but not written in a defconfig since they follow from it:"]
        lines += [f"## {name}: {' '.join(note.split())}" for name, note in others.items()]
    return with_header("".join(f"{line}\n" for line in lines), header)


def command_line(base: str, parameters: Mapping[str, str]) -> str:
    """A kernel command line with parameters set on top of it.

    Args:
        base: the board's.
        parameters: name -> value; '' for one that has none. One that the base has already gets the
            new value in its place; the others come before ``--``, after which init's arguments are.
    """
    words = base.split()
    kernel, init = words, []
    if "--" in words:
        at = words.index("--")
        kernel, init = words[:at], words[at:]
    for name, value in parameters.items():
        word = f"{name}={value}" if value else name
        known = [index for index, one in enumerate(kernel) if one.split("=")[0] == name]
        if known:
            # The kernel takes the last of several, so that is the one to replace.
            kernel[known[-1]] = word
        else:
            kernel.append(word)
    return " ".join([*kernel, *init])


def command_line_of(kernel_log: str) -> str:
    """The command line that a kernel says it was given; '' when its log does not tell."""
    match = re.search(r"Kernel command line: (.*)", kernel_log)
    return match[1].strip() if match else ""


def file_name(title: str) -> str:
    """A title as part of a file name: lower case, words joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))[:48] or "step"


def patch(
    path: str, before: str, after: str, subject: str, body: str, number: int, count: int
) -> str:
    """A change of one file as ``git format-patch`` writes it: ``git am`` and ``git apply`` take it.

    Args:
        path: of the file in the tree.
        before: its text.
        after: its text with the change.
        subject: the commit message's first line.
        body: its other lines.
        number: of this patch in its series.
        count: of patches in the series.
    """
    lines: list[str] = []
    for line in difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"a/{path}",
        f"b/{path}",
    ):
        lines.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\n"
        f"From: memtotal <memtotal@localhost>\n"
        f"Date: Mon, 17 Sep 2001 00:00:00 +0000\n"
        f"Subject: [PATCH {number}/{count}] {subject}\n\n{body}\n---\n"
        f"diff --git a/{path} b/{path}\n{''.join(lines)}-- \nmemtotal\n\n"
    )
