"""What tests of several parts share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.world import SERVER, World

# A test run started by nohup, or in the background of a script, ignores these, and all that it
# starts would too: interrupts and hang-ups are what some tests are about.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _server() -> Iterator[None]:
    """The process behind the fakes' commands ends with the session."""
    yield
    SERVER.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fake kernel tree, emulator and study; nothing that was started in it may be left over."""
    made = World(tmp_path / "world")
    yield made
    made.close()
    made.assert_nothing_left()
