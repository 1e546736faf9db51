"""A serial console's bytes -> the text that programs printed, and the lines the kernel printed.

Kernel messages come at any point, in the middle of a program's line too. With time stamps they can
be told from the rest and taken out; what is left reads as if the kernel had been quiet.
"""

from __future__ import annotations

import codecs
import re

from optimizer.board.faults import STAMP

_KERNEL_LINE = re.compile(rf"{STAMP}[^\n]*\n")
# Cursor movements and questions about the terminal, which line editing puts around the prompt.
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What may become a kernel message or an escape sequence when more bytes come.
_UNFINISHED = re.compile(
    r"(?:\x1b(?:\[[0-9;?]*)?|\[ *(?:\d+(?:\.\d{0,6})?)?|\[ *\d+\.\d{6}\][^\n]*)\Z"
)


class Stream:
    """Decodes and separates a console's bytes, whatever the pieces they come in."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.line = ""  # what has come of the line that is not complete yet

    def feed(self, data: bytes, *, last: bool = False) -> tuple[str, str, list[str]]:
        """Take the next bytes.

        Args:
            data: as they came.
            last: nothing will follow, so nothing is held back.

        Returns:
            The text as it came (without carriage returns), the programs' text alone, and the lines
            completed by these bytes, the kernel's among them.
        """
        text = self._decoder.decode(data, final=last).replace("\r", "")
        *lines, self.line = (self.line + text).split("\n")
        if last and self.line:
            lines.append(self.line)
        waiting = _ESCAPE.sub("", _KERNEL_LINE.sub("", self._held + text))
        unfinished = None if last else _UNFINISHED.search(waiting)
        cut = unfinished.start() if unfinished else len(waiting)
        self._held = waiting[cut:]
        return text, waiting[:cut], lines
