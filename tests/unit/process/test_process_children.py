"""Child processes: deadlines, cancelling, groups, logs, and what becomes of them as orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.server import REPOSITORY
from fakes.world import wait_until

from optimizer.errors import MachineFault, UserError
from optimizer.process import Completed, Deadline, FolderLock, run_logged

# A child, a child of it, and one that its shell does not wait for; each tells its process id.
FAMILY = "echo $$; (sleep 1000) & echo $!; sh -c 'echo $$; sleep 1000; :' & wait"


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def run(
    folder: Path,
    *argv: str,
    seconds: float | None = 60,
    on_line: Callable[[str], None] | None = None,
    cancel: threading.Event | None = None,
    keep_open: tuple[int, ...] = (),
    log: Path | None = None,
) -> Completed:
    return run_logged(
        argv,
        log=log or folder / "log",
        env={"PATH": os.environ["PATH"]},
        cwd=folder,
        deadline=Deadline(seconds),
        on_line=on_line,
        cancel=cancel,
        keep_open=keep_open,
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", -9), ("kill -TERM $$", -15)],
)
def test_the_exit_code(tmp_path: Path, script: str, code: int) -> None:
    done = run(tmp_path, "sh", "-c", script)
    assert (done.returncode, done.timed_out, done.cancelled) == (code, False, False)


def test_the_log_has_the_command_and_both_streams_in_order(tmp_path: Path) -> None:
    lines: list[str] = []
    for _ in range(2):
        run(tmp_path, "sh", "-c", "echo one; echo two >&2; printf three", on_line=lines.append)
    once = "$ sh -c echo one; echo two >&2; printf three\none\ntwo\nthree"
    assert (tmp_path / "log").read_text() == once * 2
    assert lines == ["one", "two", "three"] * 2


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    lines: list[str] = []
    run(tmp_path, "printf", r"\377\n", on_line=lines.append)
    assert lines == ["\N{REPLACEMENT CHARACTER}"]


def test_arguments_reach_the_child_as_they_are(tmp_path: Path) -> None:
    lines: list[str] = []
    run(tmp_path, "printf", "%s\n", "$HOME `id`", "a  b", "'\"", on_line=lines.append)
    assert lines == ["$HOME `id`", "a  b", "'\""]


def test_the_child_gets_the_given_environment_and_no_input(tmp_path: Path) -> None:
    lines: list[str] = []
    run(tmp_path, "sh", "-c", "cat; echo ${HOME-no home}; pwd", on_line=lines.append)
    assert lines == ["no home", str(tmp_path)]


def test_the_deadline_ends_the_whole_family(tmp_path: Path) -> None:
    pids: list[int] = []
    done = run(tmp_path, "sh", "-c", FAMILY, seconds=0.5, on_line=lambda x: pids.append(int(x)))
    assert (done.timed_out, done.cancelled) == (True, False)
    assert done.returncode < 0
    assert len(pids) == 3
    wait_until(lambda: not any(map(lives, pids)))


def test_cancelling_ends_the_whole_family(tmp_path: Path) -> None:
    pids: list[int] = []
    cancel = threading.Event()

    def look(line: str) -> None:
        pids.append(int(line))
        if len(pids) == 3:
            cancel.set()

    done = run(tmp_path, "sh", "-c", FAMILY, cancel=cancel, on_line=look)
    assert (done.timed_out, done.cancelled) == (False, True)
    wait_until(lambda: not any(map(lives, pids)))


def test_a_child_may_clean_up_when_it_is_asked_to_end(tmp_path: Path) -> None:
    """As make does, which removes a target that it has not finished."""
    script = "trap 'rm half; exit 1' TERM; touch half; sleep 1000 & echo ready; wait"
    cancel = threading.Event()
    run(tmp_path, "sh", "-c", script, cancel=cancel, on_line=lambda _line: cancel.set())
    assert not (tmp_path / "half").exists()


def test_who_does_not_end_when_asked_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimizer.process.KILL_GRACE_SECONDS", 0.2)
    script = "trap '' TERM; echo $$; while :; do sleep 0.05; done"
    pids: list[int] = []
    done = run(tmp_path, "sh", "-c", script, seconds=0.3, on_line=lambda x: pids.append(int(x)))
    assert (done.timed_out, done.returncode) == (True, -9)
    wait_until(lambda: not lives(pids[0]))


def test_what_a_finished_child_left_running_is_ended(tmp_path: Path) -> None:
    pids: list[int] = []
    script = "sleep 1000 >/dev/null 2>&1 & echo $!"
    done = run(tmp_path, "sh", "-c", script, on_line=lambda line: pids.append(int(line)))
    assert done.returncode == 0
    wait_until(lambda: not lives(pids[0]))


def test_an_error_of_the_listener_ends_the_child(tmp_path: Path) -> None:
    pids: list[int] = []

    def look(line: str) -> None:
        pids.append(int(line))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "sh", "-c", "echo $$; sleep 1000; :", on_line=look)
    wait_until(lambda: not lives(pids[0]))


def test_a_program_that_is_not_installed_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no-such-program is not installed"):
        run(tmp_path, "no-such-program")


def test_a_log_that_cannot_be_written_is_the_machines(tmp_path: Path) -> None:
    with pytest.raises(MachineFault, match="sh could not be run: "):
        run(tmp_path, "sh", log=tmp_path / "no" / "log")
    if Path("/dev/full").exists():
        with pytest.raises(MachineFault, match="No space left"):
            run(tmp_path, "echo", "text", log=Path("/dev/full"))


PARENT = """
import os, sys
from pathlib import Path
from optimizer.process import Deadline, FolderLock, run_logged

folder = Path(sys.argv[1])
lock = FolderLock(folder)
assert lock.acquire()
run_logged(["sh", "-c", sys.argv[2]], log=folder / "log", env={"PATH": os.environ["PATH"]},
           cwd=folder, deadline=Deadline(None), keep_open=(lock.fd,))
"""


def parent(folder: Path, script: str) -> subprocess.Popen[bytes]:
    """A process that holds a lock and runs a script."""
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder), script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def test_a_killed_parent_takes_its_whole_family_along(tmp_path: Path) -> None:
    process = parent(tmp_path, FAMILY)

    def members() -> set[int]:
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, fields = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
                link = (stat.parent / "cwd").readlink()
            except OSError:
                continue
            if link == tmp_path and fields[0] != "Z":
                found.add(pid)
        return found

    wait_until(lambda: len(members()) >= 5)
    process.kill()
    process.wait()
    wait_until(lambda: not members(), lambda: f"{members()} live on")


# -- locks -----------------------------------------------------------------------------------------


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "new" / "folder"), FolderLock(tmp_path / "new" / "folder")
    assert first.acquire()
    assert not second.acquire()
    assert not second.acquire(Deadline(0.1))
    assert second.holder() == str(os.getpid())
    first.release()
    first.release()
    assert second.acquire()
    second.release()


def test_a_lock_that_is_not_held_has_no_descriptor(tmp_path: Path) -> None:
    with pytest.raises(MachineFault, match="is not held"):
        _ = FolderLock(tmp_path).fd


def test_waiting_for_a_lock_until_it_is_free(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.acquire()
    release = threading.Timer(0.2, first.release)
    release.start()
    assert second.acquire(Deadline(60))
    second.release()
    release.join()


def test_a_folder_that_cannot_be_made_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineFault, match="cannot be written"):
        FolderLock(tmp_path / "file" / "folder").acquire()


def test_a_lock_handed_to_a_child_is_held_until_the_last_of_them_is_gone(tmp_path: Path) -> None:
    """A process that left the group, and so outlives its parent, keeps the folder locked."""
    escaped = "setsid sh -c 'echo $$ >escaped; exec sleep 1000' & wait"
    process = parent(tmp_path, escaped)
    pid = tmp_path / "escaped"
    wait_until(lambda: pid.exists() and pid.read_text())
    process.kill()
    process.wait()
    lock = FolderLock(tmp_path)
    assert not lock.acquire(Deadline(0.3))
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert lock.acquire(Deadline(60))
    lock.release()


# -- deadlines -------------------------------------------------------------------------------------


def test_a_deadline_without_an_end() -> None:
    deadline = Deadline(None)
    assert (deadline.remaining(), deadline.remaining(at_most=3)) == (None, 3)
    assert not deadline.expired


def test_a_deadline_that_is_over() -> None:
    deadline = Deadline(0)
    assert (deadline.remaining(), deadline.remaining(at_most=3)) == (0, 0)
    assert deadline.expired


def test_a_deadline_ahead_is_shared_by_those_who_wait() -> None:
    deadline = Deadline(1000)
    assert deadline.remaining(at_most=3) == 3
    first = deadline.remaining()
    assert first is not None
    assert 0 < (deadline.remaining() or 0) <= first <= 1000
