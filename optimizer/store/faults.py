"""SQLite's and the file system's errors as this package's own: whose they are and what to do."""

from __future__ import annotations

import errno
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optimizer.errors import MachineFault, MemtotalError, UserError

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_DENIED = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
)
_DENIED_BY_SYSTEM = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Let nothing out of the block but this package's errors.

    Args:
        path: the database the block works on, for the message.

    Raises:
        UserError: damaged, locked or not accessible.
        MachineFault: everything else, a full disk for one.
    """
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise translated(error, path) from error
    except OverflowError as error:
        raise MachineFault(f"{path}: a figure does not fit: {error}.") from error
    except OSError as error:
        if error.errno in _DENIED_BY_SYSTEM:
            raise denied(path, str(error)) from error
        raise _broken(path, str(error)) from error


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Around making records of stored rows: rows that cannot be right mean a damaged file.

    Raises:
        UserError: packed text does not unpack, or a value is none that this package writes.
    """
    try:
        yield
    except (zlib.error, ValueError, KeyError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def translated(error: sqlite3.Error | sqlite3.Warning, path: Path) -> MemtotalError:
    """The error that SQLite's error means to whoever uses this package."""
    # The low byte is the result, the rest says where it arose. Errors that the sqlite3 module
    # raises by itself carry no code.
    code = getattr(error, "sqlite_errorcode", None)
    result = None if code is None else code & 0xFF
    if result in _DAMAGED or (code is None and "decode to UTF-8" in str(error)):
        return damaged(path, str(error))
    if result in _LOCKED:
        return UserError(
            f"{path} is being written by another process.",
            "Wait for it or stop it: one process at a time may write a study's results.",
        )
    if result in _DENIED:
        return denied(path, str(error))
    if result == sqlite3.SQLITE_FULL:
        return MachineFault(
            f"{path}: no space left to write in.", "Free disk space; stored trials are safe."
        )
    return _broken(path, str(error) or type(error).__name__)


def damaged(path: Path, what: str) -> UserError:
    """The error for a file whose content cannot be right; the file itself is left as it is."""
    return UserError(
        f"{path} is damaged or not a database ({what}). It was left as it is.",
        f"Move it away together with its -wal and -shm files. To save what can be read: "
        f"sqlite3 {path} .recover | sqlite3 {path.with_name('recovered.db')}",
    )


def denied(path: Path, what: str) -> UserError:
    """The error for a file or folder that may not be read or written."""
    return UserError(
        f"{path} cannot be opened or written: {what}.",
        "Check that its folder exists, who owns it, and that the disk is not mounted read-only.",
    )


def _broken(path: Path, what: str) -> MachineFault:
    return MachineFault(f"{path} failed: {what}.", "Check the disk; stored trials are safe.")
