"""What ``memtotal init-audit`` finds, marked in the source, built and booted.

A copy of the kernel tree gets ``__init``, ``__initdata`` or ``__initconst`` at the definitions of a
trial's candidates; it is built with the trial's .config by plain make in an empty folder, no object
reused, and booted with the study's checks. The candidates are right when modpost sees no section
mismatch and every check passes; MemTotal tells what they are worth.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import shutil
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.marks import Unmarkable, including_init, marked
from optimizer.cli import workshop
from optimizer.cli.explain import WINNER, named_trial
from optimizer.cli.host import cores
from optimizer.cli.initaudit import audit_of
from optimizer.cli.workbench import Workbench
from optimizer.errors import MachineFault, MemtotalError, UserError
from optimizer.memory.initaudit import Candidate
from optimizer.process import FolderLock
from optimizer.records import Outcome, Trial
from optimizer.search.trial import Slot, Variant
from optimizer.settings import StudySettings, cache_folder, environment, load_study
from optimizer.store import Database

_MISMATCH = re.compile(r"section mismatch in reference|EXPORT_SYMBOL used for init/exit", re.I)
_MISMATCHES = re.compile(r"Found \d+ section mismatch|Section mismatches detected")


@dataclass(frozen=True)
class Mark:
    """A candidate, the file it is defined in, and its attribute; '' and ``why`` where it has
    none."""

    candidate: Candidate
    file: str
    attribute: str = ""
    why: str = ""


@dataclass(frozen=True)
class Verdict:
    """What came of the marked kernel.

    ``mismatches`` are lines of modpost's; ``problem`` is what else is wrong, else ''. Figures in kB
    of MemTotal.
    """

    mismatches: tuple[str, ...]
    problem: str
    passed: int
    checks: int
    before_kb: int | None
    after_kb: int | None

    @property
    def right(self) -> bool:
        """Whether it built without a mismatch, booted, and passed every check."""
        return not self.mismatches and not self.problem


def sample(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """The first so many (0: all), and those that must move before them."""
    chosen = list(candidates[: count or None])
    for one in chosen:  # grows meanwhile
        chosen += [other for other in candidates if other.name in one.with_ and other not in chosen]
    return chosen


def place(candidates: Sequence[Candidate], sources: Mapping[str, str]) -> list[Mark]:
    """Which candidates can be marked.

    Args:
        candidates: the sample.
        sources: the text of each file that they are in, by its path from the tree's top.
    """
    marks = []
    for one in candidates:
        file = file_of(one)
        try:
            attribute = marked(sources[file], one.name, function=one.kind == "text")[1]
            marks.append(Mark(one, file, attribute))
        except KeyError:
            marks.append(Mark(one, file, why="there is no such file"))
        except Unmarkable as error:
            marks.append(Mark(one, file, why=str(error)))
    while True:
        # One that stays may not use what is freed.
        staying = {one.candidate.name: one for one in marks if not one.attribute}
        wrong = {
            index: next(name for name in one.candidate.with_ if name in staying)
            for index, one in enumerate(marks)
            if one.attribute and not staying.keys().isdisjoint(one.candidate.with_)
        }
        if not wrong:
            return marks
        for index, name in wrong.items():
            why = f"{name} uses it and is not marked"
            marks[index] = replace(marks[index], attribute="", why=why)


def rewritten(marks: Sequence[Mark], sources: Mapping[str, str]) -> dict[str, str]:
    """The files with all marks, by their paths from the tree's top; only those that have any."""
    texts: dict[str, str] = {}
    for one in marks:
        if one.attribute:
            before = texts.get(one.file, sources[one.file])
            function = one.candidate.kind == "text"
            texts[one.file] = marked(before, one.candidate.name, function=function)[0]
    return {file: including_init(text) for file, text in texts.items()}


def file_of(candidate: Candidate) -> str:
    """The C file that an object is compiled from."""
    return candidate.object.removesuffix(".o") + ".c"


def read_sources(tree: Path, files: Collection[str]) -> dict[str, str]:
    """The files that there are. What is not UTF-8 in them comes through unchanged."""
    return {
        file: (tree / file).read_text(encoding="utf-8", errors="surrogateescape")
        for file in files
        if (tree / file).is_file()
    }


def copy_tree(tree: Path, target: Path, texts: Mapping[str, str]) -> None:
    """A copy of a kernel tree in which some files are others.

    The files are hard links where that can be: none is ever opened for writing, the changed ones
    are new files in the place of theirs.

    Args:
        tree: the kernel tree.
        target: the folder to make.
        texts: what the changed files hold, by their paths from the tree's top.

    Raises:
        MachineFault: it cannot be copied.
    """
    try:
        shutil.copytree(
            tree, target, symlinks=True, copy_function=_link,
            ignore=shutil.ignore_patterns(".git"),
        )  # fmt: skip
        for file, text in texts.items():
            path = target / file
            fresh = path.with_name(f"{path.name}.marked")
            fresh.write_text(text, encoding="utf-8", errors="surrogateescape")
            fresh.chmod(path.stat().st_mode)
            fresh.replace(path)
    except (OSError, shutil.Error) as error:
        raise MachineFault(f"{tree} cannot be copied: {error}.", "Check the disk.") from error


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copy2(source, target)


def mismatches(log: str) -> tuple[str, ...]:
    """What modpost says of section mismatches in what make printed."""
    lines = log.splitlines()
    found = tuple(line.strip() for line in lines if _MISMATCH.search(line))
    return found or tuple(line.strip() for line in lines if _MISMATCHES.search(line))


def judged(trial: Trial, found: Trial, log: str) -> Verdict:
    """What a marked kernel came to.

    Args:
        trial: as it was measured.
        found: the same with its marks.
        log: what make printed.
    """
    checks = found.boot.checks if found.boot else ()
    problem = ""
    if found.outcome is not Outcome.PASSED:
        problem = f"{found.outcome.value}: {found.reason}"
    elif found.resolved.digest != trial.resolved.digest:
        problem = "make changed the .config"
    elif "MODPOST" not in log:
        problem = "modpost did not run"
    return Verdict(
        mismatches(log),
        problem,
        sum(one.passed for one in checks),
        len(checks),
        trial.measurement.mem_total_kb if trial.measurement else None,
        found.measurement.mem_total_kb if found.measurement else None,
    )


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """An empty folder for one at a time; emptied again at the end.

    Raises:
        UserError: another one is at work there.
        MachineFault: it cannot be written.
    """
    lock = FolderLock(folder)
    if not lock.acquire():
        raise UserError(f"{folder} is in use.", "Wait for the other one to end.")
    try:
        shutil.rmtree(folder / "work", ignore_errors=True)
        (folder / "work").mkdir()
        yield folder / "work"
    finally:
        shutil.rmtree(folder / "work", ignore_errors=True)
        lock.release()


def built(
    settings: StudySettings, trial: Trial, texts: Mapping[str, str], folder: Path, logs: Path,
    jobs: int, screen: Console,
) -> Trial:  # fmt: skip
    """Build a trial from a copy of the tree with other files, boot it, and run the checks.

    Args:
        settings: the study.
        trial: what to build.
        texts: the changed files.
        folder: an empty one to work in.
        logs: for build.log and console.log; made afresh.
        jobs: parallel compilers.
        screen: is told the phases.

    Raises:
        UserError, MachineFault: as :meth:`optimizer.search.trial.Slot.evaluate`.
    """
    copy = folder / "linux"
    copy_tree(settings.kernel.tree, copy, texts)
    tools = workshop.tools(settings, workshop.symbol_tree(settings))
    there = settings.model_copy(
        update={"kernel": settings.kernel.model_copy(update={"tree": copy})}
    )
    slot = Slot.open(there, folder / "out", environment(), jobs, tools)
    if slot is None:
        raise UserError(f"{folder} is in use.", "Wait for the other one to end.")
    said: set[str] = set()

    def on_phase(phase: str, _detail: str) -> None:
        if phase not in said:
            said.add(phase)
            screen.print(f"marked kernel: {phase}")

    variant = Variant(
        trial.number, trial.sampler, trial.params, trial.assignment, trial.effective, trial.resolved
    )
    try:
        return slot.evaluate(variant, logs, on_phase, threading.Event())
    finally:
        slot.close()


def show_marks(marks: Sequence[Mark], screen: Console) -> None:
    """A line a candidate."""
    table = Table(box=None)
    for name in ("candidate", "file", "bytes", "mark"):
        table.add_column(name, justify="right" if name == "bytes" else "left")
    for one in marks:
        said = one.attribute or f"not marked: {one.why}"
        table.add_row(one.candidate.name, one.file, f"{one.candidate.bytes:,}", Text(said))
    screen.print(table)
    done = [one for one in marks if one.attribute]
    screen.print(
        f"{len(done)} of {len(marks)} candidates marked, "
        f"{sum(one.candidate.bytes for one in done):,} bytes in {len({one.file for one in done})} "
        "files\n"
    )


def show_verdict(verdict: Verdict, screen: Console) -> None:
    """The figures, and what is wrong."""
    for line in verdict.mismatches:
        screen.print(Text(line))
    if verdict.problem:
        screen.print(Text(f"it fails: {verdict.problem}"))
    screen.print(f"section mismatches  {len(verdict.mismatches)}")
    screen.print(f"checks passed       {verdict.passed} of {verdict.checks}")
    before, after = verdict.before_kb, verdict.after_kb
    if before is not None and after is not None:
        screen.print(f"MemTotal            {before:,} -> {after:,} kB ({after - before:+,} kB)")
    screen.print("right" if verdict.right else "WRONG")


def audit_init(asked: argparse.Namespace, screen: Console) -> bool:
    """Mark a trial's candidates, build, boot; whether they are right.

    Raises:
        UserError: no such study, folder or trial, or nothing in it can be marked.
        MachineFault: the machine failed.
    """
    settings = load_study(asked.study)
    if not (asked.folder / "trials.db").is_file():
        raise UserError(f"There is no {asked.folder / 'trials.db'}.", "Name a study's folder.")
    with Database.read(asked.folder / "trials.db") as database:
        trial = named_trial(database, asked.trial)
    with Workbench.open(asked.study, str(asked.output), quiet=False) as bench:
        found = audit_of(bench, trial).candidates
    chosen = sample(found, asked.marks)
    sources = read_sources(settings.kernel.tree, {file_of(one) for one in chosen})
    marks = place(chosen, sources)
    screen.print(f"Trial {trial.number}: {len(found)} candidates")
    show_marks(marks, screen)
    if not any(one.attribute for one in marks):
        raise UserError(f"Nothing of trial {trial.number} can be marked.", "Name another trial.")
    with workplace(cache_folder() / "init-marks") as folder:
        texts = rewritten(marks, sources)
        marked_trial = built(settings, trial, texts, folder, asked.output / "marked", asked.jobs,
                             screen)  # fmt: skip
    log = (asked.output / "marked" / "build.log").read_text(encoding="utf-8", errors="replace")
    verdict = judged(trial, marked_trial, log)
    show_verdict(verdict, screen)
    return verdict.right


def main(arguments: Sequence[str]) -> None:
    """Mark, build, boot, print; exit code 1 when it is not right, 2 when it cannot be told."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make audit-init")
    parser.add_argument("folder", type=Path, help="with a trials.db")
    parser.add_argument("--study", default="versatilepb", help="its study file or name")
    parser.add_argument("--trial", default=WINNER, help="a number, 'baseline' or 'winner'")
    parser.add_argument("--marks", type=int, default=0, help="so many candidates; 0: all")
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--output", type=Path, default=Path("results/bench/init-marks"),
                        help="folder for the logs")  # fmt: skip
    asked = parser.parse_args(arguments)
    if asked.marks < 0 or asked.jobs < 1:
        parser.error("--marks cannot be negative, --jobs begins at 1")
    asked.output = asked.output.absolute()  # make is run elsewhere
    try:
        right = audit_init(asked, Console(width=None if sys.stdout.isatty() else 140))
    except MemtotalError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
