"""A variant as text for other people's trees: fragment, defconfig, whole .config.

Symbols are written here as in a .config, with their ``CONFIG_`` prefix left out of keys only.
"""

from __future__ import annotations

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
