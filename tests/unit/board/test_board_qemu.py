"""The emulator's command line and its process, with a small script in the emulator's place."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from optimizer.board.qemu import QemuMachine, arguments, version
from optimizer.errors import MachineFault, UserError
from optimizer.process import Deadline
from optimizer.records import BootState
from optimizer.settings import BoardSettings

BOARD = BoardSettings(
    emulator="qemu-system-arm",
    machine="versatilepb",
    memory_mb=32,
    command_line="console=ttyAMA0 mem=32M",
    prompt="^# $",
)


def argv(board: BoardSettings, device_tree: Path | None = Path("/k/x.dtb")) -> list[str]:
    return arguments(
        board,
        Path("/k/zImage"),
        device_tree,
        Path("/k/root.gz"),
        tftp=Path("/w/a,b/tftp"),
        flash=Path("/w/a,b/flash.img"),
        console_fd=7,
    )


def with_arguments(*given: str) -> BoardSettings:
    return BOARD.model_copy(update={"arguments": given, "flash_bytes": 1 << 20})


def test_the_whole_command_line() -> None:
    board = with_arguments("-drive", "if=pflash,format=raw,file={flash}")
    assert argv(board) == [
        "qemu-system-arm", "-M", "versatilepb", "-m", "32", "-nodefaults",
        "-display", "none", "-monitor", "none", "-audiodev", "none,id=silent",
        "-chardev", "socket,id=console,fd=7", "-serial", "chardev:console",
        "-no-reboot", "-kernel", "/k/zImage", "-dtb", "/k/x.dtb", "-initrd", "/k/root.gz",
        "-append", "console=ttyAMA0 mem=32M",
        "-drive", "if=pflash,format=raw,file=/w/a,,b/flash.img",
        "-nic", "none",
    ]  # fmt: skip


def test_a_machine_without_a_device_tree() -> None:
    assert "-dtb" not in argv(BOARD, None)


def test_no_network_unless_asked_for() -> None:
    assert argv(BOARD)[-2:] == ["-nic", "none"]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("user,model=smc91c111", "user,restrict=on,model=smc91c111"),
        ("user", "user,restrict=on"),
        ("user,restrict=on,tftp={tftp}", "user,restrict=on,tftp=/w/a,,b/tftp"),
        ("none", "none"),
    ],
)
def test_user_networking_is_always_restricted(given: str, used: str) -> None:
    assert argv(with_arguments("-nic", given))[-2:] == ["-nic", used]


@pytest.mark.parametrize(
    "value",
    [
        "tap,ifname=tap0",
        "bridge,br=br0",
        "socket,listen=:1234",
        "user,restrict=off",
        "user,restrict=on,hostfwd=tcp::2222-:22",
        "user,guestfwd=tcp:10.0.2.100:80-cmd:nc host 80",
        "user,smb=/home",
    ],
)
@pytest.mark.parametrize("option", ["-nic", "-netdev", "-net"])
def test_a_way_to_the_host_is_refused(option: str, value: str) -> None:
    with pytest.raises(UserError, match="reaches beyond the emulator"):
        argv(with_arguments(option, value))


class Stand:
    """A folder with a kernel's files and a shell script as the emulator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        for name in ("zImage", "x.dtb", "root.gz"):
            (folder / name).write_bytes(b"x")

    def machine(self, script: str, **changes: object) -> QemuMachine:
        """`$console` is the descriptor of the console's socket in the script."""
        emulator = self.folder / "emulator"
        emulator.write_text(
            "#!/usr/bin/env bash\n"
            "for word; do case $word in *,fd=*) console=${word##*=} ;; esac; done\n" + script
        )
        emulator.chmod(0o755)
        board = BOARD.model_copy(update={"emulator": str(emulator), **changes})
        names = ("zImage", "x.dtb", "root.gz")
        image, device_tree, initramfs = (self.folder / name for name in names)
        return QemuMachine(board, image, device_tree, initramfs, self.work)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def leavings(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[-1][0] != "Z"


def test_nothing_is_left_of_a_machine(stand: Stand) -> None:
    script = "echo $$ >pid\nprintf '# ' >&$console\nsleep 1000 &\nsleep 1000\n"
    with stand.machine(script, flash_bytes=3 << 19) as machine:
        assert (stand.work / "flash.img").read_bytes() == b"\xff" * (3 << 19)
        console = machine.start()
        assert console.wait_for_prompt(Deadline(20), 20).state is BootState.READY
        pid = int((stand.work / "pid").read_text())
        assert is_running(pid)
    assert not is_running(pid)
    assert leavings(stand.work) == {"console.log", "qemu.log", "pid"}


def test_stopping_twice_is_no_error(stand: Stand) -> None:
    with stand.machine("exit 0\n") as machine:
        machine.start()
        machine.stop()
        machine.stop()


def test_a_clean_end(stand: Stand) -> None:
    with stand.machine("exit 0\n") as machine:
        console = machine.start()
        assert console.wait_for_prompt(Deadline(20), 20).state is BootState.NO_CONSOLE
        assert machine.ending().clean


def test_a_kill_from_outside_is_the_machines_fault(stand: Stand) -> None:
    with stand.machine("kill -KILL $$\n") as machine:
        console = machine.start()
        console.wait_for_prompt(Deadline(20), 20)
        with pytest.raises(MachineFault, match="killed by SIGKILL"):
            machine.ending()


def test_an_emulator_that_aborts_has_met_a_bad_guest(stand: Stand) -> None:
    script = "echo 'qemu: hardware error: pl011_read: Bad offset' >&2\nkill -ABRT $$\n"
    with stand.machine(script) as machine:
        console = machine.start()
        console.wait_for_prompt(Deadline(20), 20)
        ending = machine.ending()
        assert not ending.clean
        assert "SIGABRT" in ending.detail
        assert "hardware error" in ending.detail


def test_a_kernel_that_does_not_fit_is_the_variants_doing(stand: Stand) -> None:
    with stand.machine("echo 'emu: could not load kernel' >&2; exit 1\n") as machine:
        console = machine.start()
        assert console.wait_for_prompt(Deadline(20), 20).state is BootState.NO_CONSOLE
        assert "could not load kernel" in machine.ending().detail


def test_arguments_that_the_emulator_refuses_are_the_users(stand: Stand) -> None:
    with stand.machine("echo 'emu: -M: unsupported machine type' >&2; exit 1\n") as machine:
        console = machine.start()
        console.wait_for_prompt(Deadline(20), 20)
        with pytest.raises(UserError, match="unsupported machine type"):
            machine.ending()


def test_an_emulator_that_cannot_start(stand: Stand) -> None:
    with stand.machine("echo 'emu: Cannot allocate memory' >&2; exit 1\n") as machine:
        console = machine.start()
        console.wait_for_prompt(Deadline(20), 20)
        with pytest.raises(MachineFault, match="Cannot allocate memory"):
            machine.ending()


def test_a_missing_emulator(stand: Stand) -> None:
    with pytest.raises(UserError, match="not installed") as caught:
        stand.machine("", emulator="qemu-system-nothing")
    assert caught.value.remedy == "Run: memtotal doctor"
    with pytest.raises(UserError, match="not installed"):
        version(BOARD.model_copy(update={"emulator": "qemu-system-nothing"}))


def test_a_missing_file(stand: Stand) -> None:
    (stand.folder / "root.gz").unlink()
    with pytest.raises(UserError, match="initramfs"):
        stand.machine("")


def test_flash_asked_for_but_not_given(stand: Stand) -> None:
    with pytest.raises(UserError, match="flash_bytes"):
        stand.machine("", arguments=("-drive", "file={flash}"))


def test_a_work_folder_that_cannot_be_written(stand: Stand) -> None:
    stand.work.write_text("a file")
    with pytest.raises(MachineFault, match="cannot be written"):
        stand.machine("").__enter__()


def test_the_version_is_one_line(stand: Stand) -> None:
    script = stand.folder / "emulator"
    stand.machine("echo 'QEMU emulator version 9.9'; echo 'Copyright'\n")
    assert version(BOARD.model_copy(update={"emulator": str(script)})) == (
        "QEMU emulator version 9.9"
    )


def test_the_emulator_dies_with_its_parent(stand: Stand) -> None:
    """A parent killed with SIGKILL runs no clean-up, so the kernel has to do it."""
    machine = stand.machine("echo $$ >pid\nexec sleep 1000\n")
    parent = os.fork()
    if parent == 0:
        try:
            with machine:
                machine.start()
                time.sleep(1000)
        finally:
            os._exit(1)
    written = stand.work / "pid"
    deadline = Deadline(30)
    while not (written.exists() and written.read_text().strip()) and not deadline.expired:
        time.sleep(0.01)
    pid = int(written.read_text())
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    while is_running(pid) and not deadline.expired:
        time.sleep(0.01)
    assert not is_running(pid)
