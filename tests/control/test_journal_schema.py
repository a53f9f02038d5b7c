"""Journals of released versions are brought up to date, whole or not at all."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eigenmesh.control.journal import SCHEMA_VERSION, Journal, JournalError
from eigenmesh.control.record import to_body
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import Plan

RELEASED = sorted((Path(__file__).parent / "journals").glob("schema*.sql"))
"""Dumps of real runs, each made by the version that wrote this schema."""


def restored(dump: Path, folder: Path) -> Path:
    path = folder / "j.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(dump.read_text())
    db.close()
    return path


def bodies_of_1(path: Path) -> dict[int, dict[str, Any]]:
    db = sqlite3.connect(path)
    rows = db.execute("SELECT number, body FROM decisions").fetchall()
    db.close()
    return {number: json.loads(body) for number, body in rows}


def test_every_released_schema_has_a_dump() -> None:
    assert [path.stem for path in RELEASED] == [f"schema{v}" for v in range(1, SCHEMA_VERSION)]


@pytest.mark.parametrize("reading", [False, True])
def test_all_of_schema_1_is_there_afterwards(tmp_path: Path, reading: bool) -> None:
    path = restored(RELEASED[0], tmp_path)
    before, bodies = path.read_bytes(), bodies_of_1(path)
    db = sqlite3.connect(path)
    old = dict(db.execute("SELECT key, value FROM state"))
    db.close()
    journal = Journal.reading(path) if reading else Journal(path)
    found = journal.resume("mesh-1")
    assert found.plan == Plan.from_dict(json.loads(old["plan"]))
    assert found.controls == Controls(Mode.AUTO).to_dict()
    assert found.estimator == json.loads(old["estimator"])
    assert found.grants == json.loads(old["grants"])
    assert (found.good, found.pending, found.last_number) == (None, None, 9)
    assert [s.number for s in journal.page()] == sorted(bodies, reverse=True)
    for number, body in bodies.items():
        decision = journal.decision(number)
        assert decision is not None
        assert to_body(decision) == body | {"check": None}
    journal.close()
    assert (path.read_bytes() == before) == reading, "who only reads changes nothing"


def test_an_older_file_can_shrink_from_then_on(tmp_path: Path) -> None:
    path = restored(RELEASED[0], tmp_path)
    Journal(path).close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_damaged_older_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = restored(RELEASED[0], tmp_path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE decisions SET body = '{}' WHERE number = 5")
    db.close()
    before = bodies_of_1(path)
    with pytest.raises(JournalError, match=r"damaged.*move the file away"):
        Journal(path)
    assert bodies_of_1(path) == before


def test_killed_in_a_migration(tmp_path: Path) -> None:
    """At random moments: before, within and after the transaction, and in the vacuum after it."""
    path = restored(RELEASED[0], tmp_path)
    with sqlite3.connect(path) as db:
        for n in range(1, 40):
            db.execute(
                "INSERT INTO decisions SELECT number + ?, time, action, why, body "
                "FROM decisions WHERE number <= 9",
                (9 * n,),
            )
    db.close()
    bodies, whole = bodies_of_1(path), path.read_bytes()
    code = "import sys; from eigenmesh.control.journal import Journal; print(flush=True); "
    code += "Journal(sys.argv[1]).close(); print('done', flush=True)"
    chance, took = random.Random(1), 0.2
    found = set()
    for attempt in range(8):
        for leftover in tmp_path.glob("j.sqlite-*"):
            leftover.unlink()
        path.write_bytes(whole)
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            started = time.monotonic()
            if attempt == 0:
                assert b"done\n" in child.stdout
                took = time.monotonic() - started
            else:
                time.sleep(chance.uniform(0.0, took))
            child.send_signal(signal.SIGKILL)
        db = sqlite3.connect(path)
        found.add(db.execute("PRAGMA user_version").fetchone()[0])
        db.close()
        journal = Journal(path)
        assert journal.resume("mesh-1").plan is not None
        assert [s.number for s in journal.page(1000)] == sorted(bodies, reverse=True)
        for number in chance.sample(sorted(bodies), 20):
            decision = journal.decision(number)
            assert decision is not None
            assert to_body(decision) == bodies[number] | {"check": None}
        journal.close()
    assert found == {1, 2}, "killed too early or too late each time"
