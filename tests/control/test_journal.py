"""The journal: what a restart finds, and files that cannot be used."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from eigenmesh.control.journal import Journal, JournalError
from eigenmesh.mesh import Action, BreakerLimits, Decision, Plan

PLAN = Plan({"r": {"a": 0.7, "b": 0.3}}, {"a": BreakerLimits.around(40)})


def decision(number: int) -> Decision:
    return Decision(number=number, time=1000.0 + number, action=Action.PUSH, why="x", plan=PLAN)


def test_a_restart_finds_plan_mode_estimator_and_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.put_in_force(PLAN, "mesh-1")
    journal.put_mode("auto")
    journal.record(decision(7), {"a": {"t0": 0.02}})
    journal.close()

    resumed = Journal(tmp_path / "j.sqlite").resume("mesh-1")
    assert resumed.plan == PLAN
    assert resumed.mode == "auto"
    assert resumed.estimator == {"a": {"t0": 0.02}}
    assert resumed.last_number == 7


def test_another_mesh_does_not_get_this_plan(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.put_in_force(PLAN, "mesh-1")
    resumed = journal.resume("mesh-2")
    assert resumed.plan is None
    assert resumed.estimator == {}


def test_only_the_newest_decisions_are_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite", keep=3)
    for number in range(1, 11):
        journal.record(decision(number))
    assert [d["number"] for d in journal.decisions()] == [10, 9, 8]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match=r"schema 99.*upgrade"):
        Journal(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(JournalError, match="not a database"):
        Journal(path)


def test_damaged_contents_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = Journal(path)
    journal.put_in_force(PLAN, "m")
    journal.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE state SET value = '{' WHERE key = 'plan'")
    with pytest.raises(JournalError, match=r"damaged.*move the file away"):
        Journal(path).resume("m")


_FULL_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[2])))
from eigenmesh.control.journal import Journal, JournalWriteError
from test_journal import PLAN, decision
journal = Journal(sys.argv[1])
journal.put_in_force(PLAN, "m")
for number in range(1, 100_000):
    try:
        journal.record(decision(number))
    except JournalWriteError as error:
        print("refused:", error)
        break
print(journal.resume("m").plan == PLAN)
"""


def test_a_full_disk_refuses_the_write_and_keeps_what_was_there(tmp_path: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path / "j.sqlite"), str(Path(__file__).parent)],
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "refused: journal:" in done.stdout, done.stderr
    assert done.stdout.rstrip().endswith("True")
