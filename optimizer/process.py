"""Child processes: argument lists, a process group each, deadlines, logs.

A child never outlives what started it. ``setpriv --pdeathsig`` has the kernel signal the child when
its parent is killed, a guard turns that into the end of the child's whole group, and a lock's file
descriptor handed to the child stays held until the last process of its group is gone, so whoever
takes that lock knows that nothing is left running.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import MachineFault, UserError

KILL_GRACE_SECONDS = 5.0
LOCK_NAME = ".lock"
# Killing make alone would leave the compilers that its recipes' shells started. The first `wait` is
# cut short by a signal's trap; the command's status is had when the command is gone.
_GUARD = """\
trap 'kill -s KILL 0' USR1
trap : TERM
"$@" &
while :; do
    wait $! 2>/dev/null
    status=$?
    kill -s 0 $! 2>/dev/null || exit $status
done
"""


class Deadline:
    """A point in monotonic time that nested waits share.

    Args:
        seconds: from now; infinite when None.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def remaining(self, at_most: float | None = None) -> float | None:
        """Seconds left (never below 0), capped by ``at_most``; None when there is no limit."""
        if self._end is None:
            return at_most
        left = max(0.0, self._end - time.monotonic())
        return left if at_most is None else min(left, at_most)

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self._end is not None and time.monotonic() >= self._end


@dataclass(frozen=True)
class Completed:
    """How a child ended. ``returncode`` is negative for a signal, as in subprocess."""

    returncode: int
    seconds: float
    timed_out: bool
    cancelled: bool


def bound_to_parent(argv: Sequence[str], death_signal: str = "KILL") -> list[str]:
    """The command wrapped so that the kernel ends it when the calling thread's process dies."""
    return ["setpriv", "--pdeathsig", death_signal, "--", *argv]


def _guarded(argv: Sequence[str]) -> list[str]:
    """The command wrapped so that its whole process group ends with the calling process."""
    return bound_to_parent(["sh", "-c", _GUARD, "guard", *argv], "USR1")


def run_logged(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str],
    cwd: Path,
    deadline: Deadline,
    on_line: Callable[[str], None] | None = None,
    cancel: threading.Event | None = None,
    keep_open: Sequence[int] = (),
    launcher: Sequence[str] = (),
) -> Completed:
    """Run a command in a process group of its own, with its output appended to a log.

    Args:
        argv: the command; no shell is involved.
        log: file that gets the command line and everything the command prints.
        env: the whole environment.
        cwd: working directory.
        deadline: when it is up the whole group is killed.
        on_line: called with each line of output, in the calling thread.
        cancel: when set, the whole group is killed.
        keep_open: file descriptors (locks) that the child inherits.
        launcher: a program, and its arguments, that starts the command and ends as it does. The log
            does not name it: without it the command does the same.

    Raises:
        UserError: the program is not installed.
        MachineFault: the log cannot be written or the process cannot be started.
    """
    started = time.monotonic()
    timed_out = False
    cancelled = False
    try:
        with log.open("a", encoding="utf-8") as sink:
            sink.write("$ " + " ".join(argv) + "\n")
            sink.flush()
            if shutil.which(argv[0], path=env.get("PATH")) is None:
                raise UserError(f"{argv[0]} is not installed.", "Run: memtotal doctor")
            child = subprocess.Popen(
                _guarded([*launcher, *argv]),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=tuple(keep_open),
                text=True,
                errors="replace",
            )
            with _watched(child, deadline, cancel) as watch:
                assert child.stdout is not None  # noqa: S101 - PIPE was asked for above
                try:
                    for line in child.stdout:
                        sink.write(line)
                        if on_line is not None:
                            on_line(line.rstrip("\n"))
                    child.wait()
                finally:
                    kill_group(child.pid)
                    child.wait()
            timed_out, cancelled = watch.timed_out, watch.cancelled
    except OSError as error:
        raise MachineFault(
            f"{argv[0]} could not be run: {error}.", "Check the free disk space and the log folder."
        ) from error
    # The guard tells of a signal as shells do.
    code = 128 - child.returncode if child.returncode > 128 else child.returncode
    return Completed(code, time.monotonic() - started, timed_out, cancelled)


def kill_group(pid: int) -> None:
    """Kill every process of the group that ``pid`` leads; no error when it is gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class _Watch:
    def __init__(self) -> None:
        self.timed_out = False
        self.cancelled = False
        self.done = threading.Event()


@contextlib.contextmanager
def _watched(
    child: subprocess.Popen[str], deadline: Deadline, cancel: threading.Event | None
) -> Iterator[_Watch]:
    """A thread that ends the child's group at the deadline or on request.

    Reading the pipe blocks, so the clock has to be somebody else's.
    """
    watch = _Watch()

    def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        if not watch.done.wait(KILL_GRACE_SECONDS):
            kill_group(child.pid)

    def look() -> None:
        while not watch.done.wait(deadline.remaining(at_most=0.2)):
            watch.timed_out = deadline.expired
            watch.cancelled = cancel is not None and cancel.is_set()
            if watch.timed_out or watch.cancelled:
                stop()
                return

    thread = threading.Thread(target=look, name=f"deadline-{child.pid}", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.done.set()
        thread.join()


class FolderLock:
    """An exclusive lock on a folder, held by this process and by the children given its descriptor.

    The lock is the kernel's (flock): it is gone when the last holder is, however that one died.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The descriptor to hand to children.

        Raises:
            MachineFault: the lock is not held.
        """
        if self._fd is None:
            raise MachineFault(f"The lock on {self.folder} is not held.")
        return self._fd

    def acquire(self, deadline: Deadline | None = None) -> bool:
        """Take the lock, waiting until the deadline (not at all without one).

        Returns:
            Whether it was had.

        Raises:
            MachineFault: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise MachineFault(
                f"{self.folder} cannot be written: {error}.", "Check its owner and the disk."
            ) from error
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if deadline is None or deadline.expired:
                    os.close(fd)
                    return False
                time.sleep(0.05)
            else:
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                self._fd = fd
                return True

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def holder(self) -> str:
        """The process id that the holder wrote, '' when unknown."""
        try:
            return (self.folder / LOCK_NAME).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
