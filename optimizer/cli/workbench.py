"""A build tree of its own for commands that look into a built variant; kept warm between them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from optimizer.cli import doctor, workshop
from optimizer.cli.host import cores
from optimizer.cli.screen import console
from optimizer.errors import UserError
from optimizer.records import BootResult, BuildResult, Ledger, ObjectContents
from optimizer.search.trial import Slot, fresh_folder
from optimizer.settings import StudySettings, cache_folder, environment, load_study


class Workbench:
    """A slot, and where its logs go. Made by :meth:`open`; a context manager that gives it back."""

    def __init__(self, settings: StudySettings, slot: Slot, logs: Path, quiet: bool) -> None:
        self.settings = settings
        self._slot = slot
        self._logs = logs
        self._quiet = quiet
        self._said = ""
        self._cancel = threading.Event()

    @classmethod
    def open(cls, study: str, results: str | None, *, quiet: bool) -> Workbench:
        """Take a build tree for a study.

        Args:
            study: a study file or name.
            results: the results folder, None for the usual one.
            quiet: say nothing of what goes on.

        Raises:
            UserError: no such study, or something it needs is missing.
            MachineFault: the cache cannot be written.
        """
        settings = load_study(study)
        doctor.require(settings)
        tree = workshop.symbol_tree(settings)
        tools = workshop.tools(settings, tree)
        name = f"{settings.kernel.arch}-{tools['kernel'][:20]}"
        for number in itertools.count():
            folder = cache_folder() / "workbench" / name / str(number)
            slot = Slot.open(settings, folder, environment(), cores(), tools)
            if slot is not None:
                logs = workshop.study_folder(settings.name, results) / "workbench" / str(number)
                return cls(settings, slot, logs, quiet)
        raise AssertionError("count() never ends")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._slot.close()

    def build(self, config: str, what: str) -> BuildResult:
        """Build a .config.

        Raises:
            UserError: it does not build.
            MachineFault: the machine failed.
        """
        logs = fresh_folder(self._logs / what)
        build = self._slot.build(config, logs / "build.log", self._on_phase, self._cancel)
        if not build.ok or build.image is None:
            raise UserError(
                f"It does not build: {build.errors[0] if build.errors else 'make failed'}.",
                f"See {logs / 'build.log'}.",
            )
        return build

    def explain(self, build: BuildResult, parameters: Mapping[str, str]) -> Ledger | None:
        """The ledger of what was just built; None when it does not boot."""
        assert build.image is not None  # noqa: S101 - build() saw to it
        folder = self._logs / "explain" / "boot"
        return self._slot.explain(build.image, folder, self._on_phase, self._cancel, parameters)

    def boot(
        self, build: BuildResult, what: str, *, memory_mb: int, command_line: str
    ) -> BootResult:
        """Boot what was just built with the study's checks, on a board with less memory."""
        assert build.image is not None  # noqa: S101 - build() saw to it
        return self._slot.boot_with(
            build.image,
            fresh_folder(self._logs / what),
            self._on_phase,
            self._cancel,
            memory_mb=memory_mb,
            command_line=command_line,
        )

    def contents(self) -> list[ObjectContents]:
        """The objects of what was just built, with all that is in them."""
        return self._slot.contents()

    def _on_phase(self, phase: str, _detail: str) -> None:
        if phase != self._said and not self._quiet:
            self._said = phase
            console(aside=True).print(f"workbench: {phase}")
