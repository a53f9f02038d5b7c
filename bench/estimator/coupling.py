"""Latency predicted for a busier and an idler neighbour, with the coupling learned, told, ignored.

Clusters of one host, or one that calls others, are observed for `WINDOWS` windows while every
demand is drawn anew, within SWING of its mean, each REDRAWN windows. Then the watched cluster's
latency, calls and all, is predicted at the mean demands with the neighbour's at 0.7 and 1.3 times,
the loads given. And a neighbour's demand is more than doubled for good: that is no change of the
watched cluster. Raw trials go to bench/results/coupling.json, the tables to coupling.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.estimator.predict import brief, error
from eigenmesh.mesh import Call, Calls, Cluster, Host, Pools, Route, Topology
from eigenmesh.telemetry.coupled import CoupledEstimator
from tests.telemetry.machines import Machines, Run, Service

WINDOWS, SECONDS, REDRAWN, SWING = 40, 2.0, 4, 0.15
BEFORE, AFTER = 30, 14
"""Windows either side of a neighbour's step."""
FACTORS = (0.7, 1.3)
STORIES = ("learned", "told", "ignored")


@dataclass(frozen=True)
class Scene:
    """watched: a cluster. neighbour: the route whose demand changes. told: the mesh with its true
    couplings, as far as there is a true one. swing: of the demands while observed."""

    name: str
    machines: Machines
    demands: Mapping[str, float]
    watched: str
    neighbour: str
    told: Topology
    swing: float = SWING

    def topology(self, story: str) -> Topology:
        if story == "told":
            return self.told
        learn = story == "learned"
        clusters = tuple(
            replace(
                c,
                host=c.host if learn else None,
                calls=tuple(Call(call.route) for call in c.calls if learn),
            )
            for c in self.told.clusters
        )
        return Topology(clusters, self.told.routes)

    def truth(self, demands: Mapping[str, float]) -> float:
        own = self.machines.own_times(demands)

        def whole(cluster: str) -> float:
            return own[cluster] + sum(
                ratio * sum(w * whole(k) for k, w in self.machines.weights[route].items())
                for route, ratio in self.machines.clusters[cluster].calls
            )

        return whole(self.watched)

    def predicted(self, coupled: CoupledEstimator, demands: Mapping[str, float]) -> float:
        topology, estimates = coupled.topology, coupled.estimates
        names = topology.cluster_names
        _, loads = self.machines.loads(demands)
        capacity = np.array([estimates[n].curve.capacity for n in names])
        used = np.array([loads[n] for n in names]) / capacity
        felt = Pools(topology, names).felt(used) * capacity
        total = own = np.array(
            [estimates[n].curve.latency(x) for n, x in zip(names, felt.tolist(), strict=True)]
        )
        calls, weights = Calls(topology, names), self.machines.weights
        split = np.array([[weights[r.name].get(n, 0.0) for n in names] for r in topology.routes])
        for _ in range(calls.depth):
            total = own + calls.passed_on(split @ total)
        return float(total[names.index(self.watched)])


def _pair(name: str, machines: Machines, kappa: float, a: float, b: float, **more: Any) -> Scene:
    clusters = (Cluster("a", "box"), Cluster("b", "box"))
    routes = (Route("ra", ("a",)), Route("rb", ("b",)))
    told = Topology(clusters, routes, (Host("box", kappa),))
    return Scene(name, machines, {"ra": a, "rb": b}, "a", "rb", told, **more)


def _box(cores: Mapping[str, int], a: Any, b: Any) -> Machines:
    return Machines(cores, {"a": Service(a), "b": Service(b)}, {"ra": {"a": 1.0}, "rb": {"b": 1.0}})


_ONE = _box({"box": 1}, (("box", 0.004),), (("box", 0.010),))
_FOUR = _box({"box": 4}, (("box", 0.020),), (("box", 0.040),))
_DISK = _box(
    {"one": 1, "two": 1, "disk": 1},
    (("one", 0.006), ("disk", 0.004)),
    (("two", 0.010), ("disk", 0.008)),
)
_APART = _box({"one": 1, "two": 1}, (("one", 0.008),), (("two", 0.014),))
_SHOP = Machines(
    {"one": 8, "two": 4, "three": 2},
    {
        "front": Service((("one", 0.03),), (("stock", 1.5),)),
        "fast": Service((("two", 0.01),)),
        "slow": Service((("three", 0.02),)),
    },
    {"shop": {"front": 1.0}, "stock": {"fast": 0.8, "slow": 0.2}, "direct": {"fast": 1.0}},
)
_CALLING = Topology(
    (Cluster("front", calls=(Call("stock", 1.5),)), Cluster("fast"), Cluster("slow")),
    (Route("shop", ("front",)), Route("stock", ("fast", "slow")), Route("direct", ("fast",))),
)
SCENES = (
    _pair("one core for both", _ONE, 1.0, 75.0, 30.0),
    _pair("four cores for both", _FOUR, 1.0, 80.0, 40.0),
    _pair("four cores, demand steady", _FOUR, 1.0, 80.0, 40.0, swing=0.0),
    _pair("own cores, one disk", _DISK, 0.5, 85.0, 45.0),
    _pair("two machines, said to be one", _APART, 0.0, 80.0, 45.0),
    Scene(
        "calls 1.5 of two others",
        _SHOP,
        {"shop": 120.0, "direct": 150.0},
        "front",
        "direct",
        _CALLING,
    ),
)


def trial(scene: Scene, seed: int) -> dict[str, Any]:
    """Raw figures of one seed."""
    rng, run = np.random.default_rng(1000 + seed), Run(scene.machines, seed)
    stories = {s: CoupledEstimator(scene.topology(s)) for s in STORIES}
    run.window(scene.demands, 20.0)
    demands = dict(scene.demands)
    for window in range(WINDOWS):
        if window % REDRAWN == 0:
            swings = 1.0 + rng.uniform(-scene.swing, scene.swing, len(demands))
            demands = dict(
                zip(demands, (swings * list(scene.demands.values())).tolist(), strict=True)
            )
        observation = run.window(demands, SECONDS)
        for coupled in stories.values():
            coupled.update(observation, scene.machines.weights)
    at = {
        f: {**scene.demands, scene.neighbour: f * scene.demands[scene.neighbour]} for f in FACTORS
    }
    learned = stories["learned"].topology
    return {
        "scene": scene.name,
        "seed": seed,
        "truth": {str(f): brief(scene.truth(d)) for f, d in at.items()},
        "predicted": {
            s: {str(f): brief(scene.predicted(coupled, d)) for f, d in at.items()}
            for s, coupled in stories.items()
        },
        "coupling": next(iter(learned.couplings.values()), None),
        "ratio": next((call.ratio for c in learned.clusters for call in c.calls), None),
        "changes": {
            s: sum(e.changed_at is not None for e in coupled.estimates.values())
            for s, coupled in stories.items()
        },
    }


def step(scene: Scene, seed: int) -> dict[str, Any]:
    """Whether a change of the watched cluster was believed after its neighbour's demand went, for
    good, from half to 1.2 times the mean; and the error of its latency at the demand before."""
    run = Run(scene.machines, seed)
    stories = {s: CoupledEstimator(scene.topology(s)) for s in STORIES}
    calm = {**scene.demands, scene.neighbour: 0.5 * scene.demands[scene.neighbour]}
    busy = {**scene.demands, scene.neighbour: 1.2 * scene.demands[scene.neighbour]}
    run.window(calm, 20.0)
    for window in range(BEFORE + AFTER):
        # Both swing, the neighbour not in step with the watched.
        wave = {
            r: math.cos(window / 2.0) if r == scene.neighbour else math.sin(window / 3.0)
            for r in calm
        }
        demands = {
            r: d * (1.0 + SWING * wave[r]) for r, d in (calm if window < BEFORE else busy).items()
        }
        observation = run.window(demands, SECONDS)
        for coupled in stories.values():
            coupled.update(observation, scene.machines.weights)
    since = run.time - AFTER * SECONDS
    watched = {s: c.estimates[scene.watched].changed_at for s, c in stories.items()}
    truth = scene.truth(calm)
    return {
        "scene": scene.name,
        "seed": seed,
        "changed": {s: at is not None and at > since for s, at in watched.items()},
        "error": {s: brief(error(scene.predicted(c, calm), truth)) for s, c in stories.items()},
    }


def figures(seeds: int, jobs: int) -> dict[str, list[dict[str, Any]]]:
    """Raw figures of both, by seed."""
    cases = [(scene, seed) for scene in SCENES for seed in range(seeds)]
    stepped = [(scene, seed) for scene in SCENES[:2] for seed in range(seeds)]
    with ProcessPoolExecutor(jobs) as pool:
        return {
            "trials": list(pool.map(trial, *zip(*cases, strict=True), chunksize=2)),
            "steps": list(pool.map(step, *zip(*stepped, strict=True), chunksize=2)),
        }


def to_json(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One line a seed."""
    parts = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(one) for one in seeds) + "\n]"
        for name, seeds in found.items()
    ]
    return "{" + ",\n".join(parts) + "}\n"


def markdown(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Both tables."""
    return "\n".join((_trials(found["trials"]), _steps(found["steps"])))


def _steps(found: Sequence[Mapping[str, Any]]) -> str:
    seeds = len({t["seed"] for t in found})
    lines = [
        f"The neighbour's demand goes from half to 1.2 times its mean, for good ({seeds} seeds, "
        f"coupling {' / '.join(STORIES)}):",
        "",
        "| | seeds that believe in a change | error of latency at the demand before |",
        "|---|---|---|",
    ]
    for scene in dict.fromkeys(t["scene"] for t in found):
        here = [t for t in found if t["scene"] == scene]
        changed = " / ".join(str(sum(t["changed"][s] for t in here)) for s in STORIES)
        errors = " / ".join(f"{np.median([t['error'][s] for t in here]):.0%}" for s in STORIES)
        lines.append(f"| {scene} | {changed} | {errors} |")
    return "\n".join([*lines, ""])


def _trials(found: Sequence[Mapping[str, Any]]) -> str:
    seeds = len({t["seed"] for t in found})
    lines = [
        f"Median error of a cluster's predicted latency when its neighbour's demand changes, over "
        f"{seeds} seeds, with the coupling {' / '.join(STORIES)}:",
        "",
        "| | true latency | neighbour -30% | neighbour +30% | learned | changes believed |",
        "|---" * 6 + "|",
    ]
    for scene in SCENES:
        here = [t for t in found if t["scene"] == scene.name]
        cells = []
        for f in map(str, FACTORS):
            errors = [[error(t["predicted"][s][f], t["truth"][f]) for t in here] for s in STORIES]
            cells.append(" / ".join(f"{np.median(e):.0%}" for e in errors))
        low, high = (1e3 * here[0]["truth"][str(f)] for f in FACTORS)
        what = "coupling" if here[0]["coupling"] is not None else "ratio"
        low_q, middle, high_q = np.quantile([t[what] for t in here], (0.1, 0.5, 0.9))
        changes = " / ".join(str(sum(t["changes"][s] for t in here)) for s in STORIES)
        lines.append(
            f"| {scene.name} | {low:.1f} to {high:.1f} ms | {cells[0]} | {cells[1]} "
            f"| {what} {middle:.2f} ({low_q:.2f} to {high_q:.2f}) | {changes} |"
        )
    return "\n".join([*lines, ""])
