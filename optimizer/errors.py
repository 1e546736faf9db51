"""The two kinds of failure: what the user can mend, and what the machine did.

Outcomes of a trial (a kernel that does not boot, say) are values, not exceptions;
see :class:`optimizer.records.Outcome`.
"""

from __future__ import annotations


class MemtotalError(Exception):
    """Root of every error this package raises on purpose.

    Args:
        message: one sentence that says what is wrong.
        remedy: what to do about it; empty where the message says it already.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class UserError(MemtotalError):
    """Input, installation or configuration that the user can mend."""


class MachineFault(MemtotalError):  # noqa: N818 - a fault is what it is
    """The machine failed (disk full, a process that cannot start), not the variant."""
