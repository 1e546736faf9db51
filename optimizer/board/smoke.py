"""One boot of one variant: its figures, and the checks that say "it still works"."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from optimizer.board.console import Arrival, Console, Loss, Reply
from optimizer.board.faults import Trouble
from optimizer.board.machine import Ending, Machine
from optimizer.board.qemu import QemuMachine
from optimizer.errors import MachineFault, UserError
from optimizer.process import Deadline
from optimizer.records import NOT_RUN, BootResult, BootState, CheckResult
from optimizer.settings import BoardSettings, CheckSettings, Suite, checks_in_order

# A check of the kernel's own messages is made on every variant that comes to its shell.
KERNEL_SUITE, NO_OOPS = "kernel", "no_oops"

_READING_SECONDS = 20.0
_INTERRUPT_SECONDS = 10.0
_DETAIL = 300
# The shell's line editor drops what is beyond 1024 characters; the markers need some of them.
_COMMAND_LINE = 900
_TYPED_LINE = 64
_MD5 = re.compile(r"\{md5:([^}]+)\}")
_TYPED = "typed"

OnPhase = Callable[[str, str], None]


def evaluate(
    board: BoardSettings,
    image: Path,
    device_tree: Path | None,
    initramfs: Path,
    suites: Sequence[Suite],
    workdir: Path,
    *,
    on_phase: OnPhase | None = None,
    cancel: threading.Event | None = None,
) -> BootResult:
    """Boot a kernel in the emulator, read its figures, run the suites' checks.

    Args:
        board: the machine.
        image: the kernel.
        device_tree: the .dtb, None when the machine needs none.
        initramfs: the root file system.
        suites: what must work.
        workdir: a folder of this trial; gets console.log, the transcript.
        on_phase: told ("boot", "1"), ("smoke", "suite/check") as they begin.
        cancel: when set, the machine is stopped at once.

    Raises:
        UserError: the emulator is missing, or a setting cannot be used.
        MachineFault: the emulator could not run or was killed, or ``cancel`` was set.
    """
    with QemuMachine(board, image, device_tree, initramfs, workdir, cancel=cancel) as machine:
        return examine(machine, board, suites, machine.transcript, on_phase=on_phase)


def examine(
    machine: Machine,
    board: BoardSettings,
    suites: Sequence[Suite],
    transcript: Path,
    *,
    on_phase: OnPhase | None = None,
) -> BootResult:
    """The same on any machine.

    Args:
        machine: entered already; left powered off or on as it comes.
        board: its deadlines.
        suites: what must work.
        transcript: where the machine's consoles write.
        on_phase: told of each boot and check as it begins.

    Raises:
        UserError, MachineFault: as for evaluate().
    """
    checks = checks_in_order(suites)
    sums = _make_files(checks, machine.tftp_folder)
    examination = _Examination(machine, board, sums, on_phase or (lambda phase, what: None))
    arrival = examination.boot()
    if arrival.state is not BootState.READY:
        return BootResult(
            arrival.state,
            arrival.seconds,
            transcript,
            detail=arrival.detail,
            kernel_log=arrival.text,
        )
    began = time.monotonic()
    meminfo, log = examination.read_figures(arrival)
    results = [examination.check(suite, check) for suite, check in checks]
    results.append(examination.kernel_messages())
    return BootResult(
        arrival.state,
        arrival.seconds,
        transcript,
        smoke_seconds=time.monotonic() - began,
        detail=next(
            (f"{one.suite}/{one.name}: {one.detail}" for one in results if not one.passed), ""
        ),
        kernel_log=log,
        meminfo_text=meminfo,
        checks=tuple(results),
    )


class _Examination:
    """The checks of one variant, in order; knows why no more of them can be made."""

    def __init__(
        self,
        machine: Machine,
        board: BoardSettings,
        sums: Mapping[str, str],
        on_phase: OnPhase,
    ) -> None:
        self._machine = machine
        self._board = board
        self._sums = sums
        self._on_phase = on_phase
        self._console: Console | None = None
        self._boots = 0
        self._lost = ""
        self._troubles: list[str] = []
        self._restarts: dict[tuple[int, str], CheckResult] = {}

    def boot(self) -> Arrival:
        """Power on and wait for the shell.

        Raises:
            MachineFault: the emulator ended, and not because of the kernel.
        """
        self._note_troubles()
        self._boots += 1
        self._on_phase("boot", str(self._boots))
        self._console = self._machine.start()
        arrival = self._console.wait_for_prompt(
            Deadline(self._board.boot_timeout_seconds), self._board.silence_timeout_seconds
        )
        if self._console.ended:
            ending = self._machine.ending()
            if ending.detail:
                detail = f"{arrival.detail}; {ending.detail}"
                return Arrival(arrival.state, arrival.seconds, arrival.text, detail)
        return arrival

    def read_figures(self, arrival: Arrival) -> tuple[str, str]:
        """/proc/meminfo, before anything else has used memory, and the kernel's log."""
        meminfo = self._run("cat /proc/meminfo", Deadline(_READING_SECONDS))
        log = self._run("dmesg", Deadline(_READING_SECONDS))
        # A small ring has lost its beginning, which the console may have shown.
        whole = log.ok and ("Linux version" in log.raw or "Linux version" not in arrival.text)
        return meminfo.output if meminfo.ok else "", log.raw if whole else arrival.text

    def check(self, suite: str, check: CheckSettings) -> CheckResult:
        """Run one check, unless the guest is lost."""
        self._on_phase("smoke", f"{suite}/{check.name}")
        began = time.monotonic()
        if self._lost:
            problem = f"{NOT_RUN}: {self._lost}"
        elif check.kind == "reboot":
            return self._restart_once(suite, check)
        else:
            problem = self._problem(check)
        return _result(suite, check.name, began, problem)

    def kernel_messages(self) -> CheckResult:
        """Whether the kernel told of an oops, a BUG or a panic on any of the boots."""
        self._note_troubles()
        return _result(KERNEL_SUITE, NO_OOPS, time.monotonic(), "; ".join(self._troubles))

    def _note_troubles(self) -> None:
        if self._console is not None:
            self._console.settle()
            self._troubles += [
                one.line for one in self._console.findings if one.trouble is not Trouble.HALTED
            ]

    def _run(self, command: str, deadline: Deadline, typed: bytes = b"") -> Reply:
        if self._console is None or self._lost:
            return Reply("", "", 0.0, loss=Loss.ENDED, detail=self._lost)
        reply = self._console.run(command, deadline, typed=typed)
        if reply.loss is Loss.DEAD:
            self._lost = reply.detail
        elif reply.loss is Loss.ENDED:
            self._lost = f"the machine ended {self._machine.ending().detail}".strip()
        elif reply.loss is Loss.TIMEOUT and not self._console.interrupt(
            Deadline(_INTERRUPT_SECONDS)
        ):
            dead = self._console.dead
            self._lost = dead.line if dead else "the console no longer answers"
        return reply

    def _problem(self, check: CheckSettings) -> str:
        """What is wrong; '' when the check passed."""
        typed = _random_lines(check.bytes) if check.kind == "typed" else b""
        sums = {**self._sums, _TYPED: hashlib.md5(typed, usedforsecurity=False).hexdigest()}
        expected = _filled(check.expect, sums)
        before = time.time()
        reply = self._run(
            _filled(check.command, sums), Deadline(check.timeout_seconds), typed=typed
        )
        after = time.time()
        if reply.loss is not None:
            what = f"{reply.detail} after {reply.seconds:.1f} s"
            return f"expected /{expected}/, but {what}{_came(reply.output)}"
        # A line that only looks like the kernel's is the command's when it is what was asked for.
        match = re.search(expected, reply.output, re.MULTILINE) or re.search(
            expected, reply.raw, re.MULTILINE
        )
        if match is None:
            return f"expected /{expected}/, exit status {reply.status}{_came(reply.output)}"
        if check.kind == "host_clock":
            return _clock_problem(match, before, after, check.tolerance_seconds)
        return ""

    def _restart_once(self, suite: str, check: CheckSettings) -> CheckResult:
        """Restart the machine, or give the verdict of the restart that another suite asked for."""
        key = (check.boot, check.command)
        if known := self._restarts.get(key):
            return CheckResult(suite, check.name, known.passed, 0.0, known.detail)
        began = time.monotonic()
        problem = self._restart(check)
        if problem and not self._lost:
            self._lost = f"no restart: {problem}"
        result = _result(suite, check.name, began, problem)
        self._restarts[key] = result
        return result

    def _restart(self, check: CheckSettings) -> str:
        """What is wrong with the restart; '' when the shell is there again."""
        console = self._console
        if console is None:
            return "the machine is off"
        deadline = Deadline(check.timeout_seconds)
        console.send(check.command, deadline)
        if not console.wait_for_end(deadline):
            dead = console.dead
            if dead is not None:
                return dead.line
            return f"{check.command!r} did not end the machine within {check.timeout_seconds:g} s"
        ending: Ending = self._machine.ending()
        if not ending.clean:
            return f"the machine did not end cleanly: {ending.detail}"
        arrival = self.boot()
        if arrival.state is not BootState.READY:
            return f"boot {self._boots}: {arrival.state.value}: {arrival.detail}"
        return ""


def _result(suite: str, name: str, began: float, problem: str) -> CheckResult:
    return CheckResult(suite, name, not problem, time.monotonic() - began, problem[:_DETAIL])


def _came(output: str) -> str:
    text = output.strip()
    return f", got {text[-120:]!r}" if text else ", got nothing"


def _clock_problem(match: re.Match[str], before: float, after: float, tolerance: float) -> str:
    """The guest read its clock at some time between ``before`` and ``after``."""
    if not match.groups() or not match.group(1):
        return "the check's 'expect' has no group 1 with seconds since 1970"
    try:
        told = float(match.group(1))
    except ValueError:
        return f"{match.group(1)[:40]!r} is not a number of seconds"
    if before - tolerance <= told <= after + tolerance:
        return ""
    off = told - before if told < before else told - after
    return f"the guest's clock is off by {off:+.0f} s, more than {tolerance:g} s"


def _filled(text: str, sums: Mapping[str, str]) -> str:
    return _MD5.sub(lambda found: sums[found.group(1)], text)


def _random_lines(count: int) -> bytes:
    """So many letters and digits in lines short enough for a terminal's line buffer."""
    letters = os.urandom(count).hex()[:count]
    lines = [
        letters[start : start + _TYPED_LINE - 1] + "\n" for start in range(0, count, _TYPED_LINE)
    ]
    return "".join(lines)[: count - 1].encode() + b"\n"


def _make_files(checks: Sequence[tuple[str, CheckSettings]], folder: Path) -> dict[str, str]:
    """Make the files that the checks ask for; their checksums by name.

    Raises:
        UserError: a check names a checksum of no file, or two want different files of one name.
        MachineFault: the folder cannot be written.
    """
    sizes: dict[str, int] = {}
    for suite, check in checks:
        for name, size in check.files.items():
            if sizes.setdefault(name, size) != size or name == _TYPED:
                raise UserError(f"{suite}/{check.name}: the file name {name} is taken already.")
        if max(map(len, check.command.splitlines())) > _COMMAND_LINE:
            raise UserError(
                f"{suite}/{check.name}: a line of the command is longer than {_COMMAND_LINE}."
            )
    for suite, check in checks:
        known = {*sizes, _TYPED} if check.kind == "typed" else set(sizes)
        if unknown := set(_MD5.findall(check.command + check.expect)) - known:
            raise UserError(
                f"{suite}/{check.name}: {{md5:{min(unknown)}}} names no file.",
                "Add it to the check's 'files'.",
            )
    sums = {}
    for name, size in sizes.items():
        content = os.urandom(size)
        sums[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        try:
            (folder / name).write_bytes(content)
        except OSError as error:
            raise MachineFault(f"{folder / name} cannot be written: {error}.") from error
    return sums
