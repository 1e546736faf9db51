"""One variant: build, boot, smoke checks, measure, and what that amounts to.

Runs in a worker; returns a record and writes nothing but its logs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from optimizer.board import smoke
from optimizer.errors import MachineFault
from optimizer.kernel import contents, elf, ownership
from optimizer.kernel.kbuild import BuildTree
from optimizer.kernel.kconfig import config_digest
from optimizer.kernel.objects import ObjectStore
from optimizer.memory import bootlog
from optimizer.records import (
    Assignment,
    BootResult,
    BootState,
    BuildResult,
    Ledger,
    Measurement,
    ObjectContents,
    Outcome,
    ResolvedConfig,
    Trial,
)
from optimizer.search import explanation, prior
from optimizer.search.audit import Auditor
from optimizer.search.knowledge import BOOT
from optimizer.search.objectives import objectives
from optimizer.search.prior import Traces
from optimizer.settings import BoardSettings, StudySettings, Suite, checks_in_order

PhaseReport = Callable[[str, str], None]

# How often somebody who waits for his turn looks whether the run is ending.
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Variant:
    """What a worker is given: a resolved configuration and where it came from."""

    number: int
    sampler: str
    params: Mapping[str, str]
    assignment: Assignment
    effective: Mapping[str, str]
    resolved: ResolvedConfig


class Cancelled(Exception):  # noqa: N818 - not an error: the user asked for it
    """The trial was given up because the run is ending; nothing of it counts."""


class Slot:
    """A build tree in use, and what is evaluated with it. Made by :meth:`open`.

    Two slots may use one tree (:meth:`beside`): they take turns building, and while one builds,
    what the other built boots.
    """

    def __init__(
        self,
        settings: StudySettings,
        tree: BuildTree,
        env: Mapping[str, str],
        tools: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._tools = dict(tools)
        self._env = env
        self._tree = tree
        self._owns_tree = True
        self._building = threading.RLock()
        # Where what was built is put before somebody else builds; None: it stays in the tree.
        self._aside: Path | None = None
        self._vmlinux = tree.folder / "vmlinux"
        self._device_tree: Path | None = None
        self._auditor: Auditor | None = None

    @classmethod
    def open(
        cls,
        settings: StudySettings,
        folder: Path,
        env: Mapping[str, str],
        jobs: int,
        tools: Mapping[str, str],
        objects: ObjectStore | None = None,
    ) -> Slot | None:
        """Take a build tree.

        Args:
            settings: the study.
            folder: the build tree's folder.
            env: environment for children.
            jobs: parallel compilers.
            tools: names and versions recorded with every trial.
            objects: where compiled objects are taken from; None: everything is compiled.

        Returns:
            None when another process uses that tree.

        Raises:
            MachineFault: the folder cannot be written.
        """
        tree = BuildTree.open(settings.kernel, folder, env, jobs, objects)
        return None if tree is None else cls(settings, tree, env, tools)

    def beside(self, aside: Path) -> Slot:
        """One more slot with this one's tree.

        Args:
            aside: folder for what each of the two has built; only theirs.

        Raises:
            MachineFault: the folder cannot be made.
        """
        other = Slot(self._settings, self._tree, self._env, self._tools)
        other._building, other._owns_tree = self._building, False
        try:
            for number, slot in enumerate((self, other)):
                slot._aside = aside / str(number)
                slot._aside.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineFault(f"{aside} cannot be made: {error}.", "Check the disk.") from error
        return other

    @property
    def tree(self) -> Path:
        """The folder of the build tree."""
        return self._tree.folder

    def close(self) -> None:
        """Give the build tree back."""
        if self._owns_tree:
            self._tree.close()

    def audit_with(self, auditor: Auditor) -> None:
        """Show every variant that is built from now on to an auditor."""
        self._auditor = auditor

    def empty(self) -> None:
        """Remove everything that was built in the tree, so that the next build is a clean one."""
        self._tree.empty()
        self._device_tree = None

    def evaluate(
        self,
        variant: Variant,
        log_dir: Path,
        on_phase: PhaseReport,
        cancel: threading.Event,
    ) -> Trial:
        """Build, boot and check a variant.

        Args:
            variant: what to build.
            log_dir: folder for build.log and console.log; made afresh.
            on_phase: called with (phase, detail): configure, build, boot, smoke, explain.
            cancel: set to give up.

        Raises:
            Cancelled: ``cancel`` was set before the variant was done.
            MachineFault: the machine failed; the variant may be tried again.
            UserError: the study names something that does not exist.
        """
        log_dir = fresh_folder(log_dir)
        with self._turn(on_phase, cancel):
            started, began = time.monotonic(), datetime.now(UTC)
            build = self.build(variant.resolved.text, log_dir / "build.log", on_phase, cancel)
            if build.ok and self._auditor is not None:
                digest = variant.resolved.digest
                self._auditor.show(variant.number, digest, build.config_text, self._tree)
            build = self._put_aside(build)
        boot: BootResult | None = None
        measurement: Measurement | None = None
        ledger: Ledger | None = None
        outcome, reason = Outcome.BUILD_FAILED, _build_reason(build)
        if build.ok and build.image is not None:
            parameters = variant.assignment.parameters
            boot = self.boot(build.image, log_dir, on_phase, cancel, parameters)
            outcome, reason, measurement = judge(boot)
            if outcome is not Outcome.PASSED:
                # A busy host can make a good variant fail, and what fails is not built again. A
                # second boot costs seconds; only what fails twice is taken for a failure.
                again = self.boot(
                    build.image, fresh_folder(log_dir / "again"), on_phase, cancel, parameters
                )
                if judge(again)[0] is Outcome.PASSED:
                    first, boot = reason, again
                    outcome, _, measurement = judge(again)
                    reason = f"only on the second boot; the first: {first}"
            if measurement is not None:
                folder = log_dir / "explain"
                ledger = self.explain(build.image, folder, on_phase, cancel, parameters)
        resolved = variant.resolved
        if (used := config_digest(build.config_text)) != resolved.digest:
            # The kernel's own tools have the last word on what was built.
            resolved = dataclasses.replace(resolved, digest=used, text=build.config_text)
        return Trial(
            number=variant.number,
            outcome=outcome,
            sampler=variant.sampler,
            params=variant.params,
            assignment=variant.assignment,
            effective=variant.effective,
            resolved=resolved,
            objective=self._objective(build, boot, measurement, outcome),
            # The image stays in the slot's tree, where the next trial's takes its place.
            build=dataclasses.replace(build, image=None),
            boot=boot,
            measurement=measurement,
            reason=reason,
            started_at=began.isoformat(timespec="seconds"),
            seconds=time.monotonic() - started,
            log_dir=log_dir,
            tools=self._tools,
            ledger=ledger,
        )

    def build(
        self, config: str, log: Path, on_phase: PhaseReport, cancel: threading.Event
    ) -> BuildResult:
        """Build the image, and the board's device tree the first time.

        Raises:
            Cancelled, MachineFault, UserError: as :meth:`evaluate`.
        """
        with self._turn(on_phase, cancel):
            on_phase("configure", "")
            try:
                build = self._tree.build(
                    config,
                    log,
                    on_object=lambda count: on_phase("build", str(count)),
                    cancel=cancel,
                )
            except MachineFault:
                if cancel.is_set():
                    raise Cancelled from None
                raise
            if cancel.is_set():
                raise Cancelled
            if build.ok and self._device_tree is None:
                self._device_tree = self._tree.build_device_tree(log)
            return build

    @contextlib.contextmanager
    def _turn(self, on_phase: PhaseReport, cancel: threading.Event) -> Iterator[None]:
        """The tree for oneself.

        Raises:
            Cancelled: ``cancel`` was set before it was one's turn.
        """
        if not self._building.acquire(blocking=False):
            on_phase("wait", "for the tree")
            while not self._building.acquire(timeout=_LOOK_SECONDS):
                if cancel.is_set():
                    raise Cancelled
        try:
            yield
        finally:
            self._building.release()

    def _put_aside(self, build: BuildResult) -> BuildResult:
        """What boots and what explains it, where the next build in the tree does not touch it.

        Raises:
            MachineFault: it cannot be copied.
        """
        if self._aside is None or build.image is None:
            return build
        image = self._aside / "image"
        try:
            shutil.copyfile(build.image, image)
            self._vmlinux = self._aside / "vmlinux"
            shutil.copyfile(self._tree.folder / "vmlinux", self._vmlinux)
        except OSError as error:
            raise MachineFault(f"{self._aside} cannot be written: {error}.") from error
        return dataclasses.replace(build, image=image)

    def boot(
        self,
        image: Path,
        log_dir: Path,
        on_phase: PhaseReport,
        cancel: threading.Event,
        parameters: Mapping[str, str] | None = None,
    ) -> BootResult:
        """Boot the image, with more parameters if there are any, and run the study's checks.

        Raises:
            Cancelled, MachineFault, UserError: as :meth:`evaluate`.
        """
        on_phase("boot", "")
        board = self._settings.board.with_parameters(parameters or {})
        return self._boot(board, image, self._settings.suites, log_dir, on_phase, cancel)

    def _objective(
        self,
        build: BuildResult,
        boot: BootResult | None,
        measurement: Measurement | None,
        outcome: Outcome,
    ) -> float | None:
        """The first objective's score in kB (an image's is negative); None unless it passed."""
        wanted = objectives(self._settings.objective)[0]
        if outcome is not Outcome.PASSED:
            return None
        figure = wanted.figure(build, boot, measurement)
        return None if figure is None else wanted.score(figure)

    def boot_with(
        self,
        image: Path,
        log_dir: Path,
        on_phase: PhaseReport,
        cancel: threading.Event,
        *,
        memory_mb: int,
        command_line: str,
    ) -> BootResult:
        """Boot the image and run the study's checks on a board that differs in its memory.

        Raises:
            Cancelled, MachineFault, UserError: as :meth:`evaluate`.
        """
        board = self._settings.board.model_copy(
            update={"memory_mb": memory_mb, "command_line": command_line}
        )
        return self._boot(board, image, self._settings.suites, log_dir, on_phase, cancel)

    def contents(self) -> list[ObjectContents]:
        """What is in the objects of the image that the tree just built.

        Raises:
            MachineFault: they cannot be read.
        """
        kernel = self._settings.kernel
        try:
            return contents.contents(
                kernel.tree, self._tree.folder, kernel.cross_compile, self._env
            )
        except (OSError, ValueError) as error:
            raise MachineFault(f"The built objects cannot be read: {error}.") from error

    def _boot(
        self,
        board: BoardSettings,
        image: Path,
        suites: Sequence[Suite],
        log_dir: Path,
        on_phase: PhaseReport,
        cancel: threading.Event,
    ) -> BootResult:
        try:
            boot = smoke.evaluate(
                board,
                image,
                self._device_tree,
                self._settings.initramfs,
                suites,
                log_dir,
                on_phase=on_phase,
                cancel=cancel,
            )
        except MachineFault:
            if cancel.is_set():
                raise Cancelled from None
            raise
        if cancel.is_set():
            raise Cancelled
        return boot

    def explain(
        self,
        image: Path,
        log_dir: Path,
        on_phase: PhaseReport,
        cancel: threading.Event,
        parameters: Mapping[str, str] | None = None,
    ) -> Ledger | None:
        """Boot the image that was just built once more, and say where its RAM went.

        Returns:
            None when it does not boot this time, or vmlinux has no symbols.

        Raises:
            Cancelled, MachineFault, UserError: as :meth:`evaluate`.
        """
        on_phase("explain", "")
        try:
            found = explanation.explain(
                self._settings.board.with_parameters(parameters or {}),
                image,
                self._vmlinux,
                self._device_tree,
                self._settings.initramfs,
                fresh_folder(log_dir),
                cancel=cancel,
            )
        except MachineFault:
            if cancel.is_set():
                raise Cancelled from None
            raise
        if cancel.is_set():
            raise Cancelled
        return found

    def trace(
        self, config: str, log_dir: Path, on_phase: PhaseReport, cancel: threading.Event
    ) -> Traces:
        """Build a configuration and see what of it runs at boot, and in each of the checks.

        Raises:
            Cancelled, MachineFault, UserError: as :meth:`evaluate`.
        """
        log_dir = fresh_folder(log_dir)
        kernel = self._settings.kernel
        build = self.build(config, log_dir / "build.log", on_phase, cancel)
        if not build.ok or build.image is None:
            raise MachineFault(f"The baseline, built before, fails now: {_build_reason(build)}.")
        objects = ownership.objects(kernel.tree, self._tree.folder, kernel.cross_compile, self._env)
        functions = elf.functions(self._tree.folder / "vmlinux")
        # %d: the emulator is started anew after each reboot, and must not overwrite its log.
        board = self._settings.board.model_copy(
            update={
                "arguments": (
                    *self._settings.board.arguments,
                    *("-d", "in_asm", "-D", str(log_dir / "trace-%d")),
                )
            }
        )
        stages: list[tuple[str, dict[Path, int]]] = []

        def mark(phase: str, detail: str) -> None:
            on_phase("trace", detail)
            sizes = {path: path.stat().st_size for path in log_dir.glob("trace-*")}
            stages.append((BOOT if phase == "boot" else detail, sizes))

        boot = self._boot(board, build.image, self._settings.suites, log_dir, mark, cancel)
        mark("end", "end")
        if not boot.passed:
            # Tracing slows the guest down. Half a trace would call needed what is not there.
            raise MachineFault(f"The traced boot failed: {judge(boot)[1]}.", f"See {log_dir}.")
        ran: dict[str, frozenset[str]] = {}
        for (stage, before), (_next, after) in itertools.pairwise(stages):
            found = ran.get(stage, frozenset())
            for path, size in after.items():
                found |= prior.executed(path, functions, before.get(path, 0), size)
            ran[stage] = found
        for path in stages[-1][1]:
            path.unlink()
        return Traces(
            tuple(objects),
            tuple(functions),
            ran=ran,
            flags=ownership.flag_options(kernel.tree, kernel.arch),
            commands=commands(self._settings.suites),
        )


def commands(suites: Iterable[Suite]) -> dict[str, str]:
    """What is typed for each check: "suite/name" -> command."""
    return {f"{suite}/{one.name}": one.command for suite, one in checks_in_order(suites)}


def judge(boot: BootResult) -> tuple[Outcome, str, Measurement | None]:
    """What a boot amounts to: outcome, reason when it did not pass, and the figures if any."""
    if boot.state is not BootState.READY:
        detail = f": {boot.detail}" if boot.detail else ""
        return Outcome.BOOT_FAILED, f"{boot.state.value}{detail}", None
    try:
        measurement = bootlog.measure(boot.kernel_log, boot.meminfo_text)
    except ValueError as error:
        return Outcome.SMOKE_FAILED, f"no figures: {error}", None
    for check in boot.checks:
        if not check.passed:
            return Outcome.SMOKE_FAILED, f"{check.suite}/{check.name}: {check.detail}", measurement
    return Outcome.PASSED, "", measurement


def fresh_folder(folder: Path) -> Path:
    """An empty folder of that path: what an interrupted trial left there is removed.

    Raises:
        MachineFault: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.is_file() or path.is_symlink():
                path.unlink()
    except OSError as error:
        raise MachineFault(f"{folder} cannot be written: {error}.", "Check the disk.") from error
    return folder


def _build_reason(build: BuildResult) -> str:
    if build.timed_out:
        return f"no image after {build.seconds:.0f} s"
    return build.errors[0] if build.errors else "make failed; see the log"
