"""Starts ``memtotal`` again and again without importing it again and again.

A process that has imported the package forks for every command: half a second of imports is saved
each time, and what runs is still a process of its own, with its own exit code and signals.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[2]


class Server:
    """The process that forks. One serves a whole test session."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        out: Path,
        err: Path,
        status: Path,
    ) -> int:
        """Start a command; its exit code will be in the file ``status``.

        Returns:
            The command's process id.
        """
        if self._child is None:
            # One thread: what is forked must not miss any.
            self._child = subprocess.Popen(
                [sys.executable, __file__],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        request = {
            "argv": list(argv),
            "env": dict(env),
            "cwd": str(cwd),
            "out": str(out),
            "err": str(err),
            "status": str(status),
        }
        _pipe(self._child.stdin).write(json.dumps(request) + "\n")
        _pipe(self._child.stdin).flush()
        return int(_pipe(self._child.stdout).readline())

    def close(self) -> None:
        """End it."""
        if self._child is not None:
            _pipe(self._child.stdin).close()
            self._child.wait(30)
            _pipe(self._child.stdout).close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _serve() -> None:
    import optimizer.cli

    while line := sys.stdin.readline():
        request = json.loads(line)
        if os.fork() == 0:
            _keep(request)
            optimizer.cli.main()
            return
        # Keepers whose command is done.
        while _reaped():
            pass


def _keep(request: Mapping[str, str]) -> None:
    """Fork the command, which returns from here, and stay to note its exit code."""
    pid = os.fork()
    if pid == 0:
        return _become(request)
    os.write(1, f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    draft = Path(request["status"] + ".draft")
    draft.write_text(str(code), encoding="ascii")
    draft.replace(request["status"])
    os._exit(0)


def _become(request: Mapping[str, str]) -> None:
    for fd, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, fd)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["memtotal", *request["argv"]]


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


if __name__ == "__main__":
    _serve()
