"""From a study's settings to the parts that work on it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from optimizer.board import version as emulator_version
from optimizer.cli.host import cores
from optimizer.errors import MachineFault, UserError
from optimizer.kernel.kbuild import BuildTree
from optimizer.kernel.kconfig import SymbolTree, compiler_version
from optimizer.kernel.objects import ObjectStore
from optimizer.process import FolderLock
from optimizer.records import Trial
from optimizer.search.audit import Auditor, open_audit_tree
from optimizer.search.knowledge import Belief
from optimizer.search.space import Space
from optimizer.search.trial import Slot
from optimizer.settings import StudySettings, cache_folder, environment, results_folder
from optimizer.store import Database
from optimizer.store.database import Json


def study_folder(name: str, results: str | None) -> Path:
    """Where a study's results are."""
    base = Path(results).absolute() if results else results_folder()
    return base / name


def defconfig_path(settings: StudySettings) -> Path:
    """The study's defconfig: a file beside the study, or a name in the tree's configs.

    Raises:
        UserError: there is no such file.
    """
    kernel = settings.kernel
    beside = settings.source.parent / Path(kernel.defconfig).expanduser()
    shipped = kernel.tree / "arch" / kernel.arch / "configs" / kernel.defconfig
    for path in (beside, shipped):
        if path.is_file():
            return path
    raise UserError(
        f"{settings.source}: kernel.defconfig: there is no {kernel.defconfig}.",
        f"Looked for {beside} and {shipped}.",
    )


def symbol_tree(settings: StudySettings) -> SymbolTree:
    """The study's kernel tree with its defconfig loaded.

    Raises:
        UserError: no kernel tree, no compiler, or a broken defconfig.
    """
    kernel = settings.kernel
    tree = SymbolTree(kernel.tree, kernel.arch, kernel.cross_compile, environment())
    tree.load_base(defconfig_path(settings))
    return tree


def tools(settings: StudySettings, tree: SymbolTree) -> dict[str, str]:
    """What a trial's figures depend on besides its configuration."""
    return {
        "kernel": tree.identity,
        "compiler": compiler_version(f"{settings.kernel.cross_compile}gcc", environment()),
        "emulator": emulator_version(settings.board),
    }


def open_slots(settings: StudySettings, found: Mapping[str, str], jobs: int) -> list[Slot]:
    """The slots of a run, with trees in the cache that are warm if they were used before.

    Raises:
        MachineFault: the cache cannot be written.
    """
    name = hashlib.sha256(
        "\n".join((found["kernel"], found["compiler"], str(settings.kernel.tree))).encode()
    ).hexdigest()[:12]
    base = cache_folder() / "slots" / f"{settings.kernel.arch}-{found['kernel'][:20]}-{name}"
    return slots_below(base, settings, found, jobs, object_store(settings))


def slots_below(
    base: Path,
    settings: StudySettings,
    found: Mapping[str, str],
    jobs: int,
    objects: ObjectStore | None,
) -> list[Slot]:
    """One slot a job. Two share a tree: what one built boots on one core while the other builds.

    Args:
        base: folder of the trees; those in use are passed over.
        settings: the study.
        found: what :func:`tools` found.
        jobs: how many variants at a time.
        objects: where compiled objects are taken from, None for nowhere.

    Raises:
        MachineFault: the folder cannot be written, or all its trees are in use.
    """
    slots: list[Slot] = []
    for number in range(1000):
        slot = Slot.open(
            settings, base / str(number), environment(), compilers(jobs), found, objects
        )
        if slot is None:
            continue
        slots.append(slot)
        if len(slots) < jobs:
            slots.append(slot.beside(base / f"{number}.built"))
        if len(slots) == jobs:
            return slots
    raise MachineFault(f"Every tree in {base} is in use.")


def compilers(jobs: int) -> int:
    """How many compilers one tree has when so many variants are evaluated at a time."""
    trees = (jobs + 1) // 2
    return max(1, cores() // trees)


def object_store(settings: StudySettings) -> ObjectStore | None:
    """The store of compiled objects, None when the study does without or it cannot be used.

    Raises:
        MachineFault: the cache cannot be written, or the compiler's stand-in not be compiled.
    """
    kernel = settings.kernel
    if not kernel.reuse_objects:
        return None
    return ObjectStore.open(cache_folder(), kernel.cross_compile, environment(), kernel.cache_gb)


def open_auditor(
    settings: StudySettings, found: Mapping[str, str], share: float, log: Path
) -> Auditor:
    """Who rebuilds a share of the variants clean, in trees of its own in the cache.

    Raises:
        MachineFault: the cache cannot be written.
    """
    name = hashlib.sha256("\n".join((found["kernel"], found["compiler"])).encode()).hexdigest()[:12]
    folder = cache_folder() / "audit" / f"{settings.kernel.arch}-{name}"
    return Auditor(
        lambda: open_audit_tree(
            lambda tree: BuildTree.open(settings.kernel, tree, environment(), 1), folder
        ),
        object_store(settings),
        share,
        log,
    )


def study_digest(settings: StudySettings, defconfig: Path) -> str:
    """A digest of what makes a study's figures comparable: board, checks, defconfig, root files."""
    digest = hashlib.sha256()
    for part in (
        settings.board.model_dump_json(),
        *(suite.model_dump_json() for suite in settings.suites),
        ",".join(settings.objective),
        settings.kernel.target,
        settings.kernel.device_tree,
        defconfig.read_text(encoding="utf-8"),
    ):
        digest.update(part.encode() + b"\0")
    try:
        digest.update(settings.initramfs.read_bytes())
    except OSError as error:
        raise UserError(
            f"The root file system {settings.initramfs} cannot be read: {error.strerror}.",
            "Run `make setup` for the shipped one, or correct 'initramfs' in the study.",
        ) from error
    return digest.hexdigest()


def describe(space: Space, beliefs: Mapping[str, Belief]) -> dict[str, Json]:
    """The search space as stored: each candidate with what is believed of it, and what was left out
    of the search with the reason."""
    left_out: dict[str, Json] = {
        one.symbol: {"asked": one.asked, "left_out": one.reason} for one in space.excluded
    }
    kept: dict[str, Json] = {name: {"kept": True} for name in space.keep}
    return (
        left_out
        | kept
        | {
            one.name: {
                "kind": one.kind,
                "values": list(one.values),
                "menu": " > ".join(one.menu),
                "prompt": one.prompt,
            }
            | (_document(beliefs[one.name]) if one.name in beliefs else {})
            for one in space.candidates
        }
    )


def _document(belief: Belief) -> dict[str, Json]:
    return dataclasses.asdict(belief) | {
        "objects": belief.objects,
        "compiled": f"{belief.compiled:x}",
    }


def _compiled(stored: Mapping[str, Json]) -> int:
    """A bit an object. Earlier versions stored their number alone, and took it that the objects of
    one option hold those of another with fewer: so do the lowest bits."""
    if "compiled" in stored:
        return int(str(stored["compiled"]), 16)
    return (1 << int(str(stored["objects"]))) - 1


def stored_beliefs(database: Database) -> dict[str, Belief]:
    """The beliefs that an earlier run stored; empty when none did."""
    study = database.study()
    found: dict[str, Belief] = {}
    for name, one in (study.candidates if study else {}).items():
        if isinstance(one, Mapping) and isinstance(needs := one.get("needs"), Mapping):
            found[name] = Belief(
                {what: float(str(probability)) for what, probability in needs.items()},
                float(str(one["saving_kb"])),
                float(str(one["doubt_kb"])),
                _compiled(one),
                str(one["ran"]),
            )
    return found


def store_facts(database: Database, space: Space, winner: Trial | None) -> None:
    """Have the database know what Kconfig says of the baseline's and the winner's symbols, so that
    reports need no kernel tree. What is stored already is left as it is.

    Args:
        database: opened for writing.
        space: the search space.
        winner: the trial, None for the best.
    """
    best = database.best()
    chosen = winner or (None if best is None else database.trial(best))
    names = {name for one in space.candidates for name in one.name.split("|")} | set(space.keep)
    for trial in (chosen, database.trial(0) if chosen else None):
        if trial is not None and not database.symbols(trial.number):
            database.put_symbols(trial.number, space.tree.facts(trial.assignment, names))


def described(settings: StudySettings, folder: Path, winner: Trial, symbol: str) -> bool:
    """Have a study's database know what Kconfig says of a trial's symbols, by its kernel tree.

    Args:
        settings: the study.
        folder: of the database; left as it is while a run writes to it.
        winner: the trial.
        symbol: one more that must be described, '' for none.

    Returns:
        Whether the database knows more now; not when it cannot be written, or when the tree is
        another one.

    Raises:
        UserError: no compiler, or a broken defconfig.
    """
    lock = FolderLock(folder)
    if not os.access(folder / "trials.db", os.W_OK) or not lock.acquire():
        return False
    try:
        tree = symbol_tree(settings)
        names = {name for option in winner.effective for name in option.split("|")} | {symbol}
        names.update(settings.options.keep)
        with Database.open(folder / "trials.db", create=False) as database:
            # Not the tree's identity, which a new checkout of the same source changes: what
            # counts is that these Kconfig files make the same of what the trial asked.
            if tree.resolve(winner.assignment).digest != winner.resolved.digest:
                return False
            database.put_symbols(winner.number, tree.facts(winner.assignment, names))
            if not database.symbols(0):
                database.put_symbols(0, tree.facts(database.trial(0).assignment, names))
    finally:
        lock.release()
    return True


def left_out(database: Database) -> dict[str, str]:
    """What the newest search space leaves out: symbol -> reason."""
    study = database.study()
    return {
        name: str(one["left_out"])
        for name, one in (study.candidates if study else {}).items()
        if isinstance(one, Mapping) and "left_out" in one
    }


def datasette_metadata(study: str, views: Mapping[str, str]) -> dict[str, Json]:
    """What datasette shows beside a study's tables and views (its ``--metadata`` file).

    Args:
        study: its name.
        views: name -> what it shows.
    """
    return {
        "title": f"memtotal: {study}",
        "databases": {
            "trials": {
                "description": "Every trial: what was asked, built, booted and measured.",
                "tables": {name: {"description": text} for name, text in views.items()},
            }
        },
    }
