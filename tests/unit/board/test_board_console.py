"""What a console understands of what a guest says."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import pytest
from guests import ScriptedGuest, ShellMachine
from hypothesis import given
from hypothesis import strategies as st

from optimizer.board.console import Console, Loss
from optimizer.board.faults import Trouble, find
from optimizer.board.stream import Stream
from optimizer.errors import MachineFault
from optimizer.process import Deadline
from optimizer.records import BootState

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.log"))


def boot(console: Console, silence: float = 0.3) -> tuple[BootState, str]:
    arrival = console.wait_for_prompt(Deadline(30), silence)
    return arrival.state, arrival.detail


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_recorded_boot_gets_its_verdict(path: Path, tmp_path: Path) -> None:
    header, _, said = path.read_bytes().partition(b"\n")
    state, ending, detail = header.decode().removeprefix("expect: ").split(";", 2)
    guest = ScriptedGuest(tmp_path)
    guest.says(said)
    if ending.strip() == "ended":
        guest.dies()
    got, why = boot(guest.console)
    assert got.value == state
    assert detail.strip() in why
    guest.console.close()
    assert guest.transcript.read_bytes() == said


def test_a_kernel_that_keeps_talking_but_has_no_shell(tmp_path: Path) -> None:
    guest = ScriptedGuest(tmp_path)
    stop = threading.Event()

    def talk() -> None:
        while not stop.wait(0.05):
            guest.says("[    1.000000] still here\r\n")

    thread = threading.Thread(target=talk)
    thread.start()
    arrival = guest.console.wait_for_prompt(Deadline(1.0), 30)
    stop.set()
    thread.join()
    assert arrival.state is BootState.NO_SHELL
    assert "still here" in arrival.detail


def test_echoed_empty_lines_are_no_sign_of_life(tmp_path: Path) -> None:
    guest = ScriptedGuest(tmp_path)
    guest.says("[    1.000000] Run /init as init process\r\n")
    guest.wire.settimeout(0.1)
    stop = threading.Event()

    def echo() -> None:
        while not stop.is_set():
            try:
                guest.says(guest.wire.recv(100).replace(b"\n", b"\r\n"))
            except TimeoutError:
                continue

    thread = threading.Thread(target=echo)
    thread.start()
    state, detail = boot(guest.console, silence=2.5)
    stop.set()
    thread.join()
    assert state is BootState.HANG
    assert "Run /init" in detail


def test_a_prompt_hidden_by_a_kernel_message_is_asked_for_again(tmp_path: Path) -> None:
    guest = ScriptedGuest(tmp_path)
    guest.says("# input: a mouse without a time stamp\r\n")

    def answer() -> None:
        assert guest.wire.recv(10) == b"\n"
        guest.says("\r\n# ")

    thread = threading.Thread(target=answer)
    thread.start()
    state, _ = boot(guest.console, silence=20)
    thread.join()
    assert state is BootState.READY


def test_a_flood_ends_the_wait(tmp_path: Path) -> None:
    guest = ScriptedGuest(tmp_path)

    def flood() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                guest.says(b"y\r\n" * 21846)

    thread = threading.Thread(target=flood)
    thread.start()
    state, detail = boot(guest.console, silence=20)
    guest.console.close()
    thread.join()
    assert state is BootState.NO_SHELL
    assert "flooded" in detail


def test_cancelling_ends_a_wait(tmp_path: Path) -> None:
    guest = ScriptedGuest(tmp_path)
    cancel = threading.Event()
    cancel.set()
    console = Console(guest.wire.detach(), tmp_path / "other.log", "# ", cancel=cancel)
    with pytest.raises(MachineFault, match="cancelled"):
        console.wait_for_prompt(Deadline(30), 30)


@pytest.fixture
def shell(tmp_path: Path):  # noqa: ANN201 - a generator of a console
    with ShellMachine(tmp_path) as machine:
        console = machine.start()
        assert boot(console, silence=20)[0] is BootState.READY
        yield console


@pytest.mark.parametrize(
    ("command", "output", "status"),
    [
        ("echo hi", "hi\n", 0),
        ("printf 'no newline'", "no newline", 0),
        ("false", "", 1),
        ("exit_status() { return 42; }; exit_status", "", 42),
        ("echo \"MT_END_\"'1_0'", "MT_END_1_0\n", 0),
        ("echo 'it'\"'\"'s # fine' ; # a comment", "it's # fine\n", 0),
        ("for i in 1 2\ndo\n\techo $i\ndone", "1\n2\n", 0),
        ("printf 'a\\r\\nb\\n'", "a\nb\n", 0),
    ],
)
def test_commands_and_their_answers(shell: Console, command: str, output: str, status: int) -> None:
    if "MT_END" in command:
        shell.run(":", Deadline(20))  # so that the forged marker is of a command gone by
    reply = shell.run(command, Deadline(20))
    assert (reply.output, reply.status, reply.loss) == (output, status, None)
    assert reply.ok == (status == 0)


def test_kernel_messages_do_not_break_answers(shell: Console) -> None:
    reply = shell.run(
        "printf 'ab[   12.345678] eth0: link up\\r\\ncd\\n[    1.000000][   T12] x\\n'; echo e",
        Deadline(20),
    )
    assert reply.output == "abcd\ne\n"
    assert "eth0: link up" in reply.raw


def test_much_typed_at_once_arrives(shell: Console) -> None:
    typed = b"".join(b"%063d\n" % number for number in range(1024))
    reply = shell.run(f"head -c {len(typed)} | tail -n 1", Deadline(60), typed=typed)
    assert reply.output.splitlines()[-1] == f"{1023:063d}"


def test_a_command_without_an_answer_can_be_interrupted(shell: Console) -> None:
    reply = shell.run("echo before; cat", Deadline(0.5))
    assert (reply.loss, reply.status, reply.output) == (Loss.TIMEOUT, None, "before\n")
    # The pseudo-terminal of this test is nobody's controlling one, so an end of file does it here.
    shell.send("\x04", Deadline(20))
    assert shell.run("echo after", Deadline(20)).output == "after\n"


def test_an_interrupt_that_is_missed_is_sent_again(tmp_path: Path) -> None:
    guest = ScriptedGuest(tmp_path)
    typed = b""

    def answer() -> None:
        nonlocal typed
        while not (again := re.search(rb"\x03.*\x03.*BEGIN_(\d+)_.*\n", typed, re.DOTALL)):
            typed += guest.wire.recv(1000)
        number = again.group(1).decode()
        guest.says(f"MT_BEGIN_{number}_\nMT_END_{number}_0\n")

    thread = threading.Thread(target=answer)
    thread.start()
    assert guest.console.interrupt(Deadline(20))
    thread.join()
    assert typed.count(b"\x03") == 2


def test_a_guest_that_cannot_be_interrupted(tmp_path: Path) -> None:
    assert not ScriptedGuest(tmp_path).console.interrupt(Deadline(0.3))


def test_a_panic_ends_a_command_at_once(shell: Console) -> None:
    reply = shell.run(
        "printf '[    9.000000] Kernel %s\\n' 'panic - not syncing: test'; cat", Deadline(60)
    )
    assert reply.loss is Loss.DEAD
    assert reply.detail == "Kernel panic - not syncing: test"


def test_the_echo_of_a_command_is_not_the_kernels_word(shell: Console) -> None:
    reply = shell.run("echo looking for Kernel panic - not syncing: x", Deadline(20))
    assert reply.ok
    assert shell.findings == ()


def test_a_machine_that_ends_during_a_command(shell: Console) -> None:
    reply = shell.run("kill -KILL $$", Deadline(20))
    assert reply.loss is Loss.ENDED
    assert shell.ended


def test_a_survived_oops_is_remembered(shell: Console) -> None:
    told = shell.run("printf '[    9.000000] kernel %s\\n' 'BUG at mm/slub.c:1!'", Deadline(20))
    assert told.ok
    assert [(one.trouble, one.line) for one in shell.findings] == [
        (Trouble.OOPS, "kernel BUG at mm/slub.c:1!")
    ]


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("Unable to handle kernel NULL pointer dereference at virtual address 0", Trouble.OOPS),
        ("[    1.234567] Unable to handle kernel paging request at 1", Trouble.OOPS),
        ("[    1.234567][    T1] Internal error: Oops: 5 [#1] ARM", Trouble.OOPS),
        ("Oops[#1]:", Trouble.OOPS),
        ("Oops: 0002 [#1] SMP", Trouble.OOPS),
        ("# [    5.000000] BUG: scheduling while atomic: sh/40/0x00000002", Trouble.OOPS),
        ("[    5.000000] Unhandled fault: alignment exception (0x001) at 0xb6f0", Trouble.OOPS),
        ("Kernel panic: No init found.", Trouble.PANIC),
        ("---[ end Kernel panic - not syncing: x ]---", Trouble.PANIC),
        ("[    5.000000] Reboot failed -- System halted", Trouble.HALTED),
        ("[    5.000000] reboot: Power down", Trouble.HALTED),
        ("# grep 'Kernel panic - not syncing: ' /tmp/log", None),
        ("[    5.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", None),
        ("[    0.000000] Kernel command line: panic=-1 oops=panic", None),
        ("WARNING: CPU: 0 PID: 1 at kernel/x.c", None),
    ],
)
def test_trouble_is_known_by_its_line(line: str, trouble: Trouble | None) -> None:
    found = find(line)
    assert (found.trouble if found else None) == trouble


@given(st.data())
def test_pieces_do_not_matter(data: st.DataObject) -> None:
    text = "".join(
        data.draw(
            st.lists(
                st.sampled_from(
                    [
                        "ab",
                        "[",
                        " [ 3",
                        "\r\n",
                        "\n",
                        "# ",
                        "\x1b[6n",
                        "[    1.234567] kernel\r\n",
                        "[   12.000000][   C0] k\n",
                        "é",
                        "]",
                        "1.5",
                    ]
                ),
                max_size=12,
            )
        )
    ).encode()
    whole = Stream().feed(text, last=True)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    stream = Stream()
    pieces = [stream.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    pieces.append(stream.feed(b"", last=True))
    assert "".join(piece[0] for piece in pieces) == whole[0]
    assert "".join(piece[1] for piece in pieces) == whole[1]
    assert [line for piece in pieces for line in piece[2]] == whole[2]
    assert not re.search(r"\[    1\.234567\] kernel", whole[1])
