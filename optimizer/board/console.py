"""The serial console of a guest: waiting for its shell, and commands with their answers.

The only importer of pexpect.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

import pexpect
import pexpect.fdpexpect

from optimizer.board.faults import Finding, Trouble, find
from optimizer.board.stream import Stream
from optimizer.errors import MachineFault
from optimizer.process import Deadline
from optimizer.records import BootState

# How often a wait looks at its deadline and at the request to stop.
_TICK_SECONDS = 0.1
# A shell whose prompt was torn apart by a kernel message prints it again when asked.
_NUDGE_SECONDS = 1.5
# A shell that was interrupted answers at once; one that does not is interrupted again.
_ANSWER_SECONDS = 3.0
# The rest of a panic: registers, backtrace, the restart.
_LAST_WORDS_SECONDS = 2.0
_SETTLE_SECONDS = 0.5
_LAST_WORDS_SILENCE_SECONDS = 0.3
# A guest that never stops talking must fill neither the memory nor the disk.
_FLOOD_BYTES = 8 << 20
_TAIL = 4096
_LINE = 200


class Loss(StrEnum):
    """Why a command has no exit status."""

    TIMEOUT = "timeout"  # no answer within its time
    DEAD = "dead"  # the kernel said that it gives up
    ENDED = "ended"  # the other end of the console is gone


@dataclass(frozen=True)
class Arrival:
    """How a boot ended; ``text`` is all that came, ``detail`` the line of it that tells why."""

    state: BootState
    seconds: float
    text: str
    detail: str = ""


@dataclass(frozen=True)
class Reply:
    """What came back from a command.

    ``output`` is free of kernel messages; ``raw`` has them, and anything that looks like one.
    ``status`` is the exit status, None when there is none: ``loss`` and ``detail`` say why.
    """

    output: str
    raw: str
    seconds: float
    status: int | None = None
    loss: Loss | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the command ended with exit status 0."""
        return self.status == 0


class Console:
    """A console from power on to power off. Not for use by more than one thread at a time.

    Args:
        fd: a file descriptor to read from and write to; the console closes it.
        transcript: file to which all that the guest says is appended.
        prompt: regular expression of the shell's prompt.
        cancel: when set, every wait ends with a MachineFault.

    Raises:
        MachineFault: the transcript cannot be written.
    """

    def __init__(
        self, fd: int, transcript: Path, prompt: str, *, cancel: threading.Event | None = None
    ) -> None:
        try:
            self._log: BinaryIO = transcript.open("ab")
        except OSError as error:
            os.close(fd)
            raise MachineFault(f"{transcript} cannot be written: {error.strerror}.") from error
        os.set_blocking(fd, False)
        self._port = pexpect.fdpexpect.fdspawn(fd, timeout=None, use_poll=True)
        self._prompt = re.compile(rf"(?:{prompt})", re.MULTILINE)
        self._cancel = cancel
        self._stream = Stream()
        self._started = self._last_byte = time.monotonic()
        self._text: list[str] = []
        self._raw: list[str] = []
        self._tail = ""
        self._heard = 0
        self._asked = 0
        self._last_line = ""
        self._findings: list[Finding] = []
        self.ended = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All the trouble that the kernel told of since power on."""
        return tuple(self._findings)

    @property
    def dead(self) -> Finding | None:
        """The message after which nothing can come any more."""
        return next((one for one in self._findings if one.trouble is not Trouble.OOPS), None)

    def close(self) -> None:
        """Let go of the file descriptor and the transcript; may be called more than once."""
        self._port.close()
        self._log.close()

    def wait_for_prompt(self, deadline: Deadline, silence_seconds: float) -> Arrival:
        """Wait for the shell.

        Args:
            deadline: of the whole boot.
            silence_seconds: so long without one byte means that nothing will come.

        Raises:
            MachineFault: it was cancelled.
        """
        nudged = 0.0
        while True:
            if self._prompt.search(self._tail):
                return self._arrival(BootState.READY)
            if self.dead or self.ended:
                self._last_words()
                return self._stopped()
            if self._flooded:
                return self._arrival(BootState.NO_SHELL, "the console is flooded")
            silence = time.monotonic() - max(self._last_byte, self._started)
            if silence >= silence_seconds or deadline.expired:
                self._understand([self._stream.line])  # last words may lack a line's end
                if self.dead:
                    return self._stopped()
                return self._gave_up(silence, silence_seconds)
            if silence - nudged >= _NUDGE_SECONDS:
                nudged = silence
                self._type(b"\n", deadline)
            if self._read(deadline):
                nudged = 0.0

    def run(self, command: str, deadline: Deadline, *, typed: bytes = b"") -> Reply:
        """Have the shell run a command and wait for its answer.

        The shell is told to print a marker before and after. The markers are typed in two quoted
        halves and printed as one word, so their echo is not taken for them.

        Args:
            command: shell text; lines are allowed, tabs become spaces (they would complete names).
            deadline: for the answer.
            typed: what is typed once the command has begun.

        Raises:
            MachineFault: it was cancelled.
        """
        began = time.monotonic()
        self._asked += 1
        self._begin()
        begin, end = f"MT_BEGIN_{self._asked}_", f"MT_END_{self._asked}_"
        text = shlex.quote(command.replace("\t", " "))
        line = f'echo "MT_""BEGIN_{self._asked}_"; eval {text}; echo "MT_""END_{self._asked}_$?"\n'
        finished = re.compile(rf"{end}(\d+)\n")
        self._type(line.encode(), deadline)
        while True:
            if typed and begin in self._tail:
                self._type(typed, deadline)
                typed = b""
            if match := finished.search(self._tail):
                return self._reply(began, begin, end, status=int(match.group(1)))
            if self.dead or self.ended:
                self._last_words()
                loss, detail = Loss.ENDED, "the machine ended"
                if dead := self.dead:
                    loss, detail = Loss.DEAD, dead.line
                return self._reply(began, begin, end, loss=loss, detail=detail[:_LINE])
            if deadline.expired or self._flooded:
                detail = "the console is flooded" if self._flooded else "no answer"
                return self._reply(began, begin, end, loss=Loss.TIMEOUT, detail=detail)
            self._read(deadline)

    def interrupt(self, deadline: Deadline) -> bool:
        """End what the shell is waiting for (Ctrl-C); whether the shell answers again.

        A guest that a busy host kept from running may miss the first one, so it is sent until the
        deadline.

        Raises:
            MachineFault: it was cancelled.
        """
        while not (deadline.expired or self.ended or self.dead):
            self._begin()
            self._type(b"\x03\n", deadline)
            if self.run(":", Deadline(deadline.remaining(at_most=_ANSWER_SECONDS))).ok:
                return True
        return False

    def send(self, line: str, deadline: Deadline) -> None:
        """Type a line whose answer is not waited for.

        Raises:
            MachineFault: it was cancelled.
        """
        self._asked += 1
        self._begin()
        self._type(f"{line}\n".encode(), deadline)

    def wait_for_end(self, deadline: Deadline) -> bool:
        """Wait until the other end is gone; whether it is, and not because of a panic.

        Raises:
            MachineFault: it was cancelled.
        """
        while not self.ended and not deadline.expired:
            if self.dead:
                self._last_words()
                break
            self._read(deadline)
        return self.ended and self.dead is None

    def settle(self) -> None:
        """Take in what has come and was not read yet."""
        deadline = Deadline(_SETTLE_SECONDS)  # a guest that never stops talking must not keep us
        while not self.ended and not deadline.expired and self._take(0.0):
            pass

    # -- waiting ----------------------------------------------------------------------------------

    @property
    def _flooded(self) -> bool:
        return self._heard > _FLOOD_BYTES

    def _begin(self) -> None:
        self.settle()
        self._text, self._raw, self._tail, self._heard = [], [], "", 0

    def _read(self, deadline: Deadline) -> bool:
        """Take what comes within a tick; whether anything did."""
        if self._cancel is not None and self._cancel.is_set():
            raise MachineFault("The boot was cancelled.")
        return self._take(deadline.remaining(at_most=_TICK_SECONDS) or 0.0)

    def _take(self, seconds: float) -> bool:
        try:
            # Without an encoding pexpect hands out bytes, whatever its stubs say.
            data = cast("bytes", self._port.read_nonblocking(4096, timeout=seconds))
        except (pexpect.TIMEOUT, BlockingIOError):
            return False
        except (pexpect.EOF, OSError):  # a socket whose other end was killed says ECONNRESET
            self.ended = True
            self._keep(b"", last=True)
            return False
        if data.strip():  # a terminal without a shell echoes our own empty lines
            self._last_byte = time.monotonic()
        self._heard += len(data)
        self._keep(data)
        return True

    def _keep(self, data: bytes, *, last: bool = False) -> None:
        try:
            self._log.write(data)
            self._log.flush()
        except OSError as error:
            raise MachineFault(f"The transcript cannot be written: {error.strerror}.") from error
        raw, text, lines = self._stream.feed(data, last=last)
        self._raw.append(raw)
        self._text.append(text)
        self._tail = (self._tail + text)[-_TAIL:]
        self._understand(lines)

    def _understand(self, lines: Sequence[str]) -> None:
        for line in lines:
            if line.strip():
                self._last_line = line.strip()[:_LINE]
            if finding := find(line):
                self._findings.append(finding)

    def _type(self, data: bytes, deadline: Deadline) -> None:
        """Write all of it, reading meanwhile: a guest that echoes must not block on us."""
        poll = select.poll()
        poll.register(self._port.child_fd, select.POLLOUT)
        while data and not self.ended and not deadline.expired:
            if not poll.poll(_TICK_SECONDS * 1000):
                self._read(deadline)
                continue
            try:
                data = data[self._port.send(data[:512]) :]
            except BlockingIOError:
                self._read(deadline)
            except OSError:
                self.settle()
                self.ended = True
            self._take(0.0)

    def _last_words(self) -> None:
        deadline = Deadline(_LAST_WORDS_SECONDS)
        while not self.ended and not deadline.expired:
            if not self._take(_LAST_WORDS_SILENCE_SECONDS):
                return

    # -- verdicts ---------------------------------------------------------------------------------

    def _arrival(self, state: BootState, detail: str = "") -> Arrival:
        seconds = time.monotonic() - self._started
        return Arrival(state, seconds, "".join(self._raw), detail[: _LINE * 2])

    def _oops(self) -> str:
        return next((one.line for one in self._findings if one.trouble is Trouble.OOPS), "")

    def _stopped(self) -> Arrival:
        """The kernel gave up, or the machine ended before the prompt."""
        oops = self._oops()
        if dead := self.dead:
            state = BootState.PANIC if dead.trouble is Trouble.PANIC else BootState.HANG
            return self._arrival(state, f"{oops}; {dead.line}" if oops else dead.line)
        if oops:
            return self._arrival(BootState.OOPS, oops)
        if self._heard:
            # Only a panic restarts a kernel by itself, and its message may not have come through.
            return self._arrival(BootState.PANIC, f"the machine ended after: {self._last_line}")
        return self._arrival(BootState.NO_CONSOLE, "the machine ended before it printed anything")

    def _gave_up(self, silence: float, silence_seconds: float) -> Arrival:
        if oops := self._oops():
            return self._arrival(BootState.OOPS, oops)
        if not self._heard:
            return self._arrival(BootState.SILENT, f"not one byte in {silence:.1f} s")
        if silence >= silence_seconds:
            return self._arrival(BootState.HANG, f"silent after: {self._last_line}")
        return self._arrival(BootState.NO_SHELL, f"no prompt; the last line: {self._last_line}")

    def _reply(
        self,
        began: float,
        begin: str,
        end: str,
        *,
        status: int | None = None,
        loss: Loss | None = None,
        detail: str = "",
    ) -> Reply:
        output = _between("".join(self._text), begin, end)
        raw = _between("".join(self._raw), begin, end)
        return Reply(output, raw or output, time.monotonic() - began, status, loss, detail)


def _between(text: str, begin: str, end: str) -> str:
    """What stands between the line of one marker and the other, or the end; '' without one."""
    _, found, rest = text.partition(f"{begin}\n")
    return rest.rpartition(end)[0] if found and end in rest else rest
