"""The embedded journal (SQLite, WAL): every decision, the plan in force, the learned curves.

A plan is written before it is pushed. After a crash the journal is therefore never behind
Envoy: a restart serves the plan it finds, which Envoy either has already (nothing is sent) or
was just about to get.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eigenmesh.control.record import from_body, to_body
from eigenmesh.mesh import Decision, Plan

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    action TEXT NOT NULL,
    why TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE state (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
"""


class JournalError(Exception):
    """The journal file cannot be used; the message names the file, the cause and the remedy."""


class JournalWriteError(JournalError):
    """A write was refused (full or read-only disk); nothing was changed."""


@dataclass(frozen=True)
class Resumed:
    """What a restart finds. `plan` is None on first use or when the mesh has changed."""

    plan: Plan | None = None
    mode: str | None = None
    estimator: dict[str, Any] = field(default_factory=dict)
    grants: dict[str, dict[str, int]] = field(default_factory=dict)
    last_number: int = 0


class Journal:
    """Blocking: call it from threads, never from the event loop. Threads take turns.

    keep: decisions kept; older ones are deleted.
    """

    def __init__(self, path: Path | str, *, keep: int = 20_000) -> None:
        self.path = Path(path)
        self._keep = keep
        self._lock = threading.Lock()
        try:
            self._db = self._open()
        except sqlite3.Error as error:
            raise JournalError(
                f"journal: {self.path}: {error}; check the file's permissions and disk space, "
                "or set `journal` to another path"
            ) from error

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5.0)
        db.execute("PRAGMA journal_mode = WAL")
        # A crash of the process loses nothing; a power cut may lose the last decisions only.
        db.execute("PRAGMA synchronous = NORMAL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("COMMIT")
        elif version > SCHEMA_VERSION:
            db.close()
            raise JournalError(
                f"journal: {self.path}: schema {version} was written by a newer Eigenmesh "
                f"(this one knows {SCHEMA_VERSION}); upgrade, or set `journal` to another path"
            )
        return db

    def resume(self, mesh_hash: str) -> Resumed:
        """What was in force. `mesh_hash` names routes and clusters: another mesh's plan is void."""
        state = dict(self._db.execute("SELECT key, value FROM state"))
        last = self._db.execute("SELECT coalesce(max(number), 0) FROM decisions").fetchone()[0]
        try:
            same_mesh = state.get("mesh_hash") == mesh_hash
            return Resumed(
                plan=Plan.from_dict(json.loads(state["plan"]))
                if same_mesh and "plan" in state
                else None,
                mode=state.get("mode"),
                estimator=json.loads(state.get("estimator", "{}")) if same_mesh else {},
                grants=json.loads(state.get("grants", "{}")) if same_mesh else {},
                last_number=last,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"journal: {self.path}: its contents are damaged ({error}); "
                "move the file away to start from the operator's own weights"
            ) from error

    def put_in_force(self, plan: Plan, mesh_hash: str) -> None:
        """Records `plan` as the one in force; call it before pushing."""
        self._set(plan=json.dumps(plan.to_dict()), mesh_hash=mesh_hash)

    def put_grants(self, grants: dict[str, dict[str, int]]) -> None:
        """What each proxy may have in force of the limits: node -> cluster -> max_requests."""
        self._set(grants=json.dumps(grants))

    def put_mode(self, mode: str) -> None:
        self._set(mode=mode)

    def record(self, decision: Decision, estimator: dict[str, Any] | None = None) -> None:
        """Appends a decision; `estimator` is the state that a restart resumes with."""
        with self._writing():
            self._db.execute(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?)",
                (
                    decision.number,
                    decision.time,
                    decision.action.value,
                    decision.why,
                    json.dumps(to_body(decision)),
                ),
            )
            self._db.execute(
                "DELETE FROM decisions WHERE number <= ?", (decision.number - self._keep,)
            )
            if estimator is not None:
                self._upsert("estimator", json.dumps(estimator))

    def decisions(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest decisions first, as JSON-ready values."""
        rows = self._db.execute(
            "SELECT number, time, action, why, body FROM decisions ORDER BY number DESC LIMIT ?",
            (limit,),
        )
        return [
            {"number": n, "time": t, "action": a, "why": w, **json.loads(b)}
            for n, t, a, w, b in rows
        ]

    def decision(self, number: int) -> Decision | None:
        """The one with this number; None if it is not kept. Raises JournalError on damage."""
        try:
            with self._lock:
                row = self._db.execute(
                    "SELECT number, time, action, why, body FROM decisions WHERE number = ?",
                    (number,),
                ).fetchone()
            if row is None:
                return None
            made, time, action, why, body = row
            return from_body(made, time, action, why, json.loads(body))
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"journal: {self.path}: decision {number} cannot be read ({error}); "
                "ask for a later one"
            ) from error

    def close(self) -> None:
        self._db.close()

    def _set(self, **values: str) -> None:
        with self._writing():
            for key, value in values.items():
                self._upsert(key, value)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it or nothing."""
        try:
            with self._lock:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise JournalWriteError(
                f"journal: {self.path}: {error}; free disk space or mend its permissions"
            ) from error

    def _upsert(self, key: str, value: str) -> None:
        self._db.execute(
            "INSERT INTO state VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )
