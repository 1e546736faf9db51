"""Damaged, foreign, locked and unwritable files; full disks; killed writers."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from store_examples import passed_trial

import optimizer.store.database
from optimizer.errors import MachineFault, MemtotalError, UserError
from optimizer.records import Attribution, AttributionKind, Trial
from optimizer.store import Database
from optimizer.store.faults import mapped, translated

KILLS = 30
Opener = Callable[[Path], Database]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A finished study with three trials."""
    path = tmp_path / "study" / "trials.db"
    with Database.open(path, create=True) as database:
        for number in range(3):
            database.put_trial(passed_trial(path.parent, number))
    return path


def content(path: Path) -> dict[str, bytes]:
    """What is in the database and its log of commits.

    The -shm file is scratch of SQLite's, and an empty log is as good as none.
    """
    files = {
        file.name: file.read_bytes()
        for file in path.parent.iterdir()
        if file.is_file() and not file.name.endswith("-shm")
    }
    return {name: data for name, data in files.items() if data or not name.endswith("-wal")}


def left_behind(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def open_for_writing(path: Path) -> Database:
    return Database.open(path, create=False)


def open_or_create(path: Path) -> Database:
    return Database.open(path, create=True)


OPENERS: list[Opener] = [open_for_writing, open_or_create, Database.read]


def without_privileges(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A child python that file permissions bind, though root may be running the tests."""
    argv = [sys.executable, "-c", script, *arguments]
    if os.geteuid() == 0:
        argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", *argv]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=env, timeout=60)


# --- the map of errors


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(sqlite3).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ],
)
def test_no_error_class_of_sqlite_gets_out(kind: type[Exception]) -> None:
    with pytest.raises(MemtotalError), mapped(Path("trials.db")):
        raise kind("whatever")


@pytest.mark.parametrize(
    ("name", "expected", "words"),
    [
        ("SQLITE_CORRUPT", UserError, "damaged"),
        ("SQLITE_CORRUPT_VTAB", UserError, "damaged"),
        ("SQLITE_NOTADB", UserError, "damaged"),
        ("SQLITE_BUSY", UserError, "another process"),
        ("SQLITE_BUSY_SNAPSHOT", UserError, "another process"),
        ("SQLITE_LOCKED", UserError, "another process"),
        ("SQLITE_READONLY", UserError, "cannot be opened or written"),
        ("SQLITE_CANTOPEN", UserError, "cannot be opened or written"),
        ("SQLITE_PERM", UserError, "cannot be opened or written"),
        ("SQLITE_FULL", MachineFault, "no space left"),
        ("SQLITE_IOERR", MachineFault, "failed"),
        ("SQLITE_IOERR_FSYNC", MachineFault, "failed"),
        ("SQLITE_NOMEM", MachineFault, "failed"),
        ("SQLITE_CONSTRAINT", MachineFault, "failed"),
    ],
)
def test_errors_name_who_can_mend_them(name: str, expected: type[Exception], words: str) -> None:
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = getattr(sqlite3, name)
    mine = translated(error, Path("trials.db"))
    assert type(mine) is expected
    assert words in mine.message
    assert mine.remedy


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.EACCES, UserError), (errno.EROFS, UserError), (errno.ENOSPC, MachineFault)],
)
def test_errors_of_the_file_system_are_mapped(number: int, expected: type[Exception]) -> None:
    with pytest.raises(expected, match=r"trials\.db"), mapped(Path("trials.db")):
        raise OSError(number, os.strerror(number))


# --- files that are not what they should be


@pytest.mark.parametrize("opener", [open_for_writing, Database.read])
def test_a_missing_file_is_not_made(opener: Opener, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no"):
        opener(tmp_path / "trials.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_that_is_no_database_is_left_alone(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    path.write_text("This is my shopping list.\n" * 500)
    before = content(path)
    with pytest.raises(UserError, match="damaged or not a database") as caught:
        opener(path)
    assert "Move it away" in caught.value.remedy
    assert content(path) == before


@pytest.mark.parametrize("opener", OPENERS)
def test_a_truncated_file_is_left_alone(opener: Opener, path: Path) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)
    before = content(path)
    with pytest.raises(UserError, match="damaged"):
        opener(path)
    assert content(path) == before


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("seed", range(4))
def test_overwritten_pages_are_noticed_and_left_alone(
    opener: Opener, seed: int, path: Path
) -> None:
    data = bytearray(path.read_bytes())
    page = random.Random(seed).randrange(2, len(data) // 4096)
    data[page * 4096 : page * 4096 + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    before = content(path)
    with pytest.raises(UserError, match="damaged"):
        opener(path)
    assert content(path) == before


@pytest.mark.parametrize("opener", OPENERS)
def test_the_commits_beside_a_damaged_file_are_left_alone(opener: Opener, path: Path) -> None:
    copy = path.parent.parent / "killed" / "trials.db"
    with Database.open(path, create=False) as database:
        database.put_trial(passed_trial(path.parent, 3))
        shutil.copytree(path.parent, copy.parent)  # as a killed writer leaves it
    # Every page but the first: the log holds newer copies of some, and may mend none of the rest.
    data = copy.read_bytes()
    copy.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
    before = content(copy)
    assert before["trials.db-wal"]
    with pytest.raises(UserError, match="damaged"):
        opener(copy)
    assert content(copy) == before


def test_a_row_nobody_here_wrote_is_damage(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE trials SET outcome = 'marvellous' WHERE number = 1")
        connection.execute("UPDATE config_texts SET text_zlib = x'00' WHERE rowid = 1")
        connection.commit()
    with Database.read(path) as database:
        with pytest.raises(UserError, match="marvellous"):
            database.trials()
        with pytest.raises(UserError, match="damaged"):
            database.trial(0)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_database_of_another_program_is_left_alone(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE trials (verdict TEXT)")
    before = content(path)
    with pytest.raises(UserError, match="another program"):
        opener(path)
    assert content(path) == before


def test_an_empty_file_is_nothing_yet(tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    path.touch()
    for opener in (open_for_writing, Database.read):
        with pytest.raises(UserError, match="empty"):
            opener(path)
    with Database.open(path, create=True) as database:
        assert database.trials() == []


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "trials.db").mkdir()
    for opener in OPENERS:
        with pytest.raises(UserError, match="cannot be opened"):
            opener(tmp_path / "trials.db")


# --- versions


def test_released_migrations_are_never_edited() -> None:
    """Files in the field were made by exactly these; a change goes into a new migration."""
    digests = {
        file.stem: hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        for file in optimizer.store.database.MIGRATIONS.glob("*.sql")
    }
    assert digests == {
        "0001_trials": "3d501304e81e943b",
        "0002_image_sha256": "237f23bc930f4291",
        "0003_no_image_paths": "3dfc6c1d82a71b7b",
        "0004_verdicts": "a48fc3aae966ae0c",
        "0005_ledgers": "5d123b10165d40b7",
        "0006_findings": "3f839efe36ec3bf8",
    }


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the migrations of this program lie, as if it were the next version."""
    folder = tmp_path / "migrations"
    shutil.copytree(optimizer.store.database.MIGRATIONS, folder)
    (folder / "0002_next.sql").write_text(
        "CREATE TABLE notes (text TEXT);\nINSERT INTO notes VALUES ('a; b');\n"
    )
    monkeypatch.setattr(optimizer.store.database, "MIGRATIONS", folder)
    return folder


def test_an_older_file_is_brought_up_to_date(path: Path, next_version: Path) -> None:
    before = path.read_bytes()
    with Database.read(path) as database:
        # Readers bring a copy up to date: the file may be on a read-only medium.
        assert len(database.trials()) == 3
        with pytest.raises(MemtotalError, match="readonly"):
            database.put_attribution(Attribution(AttributionKind.WINNER, "A", "n", 0, 1))
    assert path.read_bytes() == before
    with Database.open(path, create=False) as database:
        assert len(database.trials()) == 3
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM notes").fetchall() == [("a; b",)]
    with Database.read(path) as database:
        assert len(database.trials()) == 3


def test_a_migration_happens_whole_or_not_at_all(path: Path, next_version: Path) -> None:
    good = (next_version / "0002_next.sql").read_text()
    (next_version / "0002_next.sql").write_text(good + "DROP TABLE nowhere;\n")
    with pytest.raises(MemtotalError, match="nowhere"):
        Database.open(path, create=False)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name='notes'").fetchall() == []
    (next_version / "0002_next.sql").write_text(good)
    with Database.open(path, create=False) as database:
        assert len(database.trials()) == 3


@pytest.mark.parametrize("opener", OPENERS)
def test_a_newer_file_is_left_alone(
    opener: Opener, path: Path, next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database.open(path, create=False).close()
    monkeypatch.undo()
    before = content(path)
    with pytest.raises(UserError, match=r"newer version of memtotal \(0002_next\)"):
        opener(path)
    assert content(path) == before


# --- who may write


def test_a_second_writer_gets_a_clear_error(path: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        Database.open(path, create=False, busy_seconds=0.05) as database,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="written by another process"):
            database.put_trial(passed_trial(path.parent, 3))
        database.set_activity(0, 3, "build")  # not worth an error
        with pytest.raises(UserError, match="written by another process"):
            Database.open(path, create=False, busy_seconds=0.05)
        other.execute("ROLLBACK")
        assert database.activity() == []
        database.put_trial(passed_trial(path.parent, 3))
        assert len(database.trials()) == 4


def test_readers_and_the_writer_do_not_wait_for_each_other(path: Path) -> None:
    with Database.open(path, create=False) as writer, Database.read(path) as reader:
        writer._db.execute("BEGIN IMMEDIATE")
        writer._db.execute("DELETE FROM trials")
        assert len(reader.trials()) == 3  # while the writer is in the middle of it
        writer._db.execute("ROLLBACK")
        with reader._reading_rows():
            assert reader._db.execute("SELECT count(*) FROM trials").fetchone() == (3,)
            writer.put_trial(passed_trial(path.parent, 3))  # while the reader is
            assert reader._db.execute("SELECT count(*) FROM trials").fetchone() == (3,)
        assert len(reader.trials()) == 4


def test_a_reader_cannot_write(path: Path) -> None:
    before = path.read_bytes()
    with Database.read(path) as reader:
        with pytest.raises(UserError, match="cannot be opened or written"):
            reader.put_trial(passed_trial(path.parent, 3))
        with pytest.raises(UserError, match="cannot be opened or written"):
            reader.set_activity(0, 1, "build")
    assert path.read_bytes() == before


def test_a_finished_trial_is_on_the_disk(path: Path) -> None:
    with Database.open(path, create=False) as database:
        full = 2
        assert database._db.execute("PRAGMA synchronous").fetchone() == (full,)
        assert database._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        database.set_activity(0, 1, "build")
        assert database._db.execute("PRAGMA synchronous").fetchone() == (full,)


READ = """
import sys
from pathlib import Path
from optimizer.errors import UserError
from optimizer.store import Database
try:
    with Database.read(Path(sys.argv[1])) as database:
        print(len(database.trials()))
except UserError as error:
    print(error)
"""
WRITE = READ.replace(
    "Database.read(Path(sys.argv[1]))", "Database.open(Path(sys.argv[1]), create=True)"
)


@pytest.fixture
def read_only(path: Path) -> Iterator[Path]:
    """The study in a folder that may not be written, as on a read-only medium."""
    path.chmod(0o444)
    path.parent.chmod(0o555)
    yield path
    path.parent.chmod(0o755)


def test_results_on_a_read_only_medium_can_be_read(read_only: Path) -> None:
    assert left_behind(read_only) == ["trials.db"]
    done = without_privileges(READ, str(read_only))
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_a_read_only_folder_is_an_error_to_a_writer(read_only: Path, tmp_path: Path) -> None:
    done = without_privileges(WRITE, str(read_only))
    assert "trials.db cannot be opened or written" in done.stdout, done.stderr
    done = without_privileges(WRITE, str(read_only.parent / "sub" / "trials.db"))
    assert "trials.db cannot be opened or written" in done.stdout, done.stderr


def test_another_users_run_can_be_watched(path: Path) -> None:
    """The folder may not be written, and a writer has the file open with commits in its log."""
    with Database.open(path, create=False) as writer:
        writer.put_trial(passed_trial(path.parent, 3))
        for file in path.parent.iterdir():
            file.chmod(0o444)
        path.parent.chmod(0o555)
        try:
            done = without_privileges(READ, str(path))
        finally:
            path.parent.chmod(0o755)
    assert (done.stdout, done.stderr) == ("4\n", "")


def test_pending_commits_on_a_read_only_medium_are_not_passed_over(path: Path) -> None:
    copy = path.parent.parent / "killed" / "trials.db"
    with Database.open(path, create=False) as database:
        database.put_trial(passed_trial(path.parent, 3))
        shutil.copytree(path.parent, copy.parent)
    copy.with_name("trials.db-shm").unlink()
    copy.parent.chmod(0o555)
    try:
        done = without_privileges(READ, str(copy))
    finally:
        copy.parent.chmod(0o755)
    assert done.stdout == "4\n" or "Copy the whole folder" in done.stdout, done.stderr


# --- a full disk

FILL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from store_examples import passed_trial
from optimizer.errors import MachineFault
from optimizer.store import Database
path = Path(sys.argv[1]) / "trials.db"
with Database.open(path, create=True) as database:
    database.put_trial(passed_trial(path.parent, 0))
    (path.parent / "ballast").write_bytes(bytes(256 * 1024))
    try:
        for number in range(1, 1000):
            database.put_trial(passed_trial(path.parent, number, reason="x" * 20000))
    except MachineFault as error:
        print(error)
    stored = len(database.trials())
    (path.parent / "ballast").unlink()
    database.put_trial(passed_trial(path.parent, 1000))
with Database.read(path) as database:
    print(stored == number, len(database.trials()) == number + 1)
"""


def test_a_full_disk_is_a_machine_fault_and_loses_nothing(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=2M none "$0" && exec "$@"'
    inside = ["unshare", "-rm", "sh", "-c", mount, str(tmp_path)]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no one mount a small file system")
    done = subprocess.run(
        [*inside, sys.executable, "-c", FILL, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    assert "no space left" in done.stdout, done.stderr
    assert done.stdout.endswith("True True\n"), done.stdout + done.stderr


def test_a_full_database_is_a_machine_fault(path: Path) -> None:
    with Database.open(path, create=False) as database:
        pages = database._db.execute("PRAGMA page_count").fetchone()[0]
        database._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(MachineFault, match="no space left"):
            database.put_trial(passed_trial(path.parent, 3, reason="x" * 100_000))
        assert len(database.trials()) == 3


# --- killed writers


def storing(path: Path, first: int, told: Connection) -> None:
    """Store trials for ever, saying the number of each when it is stored."""
    with Database.open(path, create=True) as database:
        told.send(-1)
        number = first
        while True:
            database.put_trial(big_trial(path.parent, number))
            told.send(number)
            number += 1


def big_trial(folder: Path, number: int) -> Trial:
    values = {f"OPTION_{option}": "y" for option in range(300)}
    return passed_trial(folder, number, params=values, effective=values, reason="r" * 30_000)


def test_a_killed_writer_loses_no_trial_and_stores_no_half_one(tmp_path: Path) -> None:
    path = tmp_path / "study" / "trials.db"
    chance = random.Random(20110605)
    context = multiprocessing.get_context("fork")
    told: list[int] = []
    for _ in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=storing, args=(path, max(told, default=-1) + 1, theirs))
        child.start()
        theirs.close()
        # Mostly after the first put, at any point of the next ones; now and then while opening.
        if chance.random() < 0.8:
            assert ours.poll(60), "the writer did not come up"
            while (number := ours.recv()) < 0:
                pass
            told.append(number)
        time.sleep(chance.uniform(0, 0.02))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        with contextlib.suppress(EOFError):
            while True:
                told += [number for number in [ours.recv()] if number >= 0]
        ours.close()
        if not path.exists():
            continue
        with Database.read(path) as database:  # which checks the file's integrity
            stored = [trial.number for trial in database.trials()]
            # At most the one that was stored before its number could be told.
            assert stored in (told, [*told, len(told)])
            told = stored
            if stored:
                assert database.trial(stored[-1]) == big_trial(path.parent, stored[-1])
    assert len(told) > KILLS / 2
    with Database.open(path, create=False) as database:
        assert database._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for number in told:
            assert database.trial(number) == big_trial(path.parent, number)
