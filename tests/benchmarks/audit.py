"""What a study promises, held against the kernel's own tools and plain builds.

Two audits of a folder with a trials.db. Round trips: the exported defconfig and the exported
fragment of the winner and of other trials, given to ``olddefconfig`` and ``merge_config.sh``, must
come to the very .config that the trial had. Savings: both sides of measured savings are built by a
plain make from the exported defconfig, each in an empty folder and with no object reused, and
booted by a plain QEMU; the difference in MemTotal must be the measured one, to the page.

What was built is written at once, so an audit that was cut short goes on where it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from optimizer.cli import workshop
from optimizer.cli.export import export
from optimizer.cli.host import cores
from optimizer.errors import MemtotalError, UserError
from optimizer.kernel.kbuild import REPRODUCIBLE
from optimizer.process import FolderLock, bound_to_parent
from optimizer.records import Attribution, Trial
from optimizer.settings import StudySettings, cache_folder, environment, load_study
from optimizer.store import Database

_SETTING = re.compile(r"CONFIG_\w+=.*|# CONFIG_\w+ is not set")
_TOTAL = re.compile(rb"^MemTotal:\s+(\d+) kB\r?$", re.M)
# BusyBox asks the terminal where its cursor is.
_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_ASK_AGAIN_SECONDS = 5.0


@dataclass(frozen=True)
class RoundTrip:
    """Whether a trial's exports give its .config; '' or what is wrong instead."""

    trial: int
    defconfig: str
    fragment: str


@dataclass(frozen=True)
class Side:
    """A variant built and booted on its own. ``problem`` tells why it has no figure, else ''."""

    trial: int
    config_sha256: str
    parameters: Mapping[str, str]
    tools: Mapping[str, str]
    mem_total_kb: int | None
    image_sha256: str
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Saving:
    """A measured saving beside the one found here, in kB of MemTotal."""

    pair: Attribution
    measured_kb: int
    independent_kb: int | None
    problem: str = ""

    @property
    def equal(self) -> bool:
        """Whether they are the same, to the page."""
        return self.independent_kb == self.measured_kb


class Plain:
    """The kernel's own tools and the emulator, as a person would call them.

    Args:
        settings: the study.
        folder: to work in; it is emptied for every build.
        jobs: parallel compilers.

    Raises:
        UserError: another audit is at work there.
        MachineFault: the folder cannot be written.
    """

    def __init__(self, settings: StudySettings, folder: Path, jobs: int) -> None:
        self._settings = settings
        self._jobs = jobs
        self._env = environment() | REPRODUCIBLE
        self._lock = FolderLock(folder)
        if not self._lock.acquire():
            raise UserError(f"{folder} is in use.", "Wait for the other audit to end.")
        self.out = folder / "out"
        self.exports = folder / "exports"
        self.exports.mkdir(exist_ok=True)
        self.log = folder / "audit.log"

    def close(self) -> None:
        """Remove what was built; the log of the last command stays."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.exports, ignore_errors=True)
        self._lock.release()

    def empty(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def configure(self, text: str) -> str:
        """What olddefconfig makes of a .config or defconfig.

        Raises:
            UserError: it fails.
        """
        (self.out / ".config").write_text(text, encoding="utf-8")
        self._make("olddefconfig")
        return (self.out / ".config").read_text(encoding="utf-8")

    def merge(self, base: str, fragment: str) -> str:
        """What merge_config.sh and olddefconfig make of a .config and a fragment.

        Raises:
            UserError: they fail.
        """
        files = self.exports / "base.config", self.exports / "memtotal.fragment"
        for path, text in zip(files, (base, fragment), strict=True):
            path.write_text(text, encoding="utf-8")
        script = self._settings.kernel.tree / "scripts/kconfig/merge_config.sh"
        self._run(["sh", str(script), "-m", "-O", str(self.out), *map(str, files)])
        self._make("olddefconfig")
        return (self.out / ".config").read_text(encoding="utf-8")

    def build(self) -> Path:
        """Build the image that is configured, and the board's device tree.

        Raises:
            UserError: it does not build.
        """
        kernel = self._settings.kernel
        self._make(kernel.target, *([kernel.device_tree] if kernel.device_tree else []))
        return self.out / kernel.image

    def boot(self, image: Path, parameters: Mapping[str, str]) -> int:
        """Boot the image and read MemTotal (kB) at the prompt.

        Raises:
            UserError: no figure came.
        """
        board = self._settings.board.with_parameters(parameters)
        flash, tftp = self.out / "audit-flash", self.out / "audit-tftp"
        tftp.mkdir(exist_ok=True)
        flash.write_bytes(b"\xff" * board.flash_bytes)
        argv = [board.emulator, "-M", board.machine, "-m", str(board.memory_mb), "-no-reboot"]
        argv += ["-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel", str(image)]
        if name := Path(self._settings.kernel.device_tree).name:
            argv += ["-dtb", str(next(self.out.glob(f"arch/*/boot/dts/**/{name}")))]
        argv += ["-initrd", str(self._settings.initramfs), "-append", board.command_line]
        argv += [
            one.replace("{tftp}", str(tftp)).replace("{flash}", str(flash))
            for one in board.arguments
        ]
        with subprocess.Popen(
            bound_to_parent(argv),
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as machine:
            try:
                return _mem_total(machine, re.compile(board.prompt.encode(), re.M),
                                  3 * board.boot_timeout_seconds)  # fmt: skip
            finally:
                machine.kill()

    def _make(self, *targets: str) -> None:
        kernel = self._settings.kernel
        variables = (f"{name}={value}" for name, value in kernel.make_variables.items())
        argv = ["make", "-C", str(kernel.tree), f"O={self.out}", f"ARCH={kernel.arch}"]
        argv += [f"CROSS_COMPILE={kernel.cross_compile}", *variables, f"-j{self._jobs}", *targets]
        self._run(argv)

    def _run(self, argv: Sequence[str]) -> None:
        with self.log.open("w", encoding="utf-8") as log:
            done = subprocess.run(
                bound_to_parent(argv),
                cwd=self.out,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise UserError(f"{' '.join(argv[:1])} {argv[-1]} failed.", f"See {self.log}.")


def _mem_total(machine: subprocess.Popen[bytes], prompt: re.Pattern[bytes], patience: float) -> int:
    """Ask for the figure at the prompt, and now and then: kernel messages get into both."""
    assert machine.stdin is not None
    assert machine.stdout is not None
    seen, asked, prompted = b"", time.monotonic(), False
    end = asked + patience
    while time.monotonic() < end:
        if select.select([machine.stdout], [], [], 0.2)[0]:
            data = os.read(machine.stdout.fileno(), 65536)
            if not data:
                break
            seen += data
        text = _ESCAPE.sub(b"", seen)
        if found := _TOTAL.search(text):
            return int(found[1])
        ready = not prompted and prompt.search(text) is not None
        if ready or time.monotonic() - asked > _ASK_AGAIN_SECONDS:
            asked, prompted = time.monotonic(), prompted or ready
            with contextlib.suppress(BrokenPipeError):  # its last words are still to be read
                machine.stdin.write(b"cat /proc/meminfo\n")
                machine.stdin.flush()
    last = seen.decode(errors="replace").strip().splitlines()[-1:]
    raise UserError(f"It does not tell its MemTotal; the last line: {''.join(last)!r}.")


def difference(wanted: str, got: str) -> str:
    """'' when two .configs have the same settings, else the first that differ."""
    one, other = (
        {line for line in text.splitlines() if _SETTING.fullmatch(line)} for text in (wanted, got)
    )
    return ", ".join([*(f"-{line}" for line in sorted(one - other)[:3]),
                      *(f"+{line}" for line in sorted(other - one)[:3])])  # fmt: skip


def exported(folder: Path, trial: int, kind: str, scratch: Path) -> str:
    """A trial's export, as a person gets it.

    Raises:
        UserError: there is none.
    """
    path = scratch / f"{trial}.{kind}"
    with contextlib.redirect_stdout(io.StringIO()):
        export.main(
            [str(folder), "--trial", str(trial), "--format", kind, "-o", str(path)],
            standalone_mode=False,
        )
    return path.read_text(encoding="utf-8")


def round_trips(
    plain: Plain, folder: Path, trials: Sequence[Trial], base: str
) -> Iterator[RoundTrip]:
    """The exports of each trial through the kernel's own tools.

    Args:
        plain: the tools.
        folder: with the trials.db.
        trials: with their .configs.
        base: the whole .config that the study's defconfig gives.
    """
    plain.empty()
    base = plain.configure(base)
    for trial in trials:
        wanted = trial.resolved.text
        by_defconfig = plain.configure(exported(folder, trial.number, "defconfig", plain.exports))
        by_fragment = plain.merge(base, exported(folder, trial.number, "fragment", plain.exports))
        yield RoundTrip(
            trial.number, difference(wanted, by_defconfig), difference(wanted, by_fragment)
        )


def some_trials(database: Database, count: int) -> list[Trial]:
    """The winner and so many others with .configs of their own, drawn the same way every time."""
    best = database.best()
    winner = None if best is None else database.trial(best)
    seen = {winner.resolved.digest} if winner else set()
    others: list[int] = []
    for one in database.trials():
        if one.resolved.digest not in seen:
            seen.add(one.resolved.digest)
            others.append(one.number)
    drawn = random.Random(0).sample(others, min(count, len(others)))
    return [*([winner] if winner else []), *map(database.trial, sorted(drawn))]


def some_savings(database: Database, count: int) -> list[tuple[Attribution, int]]:
    """So many options with a measured saving (kB), drawn the same way however many there are."""
    by_number = {one.number: one for one in database.trials()}
    found: dict[str, tuple[Attribution, int]] = {}
    for pair in database.attributions():
        having, lacking = by_number[pair.with_trial], by_number[pair.without_trial]
        if having.measurement and lacking.measurement:
            saved = having.measurement.mem_total_kb - lacking.measurement.mem_total_kb
            found.setdefault(pair.option, (pair, saved))
    drawn = sorted(found, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count]
    return sorted((found[name] for name in drawn), key=lambda one: -one[1])


class Sides:
    """Variants built and booted plainly, each once; kept in a file of JSON lines.

    Args:
        plain: the tools.
        folder: with the trials.db.
        database: of that folder.
        output: the file.
        tools: names and versions; what other tools built counts for nothing.
    """

    def __init__(
        self,
        plain: Plain,
        folder: Path,
        database: Database,
        output: Path,
        tools: Mapping[str, str],
    ) -> None:
        self._plain = plain
        self._folder = folder
        self._database = database
        self._output = output
        self._tools = dict(tools)
        sides = _read(output)
        self._known = {
            self._key(one.config_sha256, one.parameters): one
            for one in sides
            if one.tools == self._tools
        }

    @staticmethod
    def _key(digest: str, parameters: Mapping[str, str]) -> tuple[str, str]:
        return digest, json.dumps(dict(parameters), sort_keys=True)

    def missing(self, numbers: Sequence[int]) -> list[list[Trial]]:
        """The trials that are not built yet; those of one list need the same image."""
        found: dict[str, dict[tuple[str, str], Trial]] = {}
        for number in numbers:
            trial = self._database.trial(number)
            key = self._key(trial.resolved.digest, trial.assignment.parameters)
            if key not in self._known:
                found.setdefault(trial.resolved.digest, {})[key] = trial
        return [list(same.values()) for same in found.values()]

    def side(self, number: int) -> Side:
        """What came of a trial's variant."""
        trial = self._database.trial(number)
        return self._known[self._key(trial.resolved.digest, trial.assignment.parameters)]

    def build(self, same: Sequence[Trial]) -> None:
        """Build the image of these trials from the exported defconfig, and boot it for each."""
        began, image, problem = time.monotonic(), None, ""
        first = same[0]
        try:
            self._plain.empty()
            text = exported(self._folder, first.number, "defconfig", self._plain.exports)
            problem = difference(first.resolved.text, self._plain.configure(text))
            image = None if problem else self._plain.build()
        except UserError as error:
            problem = str(error)
        for trial in same:
            total = None
            if image is not None:
                try:
                    total, problem = self._plain.boot(image, trial.assignment.parameters), ""
                except UserError as error:
                    problem = str(error)
            self._keep(
                Side(
                    trial.number,
                    trial.resolved.digest,
                    dict(trial.assignment.parameters),
                    self._tools,
                    total,
                    hashlib.sha256(image.read_bytes()).hexdigest() if image else "",
                    round(time.monotonic() - began, 1),
                    problem,
                )
            )

    def _keep(self, side: Side) -> None:
        self._known[self._key(side.config_sha256, side.parameters)] = side
        if side.problem:
            return  # is tried again next time
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with self._output.open("a", encoding="utf-8") as lines:
            # A line that was cut short must not take this one with it.
            lines.write(f"\n{json.dumps(asdict(side))}\n")


def _read(path: Path) -> list[Side]:
    """The finished sides; a line that was cut short is not one."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError, TypeError):
            found.append(Side(**json.loads(line)))
    return found


def compared(pair: Attribution, measured_kb: int, sides: Sides) -> Saving:
    """A measured saving beside that of the plain builds."""
    having, lacking = sides.side(pair.with_trial), sides.side(pair.without_trial)
    if having.mem_total_kb is None or lacking.mem_total_kb is None:
        return Saving(pair, measured_kb, None, having.problem or lacking.problem)
    return Saving(pair, measured_kb, having.mem_total_kb - lacking.mem_total_kb)


def show_round_trips(found: Sequence[RoundTrip], screen: Console) -> None:
    """A line a trial."""
    table = Table("trial", "defconfig", "fragment", box=None, title_justify="left",
                  title="Exports through olddefconfig and merge_config.sh")  # fmt: skip
    for one in found:
        table.add_row(str(one.trial), one.defconfig or "identical", one.fragment or "identical")
    screen.print(table)
    wrong = sum(bool(one.defconfig or one.fragment) for one in found)
    screen.print(f"{len(found)} trials, {wrong} do not come to the same .config\n")


def show_savings(found: Sequence[Saving], screen: Console) -> None:
    """A line an option."""
    table = Table(box=None, title="Savings by plain clean builds and boots", title_justify="left")
    for name in ("option", "to", "at", "trials", "measured kB", "independent kB", ""):
        table.add_column(name, justify="right" if name.endswith("kB") else "left")
    for one in found:
        table.add_row(
            one.pair.option, one.pair.value, one.pair.kind.value,
            f"{one.pair.with_trial}-{one.pair.without_trial}", f"{one.measured_kb:+,}",
            "" if one.independent_kb is None else f"{one.independent_kb:+,}",
            "equal" if one.equal else f"DIFFERS {one.problem}".strip(),
        )  # fmt: skip
    screen.print(table)
    screen.print(f"{len(found)} options, {sum(not one.equal for one in found)} differ")


def main(arguments: Sequence[str]) -> None:
    """Audit, print the tables; exit code 1 when something differs, 2 when it cannot be audited."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make audit-reference")
    parser.add_argument("folder", type=Path, help="with a trials.db")
    parser.add_argument("--study", default="versatilepb", help="its study file or name")
    parser.add_argument("--options", type=int, default=15, help="savings to build; 0: none")
    parser.add_argument("--trials", type=int, default=20, help="round trips besides the winner's")
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--output", type=Path, default=Path("results/bench/audit.jsonl"))
    asked = parser.parse_args(arguments)
    if min(asked.options, asked.trials) < 0 or asked.jobs < 1:
        parser.error("--options and --trials cannot be negative, --jobs begins at 1")
    try:
        right = audit(asked, Console(width=None if sys.stdout.isatty() else 140))
    except MemtotalError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(0 if right else 1)


def audit(asked: argparse.Namespace, screen: Console) -> bool:
    """Make both audits; whether nothing differs.

    Raises:
        UserError: no such study or folder, or the tree is not what it was.
        MachineFault: the disk is full or broken.
    """
    settings, progress = load_study(asked.study), Console(stderr=True)
    if not (asked.folder / "trials.db").is_file():
        raise UserError(f"There is no {asked.folder / 'trials.db'}.", "Name a study's folder.")
    base = workshop.defconfig_path(settings).read_text(encoding="utf-8")
    plain = Plain(settings, cache_folder() / "audit-plain", asked.jobs)
    try:
        with Database.read(asked.folder / "trials.db") as database:
            trips = []
            for trip in round_trips(plain, asked.folder, some_trials(database, asked.trials), base):
                word = "differs" if trip.defconfig or trip.fragment else "identical"
                progress.print(f"trial {trip.trial}: exports {word}")
                trips.append(trip)
            show_round_trips(trips, screen)
            wanted = some_savings(database, asked.options)
            if len(wanted) < asked.options:
                screen.print(f"{len(wanted)} options have a measured saving, not {asked.options}.")
            tools = workshop.tools(settings, workshop.symbol_tree(settings))
            sides = Sides(plain, asked.folder, database, asked.output, tools)
            numbers = [
                number for pair, _ in wanted for number in (pair.with_trial, pair.without_trial)
            ]
            missing = sides.missing(numbers)
            for index, same in enumerate(missing, 1):
                progress.print(f"building trial {same[0].number}: {index} of {len(missing)} ...")
                sides.build(same)
            savings = [compared(pair, saved, sides) for pair, saved in wanted]
            show_savings(savings, screen)
    finally:
        plain.close()
    return all(one.equal for one in savings) and not any(
        one.defconfig or one.fragment for one in trips
    )


if __name__ == "__main__":
    main(sys.argv[1:])
