"""The journal: what a restart finds, and files that cannot be used."""

from __future__ import annotations

import json
import math
import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from eigenmesh.control.audit import AuditEntry
from eigenmesh.control.journal import (
    Journal,
    JournalError,
    JournalWriteError,
    Resumed,
    Retention,
    Summary,
)
from eigenmesh.control.record import to_body
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import (
    Action,
    BreakerLimits,
    Candidate,
    Cause,
    Check,
    ClusterObservation,
    CurveEstimate,
    Cut,
    Decision,
    LatencyCurve,
    Observation,
    Plan,
    ProxyLoad,
    Verdict,
)

PLAN = Plan({"r": {"a": 0.7, "b": 0.3}}, {"a": BreakerLimits.around(40)})

OTHER = Plan({"r": {"a": 0.5, "b": 0.5}}, {})
ENTRY = AuditEntry(1000.0, "ops", "SetMode", {"mode": "auto"})


def decision(number: int) -> Decision:
    return Decision(number=number, time=1000.0 + number, action=Action.PUSH, why="x", plan=PLAN)


def test_a_restart_finds_everything(tmp_path: Path) -> None:
    controls = Controls(Mode.AUTO, pins={"r": {"a": 0.7}}, promoted=frozenset({("r", "b")}))
    journal = Journal(tmp_path / "j.sqlite")
    assert journal.resume("mesh-1") == Resumed()
    assert journal.originals() is None
    journal.put_originals(OTHER, "mesh-1")
    journal.put_in_force(OTHER, "mesh-1", good=PLAN)
    journal.put_in_force(PLAN, "mesh-1")
    journal.put_controls(controls.to_dict(), ENTRY)
    journal.record(decision(7), {"a": {"t0": 0.02}})
    journal.set_pending(7)
    journal.put_grants({"envoy-1": {"a": 20}})
    journal.close()

    journal = Journal(tmp_path / "j.sqlite")
    found = journal.resume("mesh-1")
    assert found == Resumed(
        plan=PLAN,
        good=PLAN,
        pending=7,
        controls=controls.to_dict(),
        estimator={"a": {"t0": 0.02}},
        grants={"envoy-1": {"a": 20}},
        last_number=7,
    )
    assert found.controls is not None
    assert Controls.from_dict(found.controls) == controls
    assert journal.originals() == OTHER
    assert journal.audit() == [replace(ENTRY, number=1)]


def test_originals_are_those_of_before_the_first_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.put_originals(OTHER, "mesh-1")
    journal.put_originals(PLAN, "mesh-1")
    assert journal.originals() == OTHER
    journal.put_originals(PLAN, "mesh-2")
    assert journal.originals() == PLAN


def test_another_mesh_does_not_get_this_plan(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.put_in_force(PLAN, "mesh-1", good=PLAN)
    journal.set_pending(3)
    journal.put_controls({"mode": "auto"}, ENTRY)
    journal.put_grants({"envoy-1": {"a": 20}})
    assert journal.resume("mesh-2") == Resumed(controls={"mode": "auto"})
    journal.put_in_force(OTHER, "mesh-2")
    found = journal.resume("mesh-2")
    assert (found.plan, found.good, found.pending) == (OTHER, None, None)


def test_controls_and_their_audit_are_both_written_or_neither(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.put_controls({"mode": "auto"}, ENTRY)
    with pytest.raises(JournalWriteError):
        journal.put_controls({"mode": "observe"}, replace(ENTRY, who=None))  # type: ignore[arg-type]
    assert journal.resume("m").controls == {"mode": "auto"}
    assert len(journal.audit()) == 1


def test_lists_come_in_pages_the_newest_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    check = Check(Verdict.WORSE, 3, 0.2, 0.05, 3)
    for number in range(1, 8):
        journal.record(replace(decision(number), predicted=0.02, check=check))
        journal.record_audit(replace(ENTRY, time=float(number), outcome=f"refused {number}"))
    newest = journal.page(2)
    assert newest == [
        Summary(n, 1000.0 + n, Action.PUSH, "x", Verdict.WORSE, 0.02, None, None, 0.0)
        for n in (7, 6)
    ]
    assert [d.number for d in journal.page(3, before=6)] == [5, 4, 3]
    assert [e.outcome for e in journal.audit(2, before=4)] == ["refused 3", "refused 2"]


def test_pushes_are_those_that_reached_envoy(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    for number, action in enumerate(Action, start=1):
        journal.record(replace(decision(number), action=action))
    times = [1000.0 + n for n, a in enumerate(Action, 1) if a in (Action.PUSH, Action.ROLLBACK)]
    assert journal.pushes(0.0) == times
    assert journal.pushes(1002.0) == times[1:]


def test_a_long_request_does_not_fill_the_audit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.record_audit(replace(ENTRY, detail={"why": "x" * 1_000_000}))
    assert len(str(journal.audit()[0].detail)) < 11_000


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match=r"schema 99.*upgrade"):
        Journal(path)


def test_damaged_contents_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = Journal(path)
    journal.put_in_force(PLAN, "m")
    journal.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE state SET value = x'00' WHERE key = 'mesh'")
    with pytest.raises(JournalError, match=r"damaged.*checksum.*move the file away"):
        Journal(path).resume("m")


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
        check=Check(Verdict.ACCEPTED, 4, -0.1, 0.02),
    )
    journal = Journal(tmp_path / "j.sqlite")
    journal.record(whole)
    assert journal.decision(7) == whole
    assert journal.decision(8) is None
    json.dumps(to_body(whole), allow_nan=False)


def test_a_damaged_decision_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.record(decision(1))
    with sqlite3.connect(tmp_path / "j.sqlite") as db:
        db.execute("UPDATE decisions SET body = x'00'")
    with pytest.raises(JournalError, match="decision 1 cannot be read"):
        journal.decision(1)


def heavy(number: int) -> Decision:
    """One whose evidence, which hardly compresses, takes some ten kilobytes."""
    chance = random.Random(number)
    one = chance.random
    seen = {
        f"c{n}": ClusterObservation(one(), one(), one(), one(), {0.5: one()}) for n in range(120)
    }
    return replace(decision(number), observation=Observation(1.0, 2.0, seen, {"r": 1.0}))


def test_observations_go_before_decisions_and_the_file_stays_small(tmp_path: Path) -> None:
    path, log = tmp_path / "j.sqlite", tmp_path / "j.sqlite-wal"
    journal = Journal(path, keep=Retention(megabytes=1.0))
    journal.put_in_force(PLAN, "m")
    for number in range(1, 301):
        journal.record(heavy(number), {"a": number})
    assert path.stat().st_size <= 1_000_000
    assert log.stat().st_size <= 6_000_000
    kept = [s.number for s in journal.page(1000)]
    assert kept == list(range(300, kept[-1] - 1, -1))
    rests = [n for n in range(1, 301) if (d := journal.decision(n)) and d.observation]
    assert rests == list(range(rests[0], 301)), "the newest are whole"
    assert len(kept) / 4 - 20 < len(rests) < len(kept) / 2
    assert journal.resume("m").plan == PLAN
    journal.close()

    # A smaller one from now on: it shrinks, and goes on.
    journal = Journal(path, keep=Retention(megabytes=0.1))
    for number in range(301, 311):
        journal.record(heavy(number), {"a": number})
    journal.close()
    assert path.stat().st_size <= 200_000
    journal = Journal.reading(path)
    assert journal.page(1)[0].number == 310
    assert journal.resume("m").plan == PLAN
    assert journal.resume("m").estimator == {"a": 310}
    journal.close()


def test_the_oldest_go_by_number_and_by_age(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite", keep=Retention(decisions=3))
    for number in range(1, 11):
        journal.record(heavy(number))
    assert [s.number for s in journal.page()] == [10, 9, 8]
    assert journal.decision(7) is None
    journal.close()
    with sqlite3.connect(tmp_path / "j.sqlite") as db:
        assert db.execute("SELECT count(*) FROM evidence").fetchone() == (3,)
    db.close()

    journal = Journal(tmp_path / "j.sqlite", keep=Retention(days=1.0))
    journal.record_audit(ENTRY)
    later = 1010.0 + 86_400.0
    journal.record(replace(decision(11), time=later))
    journal.record_audit(replace(ENTRY, time=later))
    assert [s.number for s in journal.page()] == [11, 10]
    assert [e.time for e in journal.audit()] == [later]
    assert journal.audit()[0].number == 2, "numbers are not used twice"
    journal.close()


def test_the_clock_may_jump(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    for number, jump in enumerate((0.0, 3600.0, -3600.0, 0.0), start=1):
        journal.record(replace(decision(number), time=10_000.0 + jump))
    assert len(journal.page()) == 4
    journal.close()
