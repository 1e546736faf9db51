"""Real boots in QEMU: the shipped suites on the baseline, and every way in which a boot fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.contract import EmulatorContract

from optimizer.board import QemuMachine, evaluate, version
from optimizer.errors import MachineFault
from optimizer.memory import measure
from optimizer.records import BootResult, BootState
from optimizer.settings import SHIPPED_CONFIGS, BoardSettings, CheckSettings, Suite, load_study
from tests.integration.kernels import Kernel

pytestmark = [pytest.mark.integration, pytest.mark.kernels]

STUDY = load_study(str(SHIPPED_CONFIGS / "versatilepb.toml"))
BOARD = STUDY.board


def check(name: str, command: str, expect: str, **more: Any) -> CheckSettings:  # noqa: ANN401
    return CheckSettings(name=name, command=command, expect=expect, **more)


def suite(*checks: CheckSettings) -> tuple[Suite, ...]:
    return (Suite(name="t", check=checks),)


def details(result: BootResult) -> dict[str, str]:
    return {one.name: "" if one.passed else one.detail for one in result.checks}


class Bench:
    """Boots the baseline kernel with changes to the board."""

    def __init__(self, kernel: Any, folder: Path) -> None:  # noqa: ANN401 - the fixture's object
        self.kernel = kernel
        self.folder = folder

    def boot(
        self, *suites: Suite, replace: tuple[str, str] = ("", ""), **changes: object
    ) -> BootResult:
        command_line = BOARD.command_line.replace(*replace)
        board = BOARD.model_copy(update={"command_line": command_line, **changes})
        return self.evaluate(board, suites)

    def evaluate(
        self,
        board: BoardSettings,
        suites: tuple[Suite, ...],
        **more: Any,  # noqa: ANN401
    ) -> BootResult:
        kernel = self.kernel
        return evaluate(
            board, kernel.image, kernel.device_tree, kernel.initramfs, suites, self.folder, **more
        )


@pytest.fixture
def bench(baseline_kernel: Any, tmp_path: Path) -> Bench:  # noqa: ANN401
    return Bench(baseline_kernel, tmp_path)


def emulators(folder: Path) -> list[int]:
    """Processes that were started with a file of this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in arguments:
                found.append(int(entry.name))
    return found


def test_the_baseline_passes_every_shipped_suite(bench: Bench) -> None:
    result = bench.boot(*STUDY.suites)
    assert [
        f"{one.suite}/{one.name}: {one.detail}" for one in result.checks if not one.passed
    ] == []
    assert result.passed
    assert {one.suite for one in result.checks} == {
        "console", "network", "storage", "clock", "kernel",
    }  # fmt: skip
    assert "Linux version" in result.kernel_log
    measured = measure(result.kernel_log, result.meminfo_text)
    assert 0 < measured.mem_total_kb < 32 * 1024
    assert measured.memory_line.startswith("Memory: ")
    assert {path.name for path in bench.folder.iterdir()} == {"console.log", "qemu.log"}
    assert emulators(bench.folder) == []


@pytest.mark.parametrize(
    ("replace", "state", "detail"),
    [
        (("rdinit=/init", "rdinit=/no init=/no"), BootState.PANIC, "Kernel panic - not syncing"),
        (("rdinit=/init", "rdinit=/bin/true"), BootState.PANIC, "Attempted to kill init"),
        (("mem=32M", "mem=8M"), BootState.PANIC, "memory"),
        (("console=ttyAMA0", "console=ttyS9"), BootState.SILENT, "not one byte"),
        (("rdinit=/init", "rdinit=/bin/cat"), BootState.HANG, "silent after"),
    ],
)
def test_how_a_boot_fails(
    bench: Bench, replace: tuple[str, str], state: BootState, detail: str
) -> None:
    result = bench.boot(*STUDY.suites, replace=replace, silence_timeout_seconds=6)
    assert result.state is state, result.detail
    assert detail in result.detail
    assert result.checks == ()
    assert not result.passed
    assert emulators(bench.folder) == []


def test_a_panic_that_does_not_restart_is_not_waited_for(bench: Bench) -> None:
    board = BOARD.model_copy(
        update={
            "command_line": BOARD.command_line.replace(
                "rdinit=/init", "rdinit=/no init=/no"
            ).replace("panic=-1", "panic=0"),
            "boot_timeout_seconds": 3600,
            "silence_timeout_seconds": 3600,
        }
    )
    assert bench.evaluate(board, ()).state is BootState.PANIC


def test_user_space_that_talks_but_is_no_shell(bench: Bench) -> None:
    result = bench.boot(replace=("rdinit=/init", "rdinit=/bin/yes"), boot_timeout_seconds=6)
    assert result.state is BootState.NO_SHELL


def test_a_kernel_that_is_none(bench: Bench) -> None:
    bench.kernel = type("Kernel", (), vars(bench.kernel) | {"image": bench.kernel.initramfs})
    result = bench.boot(silence_timeout_seconds=3)
    assert result.state in {BootState.SILENT, BootState.NO_CONSOLE}


def test_a_machine_too_small_for_its_root_file_system(bench: Bench) -> None:
    result = bench.boot(memory_mb=4)
    assert result.state is BootState.NO_CONSOLE
    assert "could not load" in result.detail


def test_a_panic_in_a_check(bench: Bench) -> None:
    crash = check("crash", "echo c >/proc/sysrq-trigger", "x", timeout_seconds=600)
    result = bench.boot(*suite(crash, check("after", "echo x", "x")))
    assert result.state is BootState.READY
    assert not result.passed
    assert "sysrq triggered crash" in details(result)["crash"]
    assert details(result)["after"].startswith("not run: Kernel panic")
    assert "sysrq triggered crash" in details(result)["no_oops"]


def test_an_oops_that_the_kernel_survives(bench: Bench) -> None:
    """An undefined instruction is written over a system call, by its address in memory."""
    oops = check(
        "oops",
        """a=$(grep ' sys_sethostname$' /proc/kallsyms); a=${a%% *}
        devmem 0x$(printf %x $((0x$a - 0xc0000000))) 32 0xe7f001f2; hostname x; echo status $?""",
        "^status 139$",
    )
    result = bench.boot(*suite(oops, check("after", "echo x", "^x$")))
    assert details(result)["oops"] == ""
    assert details(result)["after"] == ""
    assert "Internal error: Oops" in details(result)["no_oops"]
    assert not result.passed


def test_a_check_without_an_answer_does_not_take_the_others_with_it(bench: Bench) -> None:
    result = bench.boot(
        *suite(
            check("reads", "cat", "x", timeout_seconds=1),
            check("spins", "while :; do :; done", "x", timeout_seconds=1),
            check("floods", "yes", "^x", timeout_seconds=1),
            check("after", "echo x", "^x$"),
        )
    )
    seen = details(result)
    said = (bench.folder / "console.log").read_text(errors="replace").replace("y\n", "")
    for name in ("reads", "spins", "floods"):
        assert "no answer" in seen[name], (name, seen, said)
    assert seen["after"] == "", (seen, said)


def test_a_guest_that_no_longer_answers(bench: Bench) -> None:
    stuck = check("stuck", "trap '' INT; while :; do :; done", "x", timeout_seconds=1)
    result = bench.boot(*suite(stuck, check("after", "echo x", "x")))
    assert details(result)["after"] == "not run: the console no longer answers"


def test_a_machine_that_halts_does_not_restart(bench: Bench) -> None:
    halt = CheckSettings(name="r", kind="reboot", command="poweroff -f", timeout_seconds=600)
    result = bench.boot(*suite(halt))
    assert "System halted" in details(result)["r"]


@pytest.mark.parametrize(
    ("sabotage", "failing"),
    [
        # A call that reports success and did nothing, as some configurations make it.
        ("sleep() { :; }", {"console/sleep"}),
        ("cp() { : >two; }", {"console/files"}),
        ("umount() { :; }", {"storage/remount"}),
        ('md5sum() { busybox md5sum "$@" | tr 0-9 1-90; }', {"console/typing", "network/tftp"}),
        ("hwclock() { :; }", {"clock/rtc"}),
        ("ifconfig() { :; }", {"network/interface", "network/tftp", "network/tcp"}),
    ],
)
def test_a_call_that_did_not_do_its_work_is_seen(
    bench: Bench, sabotage: str, failing: set[str]
) -> None:
    first = Suite(name="first", check=(check("sabotage", sabotage + "; echo ok", "ok"),))
    result = bench.boot(first, *STUDY.suites)
    failed = {f"{one.suite}/{one.name}" for one in result.checks if not one.passed}
    assert failing <= failed, details(result)


@pytest.mark.parametrize(
    ("arguments", "failing"),
    [
        (("-nic", "none"), {"interface", "tftp", "remount"}),
        (("-nic", "user,model=smc91c111"), {"tftp", "remount"}),
    ],
)
def test_missing_hardware_is_seen(
    bench: Bench, arguments: tuple[str, ...], failing: set[str]
) -> None:
    result = bench.boot(*STUDY.suites, arguments=arguments, flash_bytes=0)
    assert failing <= {name for name, detail in details(result).items() if detail}


def test_kernel_messages_in_the_middle_of_an_answer(bench: Bench) -> None:
    noisy = check(
        "noisy",
        """(for i in $(seq 40); do echo "<1>message $i" >/dev/kmsg; done) &
        for i in $(seq 40); do echo bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb; done; wait""",
        r"\A(b{34}\n){40}",
    )
    assert details(bench.boot(*suite(noisy))) == {"noisy": "", "no_oops": ""}


def test_an_emulator_killed_in_a_check(bench: Bench) -> None:
    def kill() -> None:
        log = bench.folder / "console.log"
        while not (log.exists() and b"sleep 600" in log.read_bytes()):
            time.sleep(0.05)
        for pid in emulators(bench.folder):
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(MachineFault, match="killed by SIGKILL"):
        bench.boot(*suite(check("long", "sleep 600", "x", timeout_seconds=600)))
    killer.join()
    assert emulators(bench.folder) == []


def test_cancelling_stops_the_machine(bench: Bench) -> None:
    cancel = threading.Event()
    with pytest.raises(MachineFault, match="cancelled"):
        bench.evaluate(
            BOARD,
            suite(check("long", "sleep 600", "x", timeout_seconds=600)),
            on_phase=lambda phase, what: cancel.set() if phase == "smoke" else None,
            cancel=cancel,
        )
    assert emulators(bench.folder) == []


def test_the_guest_cannot_reach_the_host(bench: Bench) -> None:
    probe = check(
        "probe",
        """ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up; route add default gw 10.0.2.2
        for host in 10.0.2.2 127.0.0.1 192.0.2.1; do
        nc -w 2 $host 22 </dev/null >/dev/null 2>&1 && echo reached $host; done; echo done""",
        r"\Adone$",
        timeout_seconds=60,
    )
    assert details(bench.boot(*suite(probe)))["probe"] == ""


def test_the_flash_keeps_its_content_within_a_trial_only(bench: Bench) -> None:
    mount = "mount -t jffs2 mtd:data /mnt && ls /mnt | wc -l; echo x >/mnt/mark; umount /mnt"
    restart = CheckSettings(name="r", kind="reboot", command="reboot -f")
    checks = suite(check("first", mount, "^0$"), restart, check("second", mount, "^1$", boot=2))
    for _ in range(2):
        assert set(details(bench.boot(*checks)).values()) == {""}


def test_nothing_is_left_of_a_running_emulator(bench: Bench) -> None:
    kernel = bench.kernel
    with QemuMachine(
        BOARD, kernel.image, kernel.device_tree, kernel.initramfs, bench.folder
    ) as machine:
        machine.start()
        deadline = time.monotonic() + 30
        while not (found := emulators(bench.folder)) and time.monotonic() < deadline:
            time.sleep(0.05)  # forked, and not QEMU yet
        [emulator] = found
    assert not Path(f"/proc/{emulator}").exists()
    assert version(BOARD).startswith("QEMU emulator version")


class TestQemu(EmulatorContract):
    """What the fake emulator is held to, on the real one."""

    @pytest.fixture
    def board(self) -> BoardSettings:
        return BOARD

    @pytest.fixture
    def kernel(self, small_kernel: Kernel) -> Kernel:
        return small_kernel
