"""One SQLite file a study: the schema, trials in and out, runs, and what is going on right now.

The file is in WAL mode: any number of readers see whole trials while one process writes. That
process is the coordinator of the run; who may be it is decided by a lock elsewhere, a second writer
only gets a clear error here. Within the process every method may be called from any thread.

This is the only importer of sqlite_utils.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlite_utils
from sqlite_utils.migrations import Migrations

from optimizer.errors import MachineFault, UserError
from optimizer.records import ResolvedConfig, Trial, Verdict
from optimizer.store import rows
from optimizer.store.faults import damaged, denied, intact, mapped
from optimizer.store.findings import Findings

# What a JSON document can be.
Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]

APPLICATION_ID = 1296387412
BUSY_SECONDS = 5.0
# Activity is written often and is worth nothing later: it never waits for long.
ACTIVITY_BUSY_SECONDS = 0.2
MIGRATIONS = Path(__file__).parent / "migrations"
# What SQLite answers, by its version, when it cannot make the files that readers need.
_NO_PLACE_FOR_WAL = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_ALL = (0, (1 << 63) - 1)


@dataclass(frozen=True)
class Study:
    """What the file's figures belong to. ``candidates`` and ``settings_text`` are the newest."""

    name: str
    study_digest: str
    tree_identity: str
    compiler: str
    emulator: str
    settings_text: str
    candidates: Mapping[str, Json]
    bound_at: str


@dataclass(frozen=True)
class Activity:
    """What a slot is doing. It may be dead: look whether ``pid`` lives, and at ``updated_at``."""

    slot: int
    trial: int
    phase: str
    detail: str
    pid: int
    updated_at: str


@dataclass(frozen=True)
class Run:
    """One run of the search. ``state``: 'ended', 'killed', or 'running or killed' for the last one.

    A killed run has no ``ended_at`` and no ``stop_reason``.
    """

    id: int
    started_at: str
    ended_at: str | None
    state: str
    stop_reason: str | None
    pid: int
    budget_seconds: float | None
    budget_trials: int | None
    sampler: str
    seed: int
    jobs: int
    cores: int
    memory_gb: float


class Database(Findings):
    """A study's results. Made by :meth:`open` or :meth:`read`; a context manager that closes it."""

    def __init__(self, path: Path, connection: sqlite_utils.Database) -> None:
        self.path = path
        self.folder = path.parent
        self._db = connection
        # Threads share the connection, and a transaction belongs to one of them at a time.
        self._mutex = threading.RLock()

    # --- opening and closing

    @classmethod
    def open(cls, path: Path, *, create: bool, busy_seconds: float = BUSY_SECONDS) -> Database:
        """Open for writing.

        A file made by an older version is brought up to date. A new file appears whole or not at
        all. A damaged file is never changed.

        Args:
            path: the file; its folder is what log paths are stored relative to.
            create: make the file (and its folder) when there is none.
            busy_seconds: how long to wait for another process that is writing.

        Raises:
            UserError: missing, damaged, not of this program, newer than this program, locked, or
                not writable.
            MachineFault: the disk is full or broken.
        """
        path = path.absolute()
        with mapped(path):
            if create and (not path.exists() or path.stat().st_size == 0):
                _create(path)
            _require(path)
            # Looked at through a read-only connection first: merely closing a writing one could
            # already fold a damaged file's log into it.
            with contextlib.closing(_connect(path, "mode=ro", busy_seconds)) as reader:
                _examine(path, reader)
            connection = _connect(path, "mode=rw", busy_seconds)
            try:
                _prepare(path, connection)
                # SQLite falls back to read-only by itself and would say so only at the first trial.
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except BaseException:
                connection.close()
                raise
            return cls(path, connection)

    @classmethod
    def read(cls, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> Database:
        """Open for reading only, also while a run writes, and also on a read-only medium.

        A file made by an older version is read from a copy in memory that is brought up to date;
        the file stays as it is.

        Raises:
            UserError: missing, damaged, not of this program, of a newer version, or not readable.
            MachineFault: the disk is broken.
        """
        path = path.absolute()
        with mapped(path):
            _require(path)
            try:
                return cls._reading(path, "mode=ro", busy_seconds)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _NO_PLACE_FOR_WAL:
                    raise
                # WAL readers need two files beside the database, which cannot be made here.
                # Without a log of pending commits the file by itself is everything.
                wal = path.with_name(path.name + "-wal")
                if os.access(path.parent, os.W_OK) or not os.access(path, os.R_OK):
                    raise
                if wal.exists() and wal.stat().st_size > 0:
                    raise UserError(
                        f"{path} has commits pending in {wal.name}, and its folder is read-only.",
                        "Copy the whole folder to a place that can be, and read it there.",
                    ) from error
                return cls._reading(path, "immutable=1", busy_seconds)

    @classmethod
    def _reading(cls, path: Path, mode: str, busy_seconds: float) -> Database:
        connection = _connect(path, mode, busy_seconds)
        try:
            if _examine(path, connection):
                # Of an older version: a copy in memory is brought up to date, the file stays as it
                # is. The next run on the study does it for good.
                return cls(path, _updated_copy(connection))
        except BaseException:
            connection.close()
            raise
        return cls(path, connection)

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        with self._mutex, mapped(self.path):
            self._db.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the study

    def bind_study(
        self,
        name: str,
        *,
        study_digest: str,
        settings_text: str,
        tree_identity: str,
        compiler: str,
        emulator: str,
        candidates: Mapping[str, Json],
    ) -> None:
        """Say what the figures belong to; checked against what earlier calls said.

        As long as there are no trials everything may change. After that the settings' text
        and the candidates may change between runs (each version is kept): the figures stay
        comparable. The rest may not.

        Args:
            name: of the study.
            study_digest: over board, defconfig, suites and objective.
            settings_text: the study file as it is.
            tree_identity: of the kernel source.
            compiler: its version line.
            emulator: its version line.
            candidates: the search space, for each candidate what JSON can hold.

        Raises:
            UserError: something that makes figures comparable changed; says what.
            MachineFault: the disk is full or broken.
        """
        told = {
            "name": name,
            "tree": tree_identity,
            "compiler": compiler,
            "emulator": emulator,
            "study_digest": study_digest,
        }
        told = {key: rows.storable(value) for key, value in told.items()}
        with self._writing():
            known = next(self._db.query("SELECT * FROM studies"), None)
            changed = [key for key in told if known is not None and told[key] != known[key]]
            if known is not None and changed:
                if self._db.execute("SELECT 1 FROM trials LIMIT 1").fetchone() is not None:
                    raise _not_comparable(self.path, changed, known, told)
                # Nothing was measured yet (the baseline failed, say): nothing to compare with.
                self._db.execute("DELETE FROM study_settings")
                self._db.execute("DELETE FROM studies")
                known = None
            if known is None:
                self._db.table("studies").insert(told | {"bound_at": _now()})
            document = {
                "study": told["name"],
                "settings_toml": rows.storable(settings_text),
                "candidates_json": json.dumps(dict(candidates), sort_keys=True),
            }
            newest: Mapping[str, Any] = next(
                self._db.query("SELECT * FROM study_settings ORDER BY id DESC LIMIT 1"), {}
            )
            if any(newest.get(key) != value for key, value in document.items()):
                self._db.table("study_settings").insert(document | {"bound_at": _now()})

    def study(self) -> Study | None:
        """What the figures belong to; None before the first :meth:`bind_study`.

        Raises:
            UserError: the file is damaged.
        """
        with self._reading_rows():
            row = next(
                self._db.query(
                    "SELECT s.name, s.study_digest, s.tree, s.compiler, s.emulator, s.bound_at,"
                    " t.settings_toml, t.candidates_json"
                    " FROM studies s JOIN study_settings t ON t.study = s.name"
                    " ORDER BY t.id DESC LIMIT 1"
                ),
                None,
            )
            if row is None:
                return None
            return Study(
                name=row["name"],
                study_digest=row["study_digest"],
                tree_identity=row["tree"],
                compiler=row["compiler"],
                emulator=row["emulator"],
                settings_text=row["settings_toml"],
                candidates=json.loads(row["candidates_json"]),
                bound_at=row["bound_at"],
            )

    # --- trials

    def put_trial(self, trial: Trial) -> None:
        """Store a trial, whole, in one transaction; on the disk when this returns.

        Raises:
            MachineFault: the number is taken, or the disk is full or broken.
            UserError: another process is writing, or the file is read-only or damaged.
        """
        with self._writing():
            if next(self._db.query("SELECT 1 FROM trials WHERE number = ?", [trial.number]), None):
                raise MachineFault(f"{self.path}: trial {trial.number} is stored already.")
            config_id = self._config_id(trial.resolved)
            build_sha256 = "" if trial.build is None else self._text_sha256(trial.build.config_text)
            tables = rows.trial_rows(trial, self.folder, config_id, build_sha256)
            for table, records in tables.items():
                if records:
                    self._db.table(table).insert_all(records)

    def _text_sha256(self, text: str) -> str:
        row = rows.packed(text)
        self._db.table("config_texts").insert(row, ignore=True)
        return str(row["sha256"])

    def _config_id(self, resolved: ResolvedConfig) -> int:
        wanted = {
            "digest": rows.storable(resolved.digest),
            "text_sha256": self._text_sha256(resolved.text),
            "defconfig": rows.storable(resolved.defconfig),
        }
        known = self._db.execute(
            "SELECT id FROM configs"
            " WHERE digest = :digest AND text_sha256 = :text_sha256 AND defconfig = :defconfig",
            wanted,
        ).fetchone()
        if known is None:
            return _new_id(
                self._db.execute(
                    "INSERT INTO configs (digest, text_sha256, defconfig)"
                    " VALUES (:digest, :text_sha256, :defconfig)",
                    wanted,
                )
            )
        return int(known[0])

    def trials(self) -> list[Trial]:
        """Every trial by number, without the texts of whole .configs.

        ``resolved.text`` and ``build.config_text`` are empty here, because unpacking thousands of
        them costs more than all the rest; :meth:`trial` and :meth:`resolved` have them.

        Raises:
            UserError: the file is damaged.
            MachineFault: the disk is broken.
        """
        return self._load(*_ALL, texts=False)

    def trial(self, number: int) -> Trial:
        """One whole trial, equal to the record that was put.

        Raises:
            UserError: there is no such trial, or the file is damaged.
            MachineFault: the disk is broken.
        """
        found = self._load(number, number, texts=True)
        if not found:
            raise UserError(f"There is no trial {number} in {self.path}.", "See: memtotal status")
        return found[0]

    def resolved(self, number: int) -> ResolvedConfig:
        """The resolved configuration of a trial, with the whole .config.

        Raises:
            UserError: there is no such trial, or the file is damaged.
            MachineFault: the disk is broken.
        """
        return self.trial(number).resolved

    def best(self) -> int | None:
        """The passed trial with the highest objective; None when none passed.

        Of equals the one with the smaller image wins, then the earlier one.

        Raises:
            UserError: the file is damaged.
        """
        return self._number(
            "SELECT t.number FROM trials t LEFT JOIN builds b ON b.trial = t.number"
            " WHERE t.outcome = 'passed' AND t.objective IS NOT NULL"
            " ORDER BY t.objective DESC, b.image_bytes IS NULL, b.image_bytes, t.number LIMIT 1"
        )

    def by_digest(self, digest: str, parameters: Mapping[str, str] | None = None) -> Trial | None:
        """The first trial that really tried this configuration: built it, with whatever outcome.

        Args:
            digest: of the resolved configuration.
            parameters: of the kernel's command line, name -> value; none when left out.

        Raises:
            UserError: the file is damaged.
        """
        sought = [f"{name}={value}" for name, value in sorted((parameters or {}).items())]
        number = self._number(
            "SELECT t.number FROM configs c JOIN trials t ON t.config = c.id"
            " WHERE c.digest = ? AND t.outcome NOT IN ('duplicate', 'config_refused')"
            " AND coalesce((SELECT group_concat(pair, ' ') FROM"
            " (SELECT a.symbol || a.asked AS pair FROM assignments a WHERE a.trial = t.number"
            " AND a.symbol LIKE '%=' AND a.asked IS NOT NULL ORDER BY pair)), '') = ?"
            " ORDER BY t.number LIMIT 1",
            digest,
            " ".join(sought),
        )
        return None if number is None else self.trial(number)

    def _number(self, sql: str, *parameters: str) -> int | None:
        with self._reading_rows():
            row = self._db.execute(sql, [rows.storable(one) for one in parameters]).fetchone()
            return None if row is None else int(row[0])

    def _load(self, first: int, last: int, *, texts: bool) -> list[Trial]:
        span = {"first": first, "last": last, "texts": texts}

        def query(sql: str) -> list[rows.Row]:
            return list(self._db.query(sql, span))

        with self._reading_rows():
            # One snapshot: a trial stored between two of these would otherwise come in half.
            stored = rows.StoredRows(
                trials=query(
                    "SELECT t.*, c.digest, c.defconfig, x.text_zlib"
                    " FROM trials t JOIN configs c ON c.id = t.config"
                    " LEFT JOIN config_texts x ON :texts AND x.sha256 = c.text_sha256"
                    " WHERE t.number BETWEEN :first AND :last ORDER BY t.number"
                ),
                assignments=self._db.execute(
                    "SELECT trial, symbol, asked, effective FROM assignments"
                    " WHERE trial BETWEEN :first AND :last ORDER BY trial, symbol",
                    {"first": first, "last": last},
                ).fetchall(),
                by_table={
                    "builds": query(
                        "SELECT b.*, x.text_zlib FROM builds b"
                        " LEFT JOIN config_texts x ON :texts AND x.sha256 = b.text_sha256"
                        " WHERE b.trial BETWEEN :first AND :last"
                    )
                }
                | {table: query(sql) for table, sql in _PARTS.items()},
            )
            return rows.trials_from(stored, self.folder)

    # --- verdicts

    def put_verdicts(self, winner: int, verdicts: Iterable[Verdict]) -> None:
        """Store why each candidate stays, in place of what was stored of that before.

        Args:
            winner: number of the best trial, to which the verdicts refer.
            verdicts: one for each value that was or could be tried.

        Raises:
            UserError, MachineFault: as :meth:`put_trial`.
        """
        with self._writing():
            self._db.execute("DELETE FROM verdicts")
            self._db.table("verdicts").insert_all(
                {"winner": winner} | rows.verdict_row(one) for one in verdicts
            )

    def verdicts(self) -> list[Verdict]:
        """Why each candidate stays, by option; empty before the first run ended.

        Raises:
            UserError: the file is damaged.
        """
        with self._reading_rows():
            return [
                rows.verdict_from(row)
                for row in self._db.query("SELECT * FROM verdicts ORDER BY option, tried")
            ]

    # --- runs and activity

    def start_run(
        self,
        *,
        sampler: str,
        seed: int,
        jobs: int,
        cores: int,
        memory_gb: float,
        budget_seconds: float | None = None,
        budget_trials: int | None = None,
    ) -> int:
        """Note that a run starts now in this process, and forget the activity of earlier ones.

        Returns:
            The run's id, for :meth:`end_run`.

        Raises:
            UserError, MachineFault: as :meth:`put_trial`.
        """
        with self._writing():
            self._db.execute("DELETE FROM activity")
            cursor = self._db.execute(
                "INSERT INTO runs (started_at, pid, budget_seconds, budget_trials, sampler, seed,"
                " jobs, cores, memory_gb) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    _now(),
                    os.getpid(),
                    budget_seconds,
                    budget_trials,
                    rows.storable(sampler),
                    seed,
                    jobs,
                    cores,
                    memory_gb,
                ),
            )
            return _new_id(cursor)

    def end_run(self, run_id: int, reason: str) -> None:
        """Note why and that the run ended now, and that nothing is going on any more.

        Raises:
            UserError, MachineFault: as :meth:`put_trial`.
        """
        with self._writing():
            self._db.execute("DELETE FROM activity")
            self._db.execute(
                "UPDATE runs SET ended_at = ?, stop_reason = ? WHERE id = ?",
                (_now(), rows.storable(reason), run_id),
            )

    def runs(self) -> list[Run]:
        """Every run, the first one first.

        Raises:
            UserError: the file is damaged.
        """
        with self._reading_rows():
            return [
                Run(**row)
                for row in self._db.query(
                    "SELECT r.*, s.state FROM runs r JOIN run_states s ON s.run = r.id"
                    " ORDER BY r.id"
                )
            ]

    def set_activity(self, slot: int, trial_number: int, phase: str, detail: str = "") -> None:
        """Say what a slot is doing. Cheap; left out when another process holds the file.

        Raises:
            UserError, MachineFault: as :meth:`put_trial`, except for being locked.
        """
        row = (slot, trial_number, rows.storable(phase), rows.storable(detail), os.getpid(), _now())
        self._note(
            "INSERT OR REPLACE INTO activity (slot, trial, phase, detail, pid, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            row,
        )

    def clear_activity(self, slot: int | None = None) -> None:
        """Say that a slot is idle, or that all are.

        Raises:
            UserError, MachineFault: as :meth:`set_activity`.
        """
        self._note("DELETE FROM activity WHERE ?1 IS NULL OR slot = ?1", (slot,))

    def activity(self) -> list[Activity]:
        """What the slots are doing, by slot.

        Raises:
            UserError: the file is damaged.
        """
        with self._reading_rows():
            return [
                Activity(**row) for row in self._db.query("SELECT * FROM activity ORDER BY slot")
            ]

    def _note(self, sql: str, parameters: Sequence[Any]) -> None:
        with self._mutex, mapped(self.path):
            waited = self._db.execute("PRAGMA busy_timeout").fetchone()[0]
            self._db.execute(f"PRAGMA busy_timeout = {int(ACTIVITY_BUSY_SECONDS * 1000)}")
            self._db.execute("PRAGMA synchronous = NORMAL")
            try:
                self._db.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            finally:
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute(f"PRAGMA busy_timeout = {int(waited)}")

    # --- transactions

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        # IMMEDIATE: waiting for another writer happens here, before anything was done.
        with self._mutex, mapped(self.path), self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def _reading_rows(self) -> Iterator[None]:
        with self._mutex, mapped(self.path), intact(self.path), self._transaction("BEGIN"):
            yield

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        try:
            self._db.execute(begin)
            yield
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise


# Where the parts of a trial are, each in the order in which the record has them.
_PARTS: Mapping[str, str] = {
    table: f"SELECT * FROM {table} WHERE trial BETWEEN :first AND :last ORDER BY trial, {order}"  # noqa: S608
    for table, order in (
        ("refusals", "position"),
        ("build_errors", "position"),
        ("sections", "name"),
        ("boots", "trial"),
        ("smoke_checks", "position"),
        ("measurements", "trial"),
        ("meminfo", "name"),
        ("tools", "name"),
        ("ledgers", "trial"),
        ("ledger_entries", "position"),
    )
}


def _new_id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT that did not raise has one
    return cursor.lastrowid


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _migrations() -> Migrations:
    """The migrations in the order of their file names; a file once released never changes."""
    known = Migrations("memtotal")
    for path in sorted(MIGRATIONS.glob("*.sql")):
        sql = path.read_text(encoding="utf-8")

        def apply(db: sqlite_utils.Database, /, sql: str = sql) -> None:
            db.executescript(sql)

        known(name=path.stem)(apply)
    return known


def _connect(path: Path, mode: str, busy_seconds: float) -> sqlite_utils.Database:
    connection = sqlite3.connect(
        f"{path.as_uri()}?{mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,  # transactions begin and end where the code says so
        check_same_thread=False,  # Database's mutex sees to that
    )
    return sqlite_utils.Database(connection, execute_plugins=False)


def _updated_copy(connection: sqlite_utils.Database) -> sqlite_utils.Database:
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with contextlib.closing(connection):
        connection.conn.backup(memory)
    copy = sqlite_utils.Database(memory, execute_plugins=False)
    _migrations().apply(copy)
    copy.execute("PRAGMA query_only = ON")
    return copy


def _create(path: Path) -> None:
    """Make a new file under another name and put it in place when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with contextlib.closing(_connect(draft, "mode=rwc", BUSY_SECONDS)) as connection:
            _prepare(path, connection)
            # Closing would fold the log into the file too, but says nothing when the disk is full,
            # and a file without its log would be a damaged one.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        draft.replace(path)
        # Without this a power cut could take the file back, with all that was stored since.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        for left in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm"))):
            left.unlink(missing_ok=True)


def _prepare(path: Path, connection: sqlite_utils.Database) -> None:
    """Make a writing connection what this module relies on, and the schema the newest."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise denied(path, "its file system does not allow SQLite's write-ahead log")
    connection.execute("PRAGMA synchronous = FULL")
    _migrations().apply(connection)


def _require(path: Path) -> None:
    if not path.exists():
        raise UserError(f"There is no {path}.", "A run makes it: memtotal run STUDY")
    if path.is_dir():
        raise denied(path, "it is a folder")


def _examine(path: Path, connection: sqlite_utils.Database) -> bool:
    """Whether migrations are pending; an error when the file is not a sound one of this program."""
    tables = set(connection.table_names())
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        if not tables:
            raise damaged(path, "it is empty")
        raise UserError(
            f"{path} is a database of another program.", "Choose another study name or folder."
        )
    findings = [row[0] for row in connection.execute("PRAGMA integrity_check(3)").fetchall()]
    if findings != ["ok"]:
        raise damaged(path, "; ".join(findings))
    migrations = _migrations()
    applied = {one.name for one in migrations.applied(connection)}
    if newer := sorted(applied - {file.stem for file in MIGRATIONS.glob("*.sql")}):
        raise UserError(
            f"{path} was written by a newer version of memtotal ({', '.join(newer)}).",
            "Update memtotal, or choose another study name.",
        )
    return bool(migrations.pending(connection))


def _not_comparable(
    path: Path, changed: Sequence[str], known: Mapping[str, Any], told: Mapping[str, Any]
) -> UserError:
    words = {
        "name": "the study's name",
        "tree": "the kernel tree",
        "compiler": "the compiler",
        "emulator": "the emulator",
        "study_digest": "the board, the defconfig, the smoke suites or the objective",
    }
    lines = [f"{words[key]} (was {known[key]}, is {told[key]})" for key in changed]
    return UserError(
        f"The trials in {path} cannot be compared with new ones; changed: {', '.join(lines)}.",
        f"Give the study another name, or remove {path.parent} to start over.",
    )
