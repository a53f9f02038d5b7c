"""The journal: what a restart finds, and files that cannot be used."""

from __future__ import annotations

import json
import math
import resource
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eigenmesh.control.journal import Journal, JournalError
from eigenmesh.mesh import (
    Action,
    BreakerLimits,
    Candidate,
    Cause,
    ClusterObservation,
    CurveEstimate,
    Cut,
    Decision,
    LatencyCurve,
    Observation,
    Plan,
    ProxyLoad,
)

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


def test_a_decision_comes_back_whole(tmp_path: Path) -> None:
    seen = ClusterObservation(
        load=10.0,
        throughput=9.0,
        mean=0.02,
        in_flight=3.0,
        quantiles={0.5: 0.01, 0.99: 10.0},
        upstream_errors=2.0,
        breaker_errors=1.0,
        retries=0.5,
        resolutions={0.5: 0.005, 0.99: math.inf},
        connections=4.0,
        pending=1.0,
        errors={Cause.STATUS: 0.5, Cause.RESET: 1.5},
    )
    observation = Observation(
        time=1004.0,
        window=2.0,
        clusters={"a": seen},
        demands={"r": 10.0},
        missing={"b": "no data"},
        queries=("up[6s]",),
        proxies={"p": {"a": ProxyLoad(10.0, 3.0)}},
        left_out={"q": "newest sample is 20 s old"},
        source="http://p:9090",
    )
    whole = replace(
        decision(7),
        proposed=PLAN,
        observation=observation,
        curves={"a": CurveEstimate(LatencyCurve(0.02, 400.0), 0.1, 0.2, 9, 1001.0)},
        candidates=(Candidate("weights", "born-machine", 0.02, 0.1, True, {"qubits": 2.0}),),
        cuts=(Cut("max_step", "r", 0.4, 0.1),),
        predicted=0.02,
        incumbent_predicted=0.03,
        predicted_latency=0.019,
        seconds=0.2,
        couplings={"host h": 0.5},
    )
    journal = Journal(tmp_path / "j.sqlite")
    journal.record(whole)
    assert journal.decision(7) == whole
    assert journal.decision(8) is None
    text = json.dumps(journal.decisions(), allow_nan=False)
    assert json.loads(text)[0]["observation"]["clusters"]["a"]["resolutions"]["0.99"] is None


def test_a_decision_of_an_older_journal_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    seen = ClusterObservation(1.0, 1.0, None, 0.0)
    journal.record(replace(decision(1), observation=Observation(5.0, 1.0, {"a": seen}, {})))
    with sqlite3.connect(tmp_path / "j.sqlite") as db:
        body = json.loads(db.execute("SELECT body FROM decisions").fetchone()[0])
        for later in ("proxies", "left_out", "source"):
            del body["observation"][later]
        for later in ("resolutions", "errors", "connections", "pending"):
            del body["observation"]["clusters"]["a"][later]
        del body["couplings"]
        db.execute("UPDATE decisions SET body = ?", (json.dumps(body),))
    old = journal.decision(1)
    assert old is not None
    assert old.observation is not None
    assert old.observation.clusters == {"a": seen}


def test_a_damaged_decision_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.record(decision(1))
    with sqlite3.connect(tmp_path / "j.sqlite") as db:
        db.execute("UPDATE decisions SET body = '{}'")
    with pytest.raises(JournalError, match="decision 1 cannot be read"):
        journal.decision(1)
