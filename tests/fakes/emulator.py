"""The fake emulator: QEMU's command line, a real shell on a terminal as the guest's user space.

It reads from the image (made by the fake kernel tree) which options the kernel has, says on its
console what such a kernel would say, and then connects the console with a shell whose /proc/meminfo
and kernel log are the guest's. Options of the command line that it does not know end it with the
real one's words, so that what the product asks of an emulator is held to something.
"""

from __future__ import annotations

# Importing pathlib takes longer than all the rest of a start.
# ruff: noqa: PTH113, PTH118, PTH120, PTH123
import os
import pty
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing that a start would have to wait for
    from collections.abc import Callable

VERSION = "FAKE emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"
MACHINES = ("fakeboard", "versatilepb")
# Options that take a value, and those that stand alone.
VALUED = ("-M", "-m", "-display", "-monitor", "-audiodev", "-chardev", "-serial", "-kernel", "-dtb")
VALUED += ("-initrd", "-append", "-nic", "-drive", "-d", "-D")
FLAGS = ("-nodefaults", "-no-reboot")
HALTED = 3600.0


class Image:
    """What the fake kernel tree wrote into an image."""

    def __init__(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                lines = stream.read().splitlines()
        except OSError:
            fail(f"could not load kernel '{path}'")
        self.bootable = lines[:1] == ["FAKE KERNEL IMAGE"]
        self.options: set[str] = set()
        self.values: dict[str, str] = {}
        self.costs: dict[str, int] = {}
        self.lost: dict[str, tuple[str, str]] = {}
        self.delays: dict[str, str] = {}
        self.symbols: dict[str, str] = {}
        self.fixed = 0
        for line in lines if self.bootable else ():
            self._read(line)

    def _read(self, line: str) -> None:
        words = line.split(None, 3)
        if line.startswith("CONFIG_"):
            name, _, value = line.removeprefix("CONFIG_").partition("=")
            self.values[name] = value
            if value == "y":
                self.options.add(name)
        elif line.startswith("fixed "):
            self.fixed = int(words[1])
        elif line.startswith("cost "):
            self.costs[words[1]] = int(words[2])
        elif line.startswith("lost "):
            self.lost[words[1]] = (words[2], words[3] if len(words) > 3 else "")
        elif line.startswith("delay "):
            self.delays[words[1]] = words[2]
        elif line.startswith("symbol ") and len(words) == 4:
            self.symbols[words[3]] = words[1]

    @property
    def reserved_kb(self) -> int:
        """What the kernel keeps for itself."""
        ring = 1 << int(self.values.get("LOG_BUF_SHIFT", "10")) >> 10
        return self.fixed + ring + sum(self.costs.get(name, 0) for name in self.options)

    def trouble(self) -> dict[str, str]:
        """How it ends -> the line that says so, for options that it lacks."""
        return {how: line for name, (how, line) in self.lost.items() if name not in self.options}


class Guest:
    """One machine, from power on to power off."""

    def __init__(
        self, given: dict[str, str], image: Image, console: socket.socket | Terminal
    ) -> None:
        self._given = given
        self._image = image
        self._console = console
        self._log: list[str] = []
        self._began = time.monotonic()
        self._reboot = False
        words = given.get("-append", "").split()
        self._arguments = dict(word.partition("=")[::2] for word in words)

    def run(self) -> None:
        """Boot, and be a shell until the guest restarts the machine."""
        image = self._image
        trouble = image.trouble()
        self._trace(lambda name: name.endswith("_init") or name == "start_kernel")
        if not image.bootable or "silent" in trouble:
            time.sleep(HALTED)
        total = int(self._given["-m"]) * 1024
        self._say("Booting Linux on physical CPU 0x0")
        self._say(f"Linux version 5.10.7{image.values.get('LOCALVERSION', '').strip(chr(34))}")
        self._say(f"Kernel command line: {self._given.get('-append', '')}")
        self._say(
            f"Memory: {total - image.reserved_kb - 64}K/{total}K available (1200K kernel code, "
            f"80K rwdata, 90K rodata, 64K init, 20K bss, {image.reserved_kb + 64}K reserved)"
        )
        time.sleep(float(image.delays.get("boot", "0")))
        if "hang" in trouble:
            self._say(trouble["hang"])
            time.sleep(HALTED)
        if "oops" in trouble:
            self._say(trouble["oops"])
            time.sleep(HALTED)
        if "panic" in trouble:
            self._panic(trouble["panic"])
        if not self._rooted():
            self._panic(
                "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
            )
        if "warn" in trouble:
            self._say(trouble["warn"])
        self._say("Freeing unused kernel memory: 64K")
        self._say("Run /init as init process")
        self._shell(total)

    def _rooted(self) -> bool:
        if self._arguments.get("rdinit") != "/init":
            return False
        with open(self._given["-initrd"], "rb") as stream:
            return stream.read(2) == b"\x1f\x8b"

    def _say(self, line: str) -> None:
        if "PRINTK" not in self._image.options:
            return
        if self._arguments.get("printk.time") == "1":
            line = f"[{time.monotonic() - self._began:12.6f}] {line}"
        self._log.append(line)
        if "SERIAL_CONSOLE" in self._image.options:
            self._console.sendall(f"{line}\r\n".encode())

    def _panic(self, line: str) -> None:
        self._say(line)
        self._say(f"---[ end {line} ]---")
        if self._arguments.get("panic") != "-1":
            time.sleep(HALTED)
        restart()

    def _shell(self, total: int) -> None:
        free = total - self._image.reserved_kb
        meminfo = {"MemTotal": free, "MemFree": free - 900, "MemAvailable": free - 700, "Slab": 300}
        flash = [one for one in self._given.get("-drive", "").split(",") if one[:5] == "file="]
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PS1": "# ",
            "HOME": "/",
            "ENV": os.path.join(os.path.dirname(os.path.realpath(__file__)), "guest.sh"),
            "OPTIONS": " ".join(sorted(self._image.options)),
            "MEMINFO": "\n".join(f"{name + ':':<16}{kb:>8} kB" for name, kb in meminfo.items()),
            "KERNEL_LOG": "\n".join(self._log),
            "DELAYS": " ".join(f"{name}={value}" for name, value in self._image.delays.items()),
            "FLASH": flash[0][5:] if flash else "/nonexistent",
            "EMULATOR": str(os.getpid()),
        }
        pid, terminal = pty.fork()
        if pid == 0:
            # The shell leads a session of its own and must not outlive a killed emulator.
            argv = ["setpriv", "--pdeathsig", "KILL", "--", "/bin/sh", "-i"]
            os.execvpe(argv[0], argv, environment)  # noqa: S606
        signal.signal(signal.SIGUSR1, lambda _number, _frame: self._restart(pid))
        self._connect(terminal)

    def _connect(self, terminal: int) -> None:
        """Carry bytes between the console and the shell's terminal."""
        ends = [self._console.fileno(), terminal]
        typed = b""
        while True:
            for end in select.select(ends, [], [])[0]:
                try:
                    data = os.read(end, 4096)
                except OSError:
                    data = b""
                if not data:
                    ends.remove(end)  # as the real one, it goes on without a reader
                elif end == terminal:
                    self._console.sendall(data)
                else:
                    typed = (typed + data)[-65536:]
                    self._used(typed)
                    for start in range(0, len(data), 256):
                        os.write(terminal, data[start : start + 256])
            if terminal not in ends:
                time.sleep(HALTED)

    def _restart(self, shell: int) -> None:
        os.kill(shell, signal.SIGKILL)
        self._say("reboot: Restarting system")
        restart()

    def _used(self, typed: bytes) -> None:
        if b"feature " in typed:
            used = {name.lower() for name in self._image.options if name.encode() in typed}
            self._trace(lambda name: name.removesuffix("_use") in used)

    def _trace(self, ran: Callable[[str], bool]) -> None:
        """Log the code of the functions that ran, as -d in_asm does."""
        if self._given.get("-d") != "in_asm" or "-D" not in self._given:
            return
        with open(self._given["-D"].replace("%d", str(os.getpid())), "a") as log:
            for name, address in self._image.symbols.items():
                if ran(name):
                    log.write("----------------\nIN: \n")
                    log.write(f"0x{int(address, 16):08x}:  e1a0c00d  mov      ip, sp\n\n")


class Terminal:
    """Standard input and output in the place of a console's socket: -serial stdio."""

    def sendall(self, data: bytes) -> None:
        """What the guest prints."""
        os.write(1, data)

    def fileno(self) -> int:
        """Where what is typed comes from."""
        return 0


def restart() -> None:
    """What -no-reboot makes of a restart; without it the product would wait for ever."""
    if "-no-reboot" in sys.argv:
        os._exit(0)
    time.sleep(HALTED)


def fail(message: str) -> None:
    """End as the real one does when it cannot start."""
    sys.stderr.write(f"fake-emulator: {message}\n")
    raise SystemExit(1)


def parse(argv: list[str]) -> dict[str, str]:
    """Options and their values; what is not known ends the program."""
    given: dict[str, str] = {}
    rest = list(argv)
    while rest:
        option = rest.pop(0)
        if option in FLAGS:
            given[option] = ""
        elif option not in VALUED:
            fail(f"{option}: invalid option")
        elif not rest:
            fail(f"{option}: requires an argument")
        else:
            given[option] = rest.pop(0)
    return given


def main() -> None:
    """Check the arguments as QEMU would, then boot."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{VERSION}\nCopyright: nobody's\n")
        return
    given = parse(sys.argv[1:])
    if given.get("-M") not in MACHINES:
        fail(f"unsupported machine type\nUse -machine help to list supported machines: {MACHINES}")
    if not given.get("-m", "").isdigit():
        fail("Parameter 'size' expects a non-negative number below 2^64")
    for option in ("-dtb", "-initrd"):
        if option in given and not os.path.isfile(given[option]):
            fail(f"could not load '{given[option]}'")
    if given.get("-serial") == "stdio":
        Guest(given, Image(given["-kernel"]), Terminal()).run()
        return
    device = dict(part.partition("=")[::2] for part in given.get("-chardev", "").split(","))
    if given.get("-serial") != f"chardev:{device.get('id')}" or "fd" not in device:
        fail("-serial: no such character device")
    with socket.socket(fileno=int(device["fd"])) as console:
        Guest(given, Image(given["-kernel"]), console).run()


if __name__ == "__main__":
    main()
