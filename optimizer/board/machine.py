"""The seam behind which a board is: an emulator here, a real board elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from optimizer.board.console import Console


@dataclass(frozen=True)
class Ending:
    """How a machine ended by itself; ``clean`` when a restart or power off would end it so."""

    clean: bool
    detail: str = ""


class Machine(Protocol):
    """Something that boots one kernel, any number of times, with flash that keeps its content."""

    @property
    def tftp_folder(self) -> Path:
        """The folder whose files the guest can fetch by TFTP."""
        ...

    def start(self) -> Console:
        """Power on (off first if it is on).

        Raises:
            UserError: what is needed is not installed, or the settings are not usable.
            MachineFault: it could not be started.
        """
        ...

    def ending(self) -> Ending:
        """How it ended; to be asked once its console has ended.

        Raises:
            MachineFault: something from outside ended it.
        """
        ...

    def stop(self) -> None:
        """Power off and leave nothing running; no error when it is off."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
