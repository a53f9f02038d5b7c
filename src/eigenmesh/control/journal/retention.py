"""How much is kept. Where room is short the oldest observations go first, of all but the newest
decisions; then decisions; the audit last."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

DAY = 86_400.0
_BATCH = 16
_ROUNDS = 64
"""Batches at once: a limit that was lowered must not hold up a tick."""
_SPARE = 1 / 8
"""Of the size: how much of the file may be free pages, which the next decisions take."""
_SEEN = 1 / 4
"""Of the decisions: as many keep what they rest on, for `replay`."""
_VACUUM = 2048
"""Pages given back to the disk at once."""


@dataclass(frozen=True)
class Retention:
    """decisions: so many. days: of decisions and audit. megabytes: of the file; its write-ahead
    log comes on top, a few more."""

    decisions: int = 1_000_000
    days: float = 30.0
    megabytes: float = 256.0


def prune(db: sqlite3.Connection, keep: Retention, now: float) -> None:
    """Within a transaction. now: unix seconds. Raises sqlite3.Error."""
    newest = db.execute("SELECT coalesce(max(number), 0) FROM decisions").fetchone()[0]
    for table, least in (("decisions", newest - keep.decisions), ("audit", 0)):
        # By their numbers, of which only the oldest are looked at: there is no index on time.
        oldest = db.execute(f"SELECT number, time FROM {table} ORDER BY number LIMIT {_BATCH}")
        old = [(n,) for n, time in oldest if n <= least or time < now - keep.days * DAY]
        db.executemany(f"DELETE FROM {table} WHERE number = ?", old)
    db.execute("DELETE FROM evidence WHERE number < (SELECT min(number) FROM decisions)")
    for _ in range(_ROUNDS):
        pages, free, size = _pages(db)
        if (pages - free) * size <= (1 - _SPARE) * keep.megabytes * 1e6:
            break
        first = {table: _oldest(db, table) or newest for table in ("evidence", "decisions")}
        seen, made = newest - first["evidence"], newest - first["decisions"]
        order = ("evidence", "decisions") if seen > _SEEN * made else ("decisions", "evidence")
        if not any(_drop_oldest(db, table) for table in (*order, "audit")):
            break
    pages, free, _ = _pages(db)
    if free > _SPARE * pages:
        for _ in range(min(free, _VACUUM)):
            # One at a time: the statement yields after each page, and Python steps it once.
            db.execute("PRAGMA incremental_vacuum(1)")


def _oldest(db: sqlite3.Connection, table: str) -> int | None:
    number: int | None = db.execute(f"SELECT min(number) FROM {table}").fetchone()[0]
    return number


def _drop_oldest(db: sqlite3.Connection, table: str) -> bool:
    gone = db.execute(
        f"DELETE FROM {table} WHERE number IN "
        f"(SELECT number FROM {table} ORDER BY number LIMIT {_BATCH}) "
        # The newest stays: numbers go on from it.
        f"AND number < (SELECT max(number) FROM {table})"
    )
    return gone.rowcount > 0


def _pages(db: sqlite3.Connection) -> tuple[int, int, int]:
    """All pages of the file, free ones among them, and the size of each."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return pages, free, size
