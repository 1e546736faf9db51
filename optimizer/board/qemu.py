"""A board modelled by QEMU: its command line from settings, its process, its flash image."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from optimizer.board.console import Console
from optimizer.board.machine import Ending
from optimizer.errors import MachineFault, UserError
from optimizer.process import bound_to_parent, kill_group
from optimizer.settings import BoardSettings, environment

_END_SECONDS = 10.0
# Signals that somebody else sends. The emulator's own (ABRT, SEGV) come from what the guest did.
_FROM_OUTSIDE = frozenset(
    {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT}
)
# The emulator's words for a kernel that does not fit or that did what no machine allows:
# hw/arm/boot.c, hw/core/loader.c, cpu.c (hw_error, cpu_abort).
_GUESTS_FAULT = re.compile(
    r"could not load|not enough space|too (?:large|big)|overlap|hardware error|qemu: fatal",
    re.IGNORECASE,
)
# Its words for arguments that no retry makes right: softmmu/vl.c, util/qemu-option.c, qom/object.c.
_SETTINGS_FAULT = re.compile(
    r"invalid (?:option|parameter)|unsupported machine type|requires an argument"
    r"|not a valid|property .* not found|expects|unsupported NIC model|unknown (?:option|type)",
    re.IGNORECASE,
)
_NETWORK_OPTIONS = frozenset({"-nic", "-netdev", "-net"})


def version(board: BoardSettings) -> str:
    """The emulator's name and version, one line.

    Raises:
        UserError: it is not installed.
        MachineFault: it could not be run.
    """
    program = _installed(board.emulator)
    try:
        answer = subprocess.run(
            [program, "--version"],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineFault(f"{board.emulator} could not be run: {error}.") from error
    return next(iter(answer.stdout.splitlines()), "").strip()


def arguments(
    board: BoardSettings,
    image: Path,
    device_tree: Path | None,
    initramfs: Path,
    *,
    tftp: Path,
    flash: Path,
    console_fd: int,
) -> list[str]:
    """The emulator's whole command line.

    The guest's network ends inside the emulator: user networking is always restricted. The console
    is a socket of its own, because the emulator prints things of its own on standard output.

    Raises:
        UserError: the board's arguments would connect the guest to the host or its network.
    """
    given = [
        # QEMU reads ",," in a value as a comma that belongs to it.
        one.replace("{tftp}", str(tftp).replace(",", ",,")).replace(
            "{flash}", str(flash).replace(",", ",,")
        )
        for one in board.arguments
    ]
    argv = [board.emulator, "-M", board.machine, "-m", str(board.memory_mb), "-nodefaults"]
    argv += ["-display", "none", "-monitor", "none", "-audiodev", "none,id=silent"]
    argv += ["-chardev", f"socket,id=console,fd={console_fd}", "-serial", "chardev:console"]
    argv += ["-no-reboot", "-kernel", str(image)]
    if device_tree is not None:
        argv += ["-dtb", str(device_tree)]
    argv += ["-initrd", str(initramfs), "-append", board.command_line]
    return argv + _without_host(given)


class QemuMachine:
    """A QEMU process behind the Machine protocol; a context manager that leaves nothing behind.

    Args:
        board: its settings.
        image: the kernel.
        device_tree: the .dtb, None when the machine needs none.
        initramfs: the root file system.
        workdir: folder for the transcript (console.log), the emulator's messages (qemu.log), and
            what is removed in the end: the flash image and the TFTP folder.
        cancel: when set, every wait on the console ends with a MachineFault.

    Raises:
        UserError: the emulator is not installed or the board's settings are not usable.
        MachineFault: the work folder cannot be written.
    """

    def __init__(
        self,
        board: BoardSettings,
        image: Path,
        device_tree: Path | None,
        initramfs: Path,
        workdir: Path,
        *,
        cancel: threading.Event | None = None,
    ) -> None:
        self._board = board
        self._workdir = workdir.absolute()
        self._cancel = cancel
        self._flash = self._workdir / "flash.img"
        self._tftp = self._workdir / "tftp"
        self._child: subprocess.Popen[bytes] | None = None
        self._console: Console | None = None
        self._image = _file(image, "the kernel image")
        self._device_tree = _file(device_tree, "the device tree") if device_tree else None
        self._initramfs = _file(initramfs, "the initramfs")
        self._emulator = _installed(board.emulator)
        self._command(0)  # what the settings have wrong is told now, not at the first boot
        if any("{flash}" in one for one in board.arguments) and not board.flash_bytes:
            raise UserError("The board uses {flash} in its arguments, but flash_bytes is 0.")

    @property
    def transcript(self) -> Path:
        """All that the guest said, boot after boot."""
        return self._workdir / "console.log"

    @property
    def tftp_folder(self) -> Path:
        """The folder whose files the guest can fetch by TFTP."""
        return self._tftp

    def __enter__(self) -> Self:
        try:
            self._tftp.mkdir(parents=True, exist_ok=True)
            self.transcript.unlink(missing_ok=True)
            _erase(self._flash, self._board.flash_bytes)
        except OSError as error:
            self._clear()
            raise MachineFault(
                f"{self._workdir} cannot be written: {error}.", "Check the free disk space."
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._clear()

    def start(self) -> Console:
        """Power on (off first if it is on).

        Raises:
            MachineFault: the process cannot be started.
        """
        self.stop()
        ours, theirs = socket.socketpair()
        try:
            with theirs, (self._workdir / "qemu.log").open("wb") as messages:
                # The kernel ends the emulator with this thread's process, however that one dies.
                self._child = subprocess.Popen(
                    bound_to_parent(self._command(theirs.fileno()), "KILL"),
                    stdin=subprocess.DEVNULL,
                    stdout=messages,
                    stderr=messages,
                    cwd=self._workdir,
                    env=environment(),
                    start_new_session=True,
                    pass_fds=(theirs.fileno(),),
                )
        except OSError as error:
            ours.close()
            raise MachineFault(f"{self._board.emulator} could not be run: {error}.") from error
        self._console = Console(
            ours.detach(), self.transcript, self._board.prompt, cancel=self._cancel
        )
        return self._console

    def ending(self) -> Ending:
        """How it ended; to be asked once its console has ended.

        A status other than 0 is the variant's doing when the guest had spoken or the emulator says
        that it cannot run this kernel; else the machine is at fault.

        Raises:
            UserError: it did not take its arguments.
            MachineFault: it was killed from outside, or could not start.
        """
        child = self._child
        if child is None:
            return Ending(clean=False, detail="the machine is off")
        name = self._board.emulator
        try:
            code = child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return Ending(clean=False, detail=f"{name} closed its console and went on")
        if code == 0:
            return Ending(clean=True)
        message = self._last_message()
        if code < 0:
            number = signal.Signals(-code)
            if number in _FROM_OUTSIDE:
                raise MachineFault(f"{name} was killed by {number.name} from outside.")
            return Ending(clean=False, detail=f"{name} died of {number.name}: {message}")
        spoke = self.transcript.exists() and self.transcript.stat().st_size > 0
        if spoke or _GUESTS_FAULT.search(message):
            return Ending(clean=False, detail=f"{name} ended with status {code}: {message}")
        if _SETTINGS_FAULT.search(message):
            raise UserError(
                f"{name} does not take the board's settings: {message}.", "Correct the board file."
            )
        raise MachineFault(
            f"{name} could not start: {message or f'status {code}'}.",
            "Check the free memory and disk space. Run: memtotal doctor",
        )

    def stop(self) -> None:
        """Power off and leave nothing running; no error when it is off."""
        if self._child is not None:
            kill_group(self._child.pid)
            self._child.wait()
            self._child = None
        if self._console is not None:
            self._console.close()
            self._console = None

    def _clear(self) -> None:
        """Remove what is large and can be made again."""
        with contextlib.suppress(OSError):
            self._flash.unlink(missing_ok=True)
        shutil.rmtree(self._tftp, ignore_errors=True)

    def _last_message(self) -> str:
        try:
            text = (self._workdir / "qemu.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        known = [one for one in lines if _GUESTS_FAULT.search(one) or _SETTINGS_FAULT.search(one)]
        return next(reversed(known or lines), "")[:200]

    def _command(self, console_fd: int) -> list[str]:
        argv = arguments(
            self._board,
            self._image,
            self._device_tree,
            self._initramfs,
            tftp=self._tftp,
            flash=self._flash,
            console_fd=console_fd,
        )
        return [self._emulator, *argv[1:]]


def _installed(emulator: str) -> str:
    path = shutil.which(emulator, path=environment().get("PATH"))
    if path is None:
        raise UserError(f"{emulator} is not installed.", "Run: memtotal doctor")
    return path


def _file(path: Path, what: str) -> Path:
    if not path.is_file():
        raise UserError(f"{what[0].upper()}{what[1:]} {path} is not there.")
    return path.absolute()


def _erase(flash: Path, size: int) -> None:
    """Erased NOR flash is all ones, so a sparse file does not do. 64 MiB take 15-40 ms."""
    block = b"\xff" * (1 << 20)
    with flash.open("wb", buffering=0) as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])


def _without_host(given: Sequence[str]) -> list[str]:
    argv: list[str] = []
    networks = 0
    for number, one in enumerate(given):
        if number and given[number - 1] in _NETWORK_OPTIONS:
            networks += 1
            one = _restricted(one)
        argv.append(one)
    return argv if networks else [*argv, "-nic", "none"]


def _restricted(value: str) -> str:
    """A network option that stays inside the emulator.

    Raises:
        UserError: it would not.
    """
    kind, *rest = value.split(",")
    if kind in ("none", "nic", "hubport"):
        return value
    forbidden = [part for part in rest if part.startswith(("hostfwd=", "guestfwd=", "smb="))]
    forbidden += [part for part in rest if part.startswith("restrict=") and part != "restrict=on"]
    if kind != "user" or forbidden:
        raise UserError(
            f"The board's network option {value!r} reaches beyond the emulator.",
            "Use user,restrict=on,... without hostfwd, guestfwd and smb.",
        )
    return value if "restrict=on" in rest else ",".join(["user", "restrict=on", *rest])
