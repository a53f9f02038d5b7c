"""What a decision takes in the journal: room, and time to write, read and resume.

    python -m bench.journal [--megabytes 64] [--results FOLDER]

Meshes of 3, 50 and 1,000 clusters, five to a route, every figure of every cluster drawn at random
(digits that do not repeat compress least), with the PromQL that the real source would have asked.
Each decision is written in turn to a file of schema 1 (one plain JSON body, as releases before
wrote it) and to one of today, both with the same estimator's state. Then a file that is full is
opened, and one of schema 1 migrated. Writes every figure to journal.json, a table to journal.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from eigenmesh.control.journal import Journal, Retention
from eigenmesh.control.record import to_body
from eigenmesh.mesh import (
    Action,
    BreakerLimits,
    Candidate,
    Cluster,
    ClusterObservation,
    CurveEstimate,
    Decision,
    LatencyCurve,
    Observation,
    Plan,
    Route,
    Topology,
)
from eigenmesh.telemetry.coupled import CoupledEstimator
from eigenmesh.telemetry.prometheus import PrometheusSource

RESULTS = Path(__file__).resolve().parent / "results"
SIZES = {3: 200, 50: 100, 1000: 16}
"""Clusters -> decisions written."""
INTERVAL = 5.0
SCHEMA_1 = """
CREATE TABLE decisions (number INTEGER PRIMARY KEY, time REAL NOT NULL, action TEXT NOT NULL,
    why TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
PRAGMA user_version = 1;
"""


class Mesh:
    def __init__(self, clusters: int) -> None:
        names = [f"cluster-{n}" for n in range(clusters)]
        parts = [tuple(names[n : n + 5]) for n in range(0, clusters, 5)]
        self.topology = Topology(
            tuple(map(Cluster, names)),
            tuple(Route(f"route-{n}", part) for n, part in enumerate(parts)),
        )
        stats = {route.name: ("ingress", route.name) for route in self.topology.routes}
        self._query = PrometheusSource(["http://127.0.0.1:9090"], self.topology, stats).query
        self._chance = random.Random(clusters)
        self.state = states(clusters)

    def decision(self, number: int) -> Decision:
        chance, now = self._chance, 1e9 + INTERVAL * number
        weights = {}
        for route in self.topology.routes:
            draws = [chance.uniform(0.5, 1.0) for _ in route.clusters]
            weights[route.name] = {
                name: draw / sum(draws) for name, draw in zip(route.clusters, draws, strict=True)
            }
        names = self.topology.cluster_names
        plan = Plan(weights, {name: BreakerLimits.around(chance.randint(8, 500)) for name in names})
        seen = {name: self._cluster() for name in names}
        demands = {route.name: chance.uniform(100.0, 900.0) for route in self.topology.routes}
        observation = Observation(now, INTERVAL, seen, demands, queries=(self._query,))
        curves = {name: self._curve(number, now) for name in names}
        candidates = tuple(
            Candidate(part, solver, chance.random(), chance.random(), False, {"evaluations": 9.0})
            for part, solver in (
                ("weights", "born-machine"),
                ("weights", "newton"),
                ("limits", "qaoa"),
                ("limits", "exhaustive"),
            )
        )
        return Decision(
            number,
            now,
            Action.PUSH,
            "predicted gain 4.2%",
            plan,
            plan,
            observation,
            curves,
            candidates,
            predicted=chance.random(),
            incumbent_predicted=chance.random(),
            predicted_latency=chance.random(),
        )

    def _curve(self, number: int, now: float) -> CurveEstimate:
        chance = self._chance
        curve = LatencyCurve(chance.uniform(0.005, 0.05), chance.uniform(100.0, 900.0))
        return CurveEstimate(curve, chance.random(), chance.random(), number, now)

    def _cluster(self) -> ClusterObservation:
        chance = self._chance
        load, mean = chance.uniform(10.0, 300.0), chance.uniform(0.005, 0.1)
        return ClusterObservation(
            load=load,
            throughput=load,
            mean=mean,
            in_flight=load * mean,
            quantiles={q: chance.random() for q in (0.5, 0.9, 0.99)},
            resolutions=dict.fromkeys((0.5, 0.9, 0.99), 0.005),
            connections=float(chance.randint(1, 99)),
        )


def states(clusters: int) -> list[dict[str, Any]]:
    """An estimator's state for so many clusters, put together from those of small meshes: learning
    a thousand curves takes longer than all that is measured here."""
    names = ("a", "b", "c")
    topology = Topology(tuple(map(Cluster, names)), (Route("r", names),))
    chance, found = random.Random(clusters), []
    for _ in range(min(2, clusters // 3)):
        estimator = CoupledEstimator(topology)
        for window in range(10):
            seen = {}
            for name in names:
                load = chance.uniform(10.0, 300.0)
                mean = 0.01 + load / 1e4 * chance.gauss(1.0, 0.03)
                seen[name] = ClusterObservation(load, load, mean, load * mean)
            estimator.update(
                Observation(INTERVAL * window, INTERVAL, seen, {"r": 1.0}),
                {"r": dict.fromkeys(names, 1 / 3)},
            )
        found.append(estimator.to_dict())
    return [found[n % len(found)] for n in range(clusters // 3)]


class Before:
    """A file of schema 1, written as it was then."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(f"PRAGMA journal_mode = WAL;{SCHEMA_1}")
        self._db.execute("PRAGMA synchronous = NORMAL")

    def record(self, decision: Decision, estimator: dict[str, Any]) -> None:
        body = to_body(decision)
        del body["check"]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "INSERT INTO decisions VALUES (?, ?, ?, ?, ?)",
            (decision.number, decision.time, decision.action, decision.why, json.dumps(body)),
        )
        self._db.execute(
            "INSERT INTO state VALUES ('estimator', ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (json.dumps(estimator),),
        )
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


def timed(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def whole(path: Path) -> int:
    return sum(p.stat().st_size for p in path.parent.glob(f"{path.name}*"))


def sized(path: Path, count: int) -> float:
    """Bytes a decision, what is always there apart."""
    db = sqlite3.connect(path)
    state: int = db.execute("SELECT sum(length(value)) FROM state").fetchone()[0]
    db.close()
    return (path.stat().st_size - state) / count


def measure(clusters: int, count: int, folder: Path) -> dict[str, Any]:
    mesh, one, two = Mesh(clusters), folder / f"{clusters}-1", folder / f"{clusters}-2"
    before, journal = Before(one), Journal(two, keep=Retention(megabytes=1e6))
    took: dict[str, list[float]] = {"before": [], "now": [], "read": []}
    for number in range(1, count + 1):
        decision = mesh.decision(number)
        state = {"meshes": mesh.state}
        took["before"].append(timed(before.record, decision, state))
        took["now"].append(timed(journal.record, decision, state))
    for number in range(1, count + 1):
        took["read"].append(timed(journal.decision, number))
    page = timed(journal.page, 100)
    before.close()
    journal.close()
    db = sqlite3.connect(two)
    (evidence,) = db.execute("SELECT avg(length(body)) FROM evidence").fetchone()
    (state,) = db.execute("SELECT length(value) FROM state WHERE key = 'estimator'").fetchone()
    db.close()
    sizes = {"before": sized(one, count), "now": sized(two, count), "evidence": evidence}
    migration = timed(lambda: Journal(one).close())
    return {
        "clusters": clusters,
        "decisions": count,
        "bytes a decision": sizes,
        "bytes of the estimator's state": state,
        "seconds": took,
        "seconds for a page of 100": page,
        "seconds to migrate one": migration / count,
    }


def full(folder: Path, megabytes: float) -> dict[str, Any]:
    """A file that reached its limit, of 200 clusters: its size meanwhile, how much of what is kept,
    and how long it takes to open."""
    mesh, path = Mesh(200), folder / "full"
    journal = Journal(path, keep=Retention(megabytes=megabytes))
    made, largest, number = [mesh.decision(n) for n in range(50)], 0, 0
    written = 0
    while written < 2e6 * megabytes:
        number += 1
        journal.record(replace(made[number % len(made)], number=number))
        written += 50_000
        if number % 100 == 0:
            largest = max(largest, whole(path))
    journal.close()
    db = sqlite3.connect(path)
    tables = ("decisions", "evidence")
    kept = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}
    db.close()
    return {
        "megabytes": megabytes,
        "decisions": number,
        "kept": kept,
        "largest, log and all, MB": largest / 1e6,
        "closed, MB": path.stat().st_size / 1e6,
        "seconds to open": timed(lambda: Journal(path).close()),
    }


def table(found: dict[str, Any]) -> str:
    lines = [
        "Written by `python -m bench.journal`; random figures, which compress least. Load average "
        f"{found['load average']:.1f} on two cores: sizes do not depend on it, times do.",
        "",
        "| clusters | schema 1, kB a decision | now, kB | of it what is forgotten first, kB "
        "| write before, ms | write now, ms | read, ms "
        "| days of decisions in 256 MB, a quarter of them with observations |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found["meshes"]:
        size, took = one["bytes a decision"], one["seconds"]
        median = {name: 1000 * statistics.median(values) for name, values in took.items()}
        # Four decisions to each whose observations are kept.
        each = 4 * (size["now"] - size["evidence"]) + size["evidence"]
        days = 4 * 256e6 * 7 / 8 / each * INTERVAL / 86_400
        lines.append(
            f"| {one['clusters']} | {size['before'] / 1e3:.1f} | {size['now'] / 1e3:.1f} "
            f"(**{size['now'] / size['before']:.2f}**) | {size['evidence'] / 1e3:.1f} "
            f"| {median['before']:.1f} | {median['now']:.1f} | {median['read']:.1f} | {days:.1f} |"
        )
    at = found["full"]
    lines += [
        "",
        f"A file limited to {at['megabytes']:g} MB, {at['decisions']} decisions of 200 clusters "
        f"later: at most {at['largest, log and all, MB']:.1f} MB with its log, "
        f"{at['closed, MB']:.1f} MB closed; {at['kept']['decisions']} decisions are kept, "
        f"{at['kept']['evidence']} with their observations; opened and checked in "
        f"{at['seconds to open']:.2f} s.",
    ]
    for one in found["meshes"]:
        rate = 1 / one["seconds to migrate one"]
        lines.append(f"Migrated from schema 1: {rate:.0f} decisions/s of {one['clusters']}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=64.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "meshes": [measure(n, count, folder) for n, count in SIZES.items()],
            "full": full(folder, args.megabytes),
            "load average": os.getloadavg()[1],
        }
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "journal.json").write_text(json.dumps(found, indent=1) + "\n")
    text = table(found)
    (args.results / "journal.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
