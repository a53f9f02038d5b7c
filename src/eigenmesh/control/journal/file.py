"""Opening the file: for one writer, or for any number of readers beside it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

import structlog

from eigenmesh.control.journal.errors import JournalError
from eigenmesh.control.journal.schema import SCHEMA_VERSION, bring_up

log = structlog.get_logger(__name__)

_DAMAGED = "move the file away to start from the operator's own weights"


class Lock:
    """Held by the process that writes, through a file of its own beside the journal; the kernel
    lets go of it when the process ends, however it ends.

    SQLite's own locks last for one transaction. Not on the journal itself: closing another
    descriptor of it would let go of SQLite's (POSIX, fcntl).
    """

    def __init__(self, journal: Path) -> None:
        """Raises JournalError when another process has it, OSError when there can be none."""
        self.path = Path(f"{journal}.lock")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 20).decode(errors="replace") or "unknown"
            os.close(self._file)
            raise JournalError(
                f"journal: {journal}: in use by another Eigenmesh (process {holder}); "
                "stop that one, or set `journal` to another path"
            ) from None
        with suppress(OSError):  # On a full disk nobody is told who holds it.
            os.ftruncate(self._file, 0)
            os.write(self._file, str(os.getpid()).encode())

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Of today's schema, checked. Raises JournalError; the caller holds the lock."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        version = _version(db, path)
        if version:
            _check(db, path)
        # What a page held before must not be found in it again; see `sealed`.
        db.execute("PRAGMA secure_delete = FAST").fetchall()
        # A crash of the process loses nothing; a power cut may lose the last decisions only.
        db.execute("PRAGMA synchronous = NORMAL")
        if version < SCHEMA_VERSION:
            if version:
                log.info("migrating the journal", path=str(path), schema=version)
            _bring_up(db, path, version)
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("PRAGMA journal_size_limit = 4000000").fetchall()
        # Only a write shows that the file is read-only.
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("ROLLBACK")
        if db.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
            # An older file. Without room for a copy it is bounded all the same, but never shrinks.
            with suppress(sqlite3.OperationalError):
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                db.execute("VACUUM")
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: names of damaged tables
        db.close()
        raise _unusable(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Beside a writer, or from a folder that cannot be written. A file of an earlier schema is
    copied, and the copy migrated. Raises JournalError."""
    if not path.exists():
        raise JournalError(f"journal: {path}: there is no such file; run Eigenmesh first")
    # Who writes has a log. Without one nothing changes, and no files need be made to look at it:
    # they would be ours, and perhaps not the next writer's to use.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    try:
        db, version = _connect(path, how)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _unusable(path, error) from error
    if version == SCHEMA_VERSION:
        return db
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        db.backup(copy)
        _bring_up(copy, path, version)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        copy.close()
        raise _unusable(path, error) from error
    finally:
        db.close()
    return copy


def _connect(path: Path, how: str) -> tuple[sqlite3.Connection, int]:
    uri = f"{path.absolute().as_uri()}?{how}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        return db, _version(db, path)
    except BaseException:
        db.close()
        raise


def _version(db: sqlite3.Connection, path: Path) -> int:
    if path.exists() and path.stat().st_size == 1:
        # SQLite takes that for an empty one (its unixFileSize).
        raise JournalError(f"journal: {path}: all but a byte of it is lost; {_DAMAGED}")
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if not 0 <= version <= SCHEMA_VERSION:
        raise JournalError(
            f"journal: {path}: schema {version} was written by a newer Eigenmesh "
            f"(this one knows {SCHEMA_VERSION}); upgrade, or set `journal` to another path"
        )
    return version


def _check(db: sqlite3.Connection, path: Path) -> None:
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        line = " ".join(str(found).split())
        raise JournalError(f"journal: {path}: its contents are damaged ({line}); {_DAMAGED}")


def _bring_up(db: sqlite3.Connection, path: Path, version: int) -> None:
    try:
        bring_up(db, version)
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(
            f"journal: {path}: its contents are damaged ({error}); {_DAMAGED}"
        ) from error


def _unusable(path: Path, error: Exception) -> JournalError:
    if isinstance(error, sqlite3.OperationalError):
        remedy = "check the file's permissions and disk space, or set `journal` to another path"
    else:
        remedy = _DAMAGED
    return JournalError(f"journal: {path}: {error}; {remedy}")
