"""Clean rebuilds of a sample of the variants, beside the search, compared byte by byte.

Reuse of objects is fast because it compiles less; whether what it gives is what a clean build gives
is not a matter of belief. A difference ends reuse for the object's file, in this run and later.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import MachineFault, MemtotalError
from optimizer.kernel.kbuild import BuildTree
from optimizer.kernel.objects import ObjectStore

# Behind the search, but not starved by it: a rebuild that never ends finds nothing.
NICENESS = 5


@dataclass(frozen=True)
class Audit:
    """One variant rebuilt clean.

    ``differing`` are paths in the output folder whose bytes were not the same, ``compared`` how
    many were looked at, ``problem`` why no comparison was possible, else ''.
    """

    number: int
    compared: int = 0
    differing: tuple[str, ...] = ()
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"trial {self.number} could not be audited: {self.problem}"
        if not self.differing:
            return (
                f"trial {self.number} audited: {self.compared:,} files as a clean build gives them"
            )
        named = ", ".join(self.differing[:5]) + (" ..." if len(self.differing) > 5 else "")
        return (
            f"trial {self.number} audited: {len(self.differing)} of {self.compared:,} files are "
            f"NOT what a clean build gives: {named}. Those objects are compiled from now on."
        )


@dataclass(frozen=True)
class _Subject:
    number: int
    config: str
    fingerprint: Mapping[str, str]


class Auditor:
    """Rebuilds what it is shown, one after the other, in a tree of its own, behind the search.

    Args:
        open_tree: opens a build tree that reuses nothing.
        objects: where reuse is ended for an object that differs.
        share: part of the variants to audit, 0 to 1.
        log: file for what the rebuilds print.
    """

    def __init__(
        self,
        open_tree: Callable[[], BuildTree],
        objects: ObjectStore | None,
        share: float,
        log: Path,
    ) -> None:
        self._open_tree = open_tree
        self._objects = objects
        self._share = share
        self._log = log
        self._waiting: queue.Queue[_Subject | None] = queue.Queue()
        self._done: queue.SimpleQueue[Audit] = queue.SimpleQueue()
        self._cancel = threading.Event()
        # Shown and sampled, compared, and not compared yet.
        self._counting = threading.Lock()
        self.sampled = 0
        self.audited = 0
        self.underway = 0
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    def show(self, number: int, digest: str, config: str, tree: BuildTree) -> None:
        """Show a variant that was just built; whether it is audited depends on its digest alone.

        Args:
            number: of the trial.
            digest: of the .config (hexadecimal).
            config: the .config that was built.
            tree: where it was built, as the build left it.
        """
        if int(digest[:8], 16) < self._share * 2**32:
            subject = _Subject(number, config, tree.fingerprint())
            with self._counting:
                self.sampled += 1
                self.underway += 1
            self._waiting.put(subject)

    def news(self) -> list[Audit]:
        """What was found since the last time."""
        found = []
        while not self._done.empty():
            found.append(self._done.get())
        return found

    def close(self) -> None:
        """Give up what is not done yet."""
        self._cancel.set()
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        # The children of this thread inherit it.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (subject := self._waiting.get()) is not None and not self._cancel.is_set():
            try:
                audit = self._audit(subject)
            except MemtotalError as error:
                audit = Audit(subject.number, problem=error.message)
            if not self._cancel.is_set():
                self.audited += not audit.problem
                self._done.put(audit)
            with self._counting:
                self.underway -= 1

    def _audit(self, subject: _Subject) -> Audit:
        tree = self._open_tree()
        try:
            tree.empty()
            build = tree.build(subject.config, self._log, cancel=self._cancel)
            if not build.ok:
                telling = build.errors[0] if build.errors else str(self._log)
                return Audit(
                    subject.number,
                    compared=1,
                    differing=("vmlinux",),
                    problem="" if not self._cancel.is_set() else telling,
                )
            clean = tree.fingerprint()
            tree.empty()
        finally:
            tree.close()
        differing = tuple(
            sorted(path for path in clean if subject.fingerprint.get(path) != clean[path])
        )
        objects = [path for path in differing if path.endswith(".o")]
        if objects and self._objects is not None:
            self._objects.distrust(objects)
        return Audit(subject.number, len(clean), differing)


def open_audit_tree(open_tree: Callable[[Path], BuildTree | None], folder: Path) -> BuildTree:
    """The first tree below a folder that nobody uses.

    Raises:
        MachineFault: there is none, or the folder cannot be written.
    """
    for number in range(100):
        tree = open_tree(folder / str(number))
        if tree is not None:
            return tree
    raise MachineFault(f"Every tree in {folder} is in use.")
