"""Guests without an emulator: bytes on a socket, a real shell on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from optimizer.board.console import Console
from optimizer.board.machine import Ending

PROMPT = "^# $"


class ScriptedGuest:
    """The far end of a console, spoken by the test."""

    def __init__(self, folder: Path) -> None:
        ours, self.wire = socket.socketpair()
        self.wire.settimeout(10)
        self.transcript = folder / "console.log"
        self.console = Console(ours.detach(), self.transcript, PROMPT)

    def says(self, text: str | bytes) -> None:
        self.wire.sendall(text if isinstance(text, bytes) else text.encode())

    def dies(self) -> None:
        self.wire.close()


class ShellMachine:
    """A Machine whose guest is the host's /bin/sh; `on_start` may write to its terminal."""

    def __init__(
        self,
        folder: Path,
        *,
        ending: Ending | None = None,
        on_start: Callable[[int], None] | None = None,
    ) -> None:
        self.folder = folder
        self.transcript = folder / "console.log"
        self.starts = 0
        self.child: subprocess.Popen[bytes] | None = None
        self._console: Console | None = None
        self._ending = ending or Ending(clean=True)
        self._on_start = on_start or (lambda terminal: None)

    @property
    def tftp_folder(self) -> Path:
        return self.folder

    def start(self) -> Console:
        self.stop()
        self.starts += 1
        master, slave = pty.openpty()
        self._on_start(slave)
        self.child = subprocess.Popen(
            [shutil.which("sh") or "/bin/sh", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"PATH": os.environ["PATH"], "PS1": "# ", "HOME": tempfile.gettempdir()},
            start_new_session=True,
        )
        os.close(slave)
        self._console = Console(master, self.transcript, PROMPT)
        return self._console

    def ending(self) -> Ending:
        return self._ending

    def stop(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None
        if self._console is not None:
            self._console.close()
            self._console = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
