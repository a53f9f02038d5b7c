"""What is written and read.

A plan is written before it is pushed. After a crash the journal is therefore never behind Envoy: a
restart serves the plan it finds, which Envoy either has already (nothing is sent) or was just about
to get. What a restart acts on is one sealed document: it is right, or it is an error.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from eigenmesh.control.audit import AuditEntry
from eigenmesh.control.journal.errors import JournalError, JournalWriteError
from eigenmesh.control.journal.file import Lock, open_for_reading, open_for_writing
from eigenmesh.control.journal.retention import Retention, prune
from eigenmesh.control.journal.schema import insert, put_state
from eigenmesh.control.journal.sealed import unseal
from eigenmesh.control.record import from_body, to_body
from eigenmesh.mesh import Action, Decision, Plan, Verdict

_PUSHES = (Action.PUSH, Action.ROLLBACK)
_DETAIL = 10_000
"""Characters of an audit entry's detail that are kept."""


@dataclass(frozen=True)
class Resumed:
    """What a restart finds. `plan` is None on first use or when the mesh has changed.

    good: the last accepted plan. pending: number of the decision that waits for a yes. controls:
    as `Controls.to_dict` made them, of whatever mesh; None on first use.
    """

    plan: Plan | None = None
    good: Plan | None = None
    pending: int | None = None
    controls: dict[str, Any] | None = None
    estimator: dict[str, Any] = field(default_factory=dict)
    grants: dict[str, dict[str, int]] = field(default_factory=dict)
    last_number: int = 0


@dataclass(frozen=True)
class Summary:
    """A decision in a list; see `Decision`."""

    number: int
    time: float
    action: Action
    why: str
    verdict: Verdict | None
    predicted: float | None
    incumbent_predicted: float | None
    predicted_latency: float | None
    seconds: float


class Journal:
    """Blocking: call it from threads, never from the event loop. Threads take turns.

    One process writes at a time; `Journal.reading` looks on.
    """

    def __init__(self, path: Path | str, *, keep: Retention | None = None) -> None:
        """Raises JournalError when the file cannot be used, or is in use."""
        self.path = Path(path)
        self._keep = keep or Retention()
        self._turn = threading.Lock()
        try:
            self._lock: Lock | None = Lock(self.path.resolve())
        except OSError as error:
            raise JournalError(
                f"journal: {self.path}: its lock cannot be made: {error.strerror}; "
                "check that the folder exists and can be written, or set `journal` to another path"
            ) from error
        try:
            self._db = open_for_writing(self.path)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def reading(cls, path: Path | str) -> Journal:
        """One that only reads, beside the Eigenmesh that writes it. Raises JournalError."""
        journal = cls.__new__(cls)
        journal.path, journal._keep = Path(path), Retention()
        journal._turn, journal._lock = threading.Lock(), None
        journal._db = open_for_reading(journal.path)
        return journal

    def resume(self, mesh_hash: str) -> Resumed:
        """What was in force. `mesh_hash` names routes and clusters: another mesh's plan is void.

        Raises JournalError on damage.
        """
        with self._reading("its contents are damaged", _MOVE_AWAY):
            state = {key: unseal(f"state/{key}", value) for key, value in self._rows_of_state()}
            mesh = state["mesh"]
            last = self._db.execute("SELECT coalesce(max(number), 0) FROM decisions").fetchone()[0]
            found = Resumed(controls=mesh.get("controls"), last_number=last)
            if mesh.get("mesh_hash") != mesh_hash:
                return found
            return Resumed(
                plan=_plan(mesh.get("plan")),
                good=_plan(mesh.get("good")),
                pending=mesh.get("pending"),
                controls=found.controls,
                estimator=state.get("estimator", {}),
                grants=state.get("grants", {}),
                last_number=last,
            )

    def originals(self) -> Plan | None:
        """The operator's own weights and limits; None before `put_originals`."""
        with self._reading("its contents are damaged", _MOVE_AWAY):
            return _plan(self._mesh().get("originals"))

    def put_originals(self, plan: Plan, mesh_hash: str) -> None:
        """The operator's own plan of this mesh. The first one stays, until the mesh changes: then
        what was in force of the old one is forgotten."""
        with self._reading("its contents are damaged", _MOVE_AWAY):
            mesh = self._mesh()
        if mesh.get("mesh_hash") == mesh_hash and "originals" in mesh:
            return  # nothing to write, and perhaps no room for it
        with self._changing(mesh_hash) as mesh:
            mesh.setdefault("originals", plan.to_dict())

    def put_in_force(self, plan: Plan, mesh_hash: str, good: Plan | None = None) -> None:
        """Records `plan` as the one in force; call it before pushing. good: the last accepted
        plan; None: the one that was recorded before."""
        with self._changing(mesh_hash) as mesh:
            mesh["plan"] = plan.to_dict()
            if good is not None:
                mesh["good"] = good.to_dict()

    def set_pending(self, number: int | None) -> None:
        """The decision that waits for a yes."""
        with self._changing() as mesh:
            mesh["pending"] = number

    def put_controls(self, controls: Mapping[str, Any], entry: AuditEntry) -> None:
        """What people asked (`Controls.to_dict`) and who did, both or neither."""
        with self._changing() as mesh:
            mesh["controls"] = dict(controls)
            self._insert_audit(entry)

    def put_grants(self, grants: dict[str, dict[str, int]]) -> None:
        """What each proxy may have in force of the limits: node -> cluster -> max_requests."""
        with self._writing():
            put_state(self._db, "grants", grants)

    def record_audit(self, entry: AuditEntry) -> None:
        """Of what was refused, or changed nothing that outlives a restart."""
        with self._writing():
            self._insert_audit(entry)

    def audit(self, limit: int = 100, before: int = 0) -> list[AuditEntry]:
        """The newest first; before: only those with a smaller number, if it is not 0."""
        with self._reading("its audit cannot be read", _MOVE_AWAY):
            rows = self._db.execute(
                "SELECT number, time, who, action, detail, outcome FROM audit "
                "WHERE ?1 = 0 OR number < ?1 ORDER BY number DESC LIMIT ?2",
                (before, limit),
            )
            return [
                AuditEntry(time, who, action, json.loads(detail), outcome, number)
                for number, time, who, action, detail, outcome in rows
            ]

    def record(self, decision: Decision, estimator: dict[str, Any] | None = None) -> None:
        """Appends a decision; `estimator` is the state that a restart resumes with."""
        body = to_body(decision)
        with self._writing():
            number, time = decision.number, decision.time
            insert(self._db, number, time, decision.action.value, decision.why, body)
            if estimator is not None:
                put_state(self._db, "estimator", estimator)
            prune(self._db, self._keep, time)

    def page(self, limit: int = 100, before: int = 0) -> list[Summary]:
        """The newest first; before: only those with a smaller number, if it is not 0."""
        with self._reading("its decisions cannot be listed", _MOVE_AWAY):
            rows = self._db.execute(
                "SELECT number, time, action, why, verdict, predicted, incumbent_predicted, "
                "predicted_latency, seconds FROM decisions "
                "WHERE ?1 = 0 OR number < ?1 ORDER BY number DESC LIMIT ?2",
                (before, limit),
            )
            return [
                Summary(n, time, Action(action), why, Verdict(v) if v else None, *figures)
                for n, time, action, why, v, *figures in rows
            ]

    def decision(self, number: int) -> Decision | None:
        """The one with this number; None if it is not kept. Of an old one the observation and the
        curves may be forgotten. Raises JournalError on damage."""
        with self._reading(f"decision {number} cannot be read", "ask for a later one"):
            row = self._db.execute(
                "SELECT d.body, e.body FROM decisions d LEFT JOIN evidence e USING (number) "
                "WHERE number = ?",
                (number,),
            ).fetchone()
            if row is None:
                return None
            time, action, why, body = unseal(f"decisions/{number}", row[0])
            if row[1] is not None:
                body |= unseal(f"evidence/{number}", row[1])
            return from_body(number, time, action, why, body)

    def pushes(self, since: float) -> list[float]:
        """When plans were pushed from then on (unix seconds), the oldest first."""
        with self._reading("its decisions cannot be listed", _MOVE_AWAY):
            rows = self._db.execute("SELECT time, action FROM decisions ORDER BY number DESC")
            recent = takewhile(lambda row: row[0] >= since, rows)
            return [time for time, action in recent if action in _PUSHES][::-1]

    def close(self) -> None:
        """Whoever still writes on a thread is waited for: SQLite does not bear less."""
        with self._turn:
            self._db.close()
        if self._lock is not None:
            self._lock.release()

    def _rows_of_state(self) -> list[tuple[str, bytes]]:
        return self._db.execute("SELECT key, value FROM state").fetchall()

    def _mesh(self) -> dict[str, Any]:
        """The document that a restart acts on. It is always there."""
        row = self._db.execute("SELECT value FROM state WHERE key = 'mesh'").fetchone()
        mesh: dict[str, Any] = unseal("state/mesh", row and row[0])
        return mesh

    @contextmanager
    def _changing(self, mesh_hash: str | None = None) -> Iterator[dict[str, Any]]:
        with self._writing():
            mesh = self._mesh()
            if mesh_hash is not None and mesh.get("mesh_hash") != mesh_hash:
                controls = mesh.get("controls")
                mesh.clear()
                mesh |= {"mesh_hash": mesh_hash, "controls": controls}
            yield mesh
            put_state(self._db, "mesh", mesh)
        # Out of the log, which a power cut may shorten: what Envoy is sent next is never forgotten.
        with self._turn, suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _insert_audit(self, entry: AuditEntry) -> None:
        detail = json.dumps(dict(entry.detail))
        if len(detail) > _DETAIL:
            detail = json.dumps({"beginning": detail[:_DETAIL]})
        self._db.execute(
            "INSERT INTO audit (time, who, action, detail, outcome) VALUES (?, ?, ?, ?, ?)",
            (entry.time, entry.who, entry.action, detail, entry.outcome),
        )
        prune(self._db, self._keep, entry.time)

    @contextmanager
    def _reading(self, what: str, remedy: str) -> Iterator[None]:
        try:
            with self._turn:
                yield
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise JournalError(f"journal: {self.path}: {what} ({error}); {remedy}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it or nothing."""
        try:
            with self._turn:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, ValueError) as error:
            raise JournalWriteError(
                f"journal: {self.path}: {error}; free disk space, mend its permissions, "
                "or move a damaged file away"
            ) from error


_MOVE_AWAY = "move the file away to start from the operator's own weights"


def _plan(data: Mapping[str, Any] | None) -> Plan | None:
    return None if data is None else Plan.from_dict(data)
