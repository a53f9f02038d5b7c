"""The tables, and how files of earlier versions become these.

A migration is one transaction: killed in the middle, it leaves the file as it was.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from eigenmesh.control.journal.sealed import seal
from eigenmesh.guard.controls import Controls, Mode

SCHEMA_VERSION = 2

EVIDENCE = ("observation", "curves")
"""Of a decision's body: what it rests on, by far the most of it, and the first to be forgotten."""
FIGURES = ("predicted", "incumbent_predicted", "predicted_latency", "seconds")
"""Of a decision's body: what lists show."""

_TABLES = """
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    action TEXT NOT NULL,
    why TEXT NOT NULL,
    verdict TEXT,
    predicted REAL,
    incumbent_predicted REAL,
    predicted_latency REAL,
    seconds REAL NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE evidence (
    number INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;
CREATE TABLE state (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
"""


def bring_up(db: sqlite3.Connection, version: int) -> None:
    """From schema `version` (0: an empty file) to ours; the file must not be written meanwhile.

    Raises sqlite3.Error; ValueError, KeyError or TypeError when contents are damaged.
    """
    if version == 0:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("BEGIN IMMEDIATE")
    try:
        if version == 0:
            _create(db)
            put_state(db, "mesh", {})
        else:
            _from_1(db)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def insert(
    db: sqlite3.Connection, number: int, time: float, action: str, why: str, body: dict[str, Any]
) -> None:
    """A decision; `body` as `record.to_body` makes it. The columns beside it are for lists."""
    evidence = {name: body[name] for name in EVIDENCE}
    rest = {name: value for name, value in body.items() if name not in EVIDENCE}
    check = body.get("check")
    verdict = check["verdict"] if check else None
    figures = [body[name] for name in FIGURES]
    sealed = seal(f"decisions/{number}", [time, action, why, rest])
    db.execute(
        "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, time, action, why, verdict, *figures, sealed),
    )
    if any(evidence.values()):
        sealed = seal(f"evidence/{number}", evidence)
        db.execute("INSERT INTO evidence VALUES (?, ?)", (number, sealed))


def put_state(db: sqlite3.Connection, key: str, value: object) -> None:
    db.execute(
        "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, seal(f"state/{key}", value)),
    )


def _create(db: sqlite3.Connection) -> None:
    for statement in filter(str.strip, _TABLES.split(";")):
        db.execute(statement)


def _from_1(db: sqlite3.Connection) -> None:
    """Bodies were whole and plain; the mode stood alone."""
    db.execute("ALTER TABLE decisions RENAME TO decisions_1")
    db.execute("ALTER TABLE state RENAME TO state_1")
    _create(db)
    rows = db.execute("SELECT number, time, action, why, body FROM decisions_1 ORDER BY number")
    for number, time, action, why, body in rows:
        insert(db, number, time, action, why, json.loads(body))
    old = dict(db.execute("SELECT key, value FROM state_1"))
    mesh: dict[str, Any] = {}
    if "plan" in old:
        mesh |= {"plan": json.loads(old["plan"]), "mesh_hash": old["mesh_hash"]}
    if "mode" in old:
        mesh["controls"] = Controls(Mode(old["mode"])).to_dict()
    put_state(db, "mesh", mesh)
    for key in ("estimator", "grants"):
        if key in old:
            put_state(db, key, json.loads(old[key]))
    db.execute("DROP TABLE decisions_1")
    db.execute("DROP TABLE state_1")
