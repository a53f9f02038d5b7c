"""The paper's load-balancing figures, on a simulated cluster of 1,000 unequal nodes.

    python -m bench.optimiser.balance [--quick]

The paper quotes "up to 28% better workload distribution" and "resource utilization improvements of
up to 32% compared to traditional round-robin and least-connection algorithms" on more than 1,000
nodes, and defines neither. Here:

distribution  Mean absolute deviation of the nodes' utilisations from their mean, at 70% load. An
              improvement of 28% is a deviation 28% smaller.
utilisation   The largest load, as a share of the whole capacity, at which 99% of the requests are
              answered within 8 mean service times (and none is lost). An improvement of 32% is a
              load 32% larger.

Nodes have 1, 2, 4 or 8 slots and exponential service times of the same mean; arrivals are Poisson.
Weights come from the circuit and from water-filling, for the true capacities. Results:
bench/results/optimiser_balance.{json,md}.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eigenmesh.mesh import (
    Bounds,
    Cluster,
    GuardPolicy,
    LatencyCurve,
    ObjectivePolicy,
    Plan,
    Route,
    Scenario,
    Topology,
)
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.circuits.weights import born_machine
from eigenmesh.optimize.classical.weights import newton
from eigenmesh.optimize.objective import DEFAULT_LIMIT, Objective
from eigenmesh.optimize.problem import CircuitSettings, Problem

RESULTS = Path(__file__).parents[1] / "results"
NODES = 1000
SERVICE = 0.01
"""Mean seconds of one request on one slot."""
WITHIN = 8.0
LOADS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
AT = 0.7
"""Load of the distribution figure, and of the latencies."""

Choose = Callable[[int, Array], int]
"""(number of the request, in flight on every node) to a node."""


def simulate(
    slots: Array, rate: float, choose: Choose, seed: int, requests: int
) -> dict[str, float]:
    """First come, first served on every node. The first quarter warms up."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / rate, requests)).tolist()
    services = rng.exponential(SERVICE, requests).tolist()
    free = [[0.0] * int(n) for n in slots]
    flight = np.zeros(len(slots))
    busy = np.zeros(len(slots))
    ends: list[tuple[float, int]] = []
    warm = requests // 4
    latencies = np.empty(requests - warm)
    for i, (now, service) in enumerate(zip(arrivals, services, strict=True)):
        while ends and ends[0][0] <= now:
            flight[heapq.heappop(ends)[1]] -= 1.0
        node = choose(i, flight)
        end = max(now, free[node][0]) + service
        heapq.heapreplace(free[node], end)
        heapq.heappush(ends, (end, node))
        flight[node] += 1.0
        if i >= warm:
            busy[node] += service
            latencies[i - warm] = end - now
    span = arrivals[-1] - arrivals[warm]
    utilisation = busy / (span * slots)
    return {
        "mean": float(latencies.mean()),
        "p99": float(np.quantile(latencies, 0.99)),
        "deviation": float(np.abs(utilisation - utilisation.mean()).mean()),
    }


def weights(slots: Array, rate: float, how: str) -> tuple[Array, float]:
    """Weights of all nodes for the true capacities, and the seconds that it took."""
    names = [f"n{k}" for k in range(len(slots))]
    topology = Topology(tuple(map(Cluster, names)), (Route("r", tuple(names)),))
    curves = {
        name: LatencyCurve(SERVICE, float(n) / SERVICE)
        for name, n in zip(names, slots, strict=True)
    }
    share = slots / slots.sum()
    problem = Problem(
        topology,
        {"r": rate},
        curves,
        Plan({"r": dict(zip(names, map(float, share), strict=True))}, {}),
        ObjectivePolicy(churn_price=0.0, slo=10.0, scenarios=(Scenario(1.0, 1.0),)),
        GuardPolicy(bounds=Bounds(0.0, 1.0), probe_floor=0.0),
    )
    objective = Objective(problem)
    limits = np.full(len(slots), float(DEFAULT_LIMIT))
    started = time.perf_counter()
    if how == "circuit":
        settings = CircuitSettings(seconds=60.0)
        found = born_machine(objective, limits, objective.initial, settings).value
    else:
        found = newton(objective, limits, objective.initial).value
    return found / found.sum(), time.perf_counter() - started


def policies(slots: Array, rate: float, seed: int) -> Mapping[str, Choose]:
    nodes = len(slots)
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(nodes)
    ties = rng.random(nodes)

    def round_robin(i: int, flight: Array) -> int:
        return int(order[i % nodes])

    def least_connections(i: int, flight: Array) -> int:
        node = int((flight + ties).argmin())
        ties[node] = rng.random()  # ties go anywhere
        return node

    pairs = iter(np.random.default_rng([seed, 2]).integers(0, nodes, (2**20, 2)).tolist())

    def two_choices(i: int, flight: Array) -> int:
        a, b = next(pairs)
        return int(a if flight[a] <= flight[b] else b)

    def by(w: Array) -> Choose:
        drawn = np.random.default_rng([seed, 3]).choice(nodes, 2**20, p=w)
        return lambda i, flight: int(drawn[i])

    def smooth(w: Array) -> Choose:
        """Earliest deadline first, as Envoy's weighted round robin."""
        queue = [(float(u / x), k) for k, (u, x) in enumerate(zip(ties, w, strict=True)) if x > 0]
        heapq.heapify(queue)

        def choose(i: int, flight: Array) -> int:
            due, node = queue[0]
            heapq.heapreplace(queue, (due + 1.0 / float(w[node]), node))
            return node

        return choose

    circuit, classical = (weights(slots, rate, how)[0] for how in ("circuit", "classical"))
    return {
        "round robin": round_robin,
        "least connections": least_connections,
        "two choices (LEAST_REQUEST)": two_choices,
        "capacity-proportional, drawn": by(slots / slots.sum()),
        "circuit's weights, drawn": by(circuit),
        "classical weights, drawn": by(classical),
        "circuit's weights, in turn": smooth(circuit),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    nodes, requests, seeds = (100, 20_000, 1) if arguments.quick else (NODES, 400_000, 3)
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        slots = np.random.default_rng(seed).choice([1.0, 2.0, 4.0, 8.0], nodes)
        capacity = slots.sum() / SERVICE
        for load in (0.5, AT) if arguments.quick else LOADS:
            for who, choose in policies(slots, load * capacity, seed).items():
                found = simulate(slots, load * capacity, choose, seed, requests)
                rows.append({"seed": seed, "load": load, "who": who, **found})
            print(f"seed {seed}, load {load:.0%}", file=sys.stderr, flush=True)
    name = arguments.out / "optimiser_balance"
    name.with_suffix(".json").write_text(
        "[\n" + ",\n".join(json.dumps(_short(r)) for r in rows) + "\n]\n"
    )
    name.with_suffix(".md").write_text(report(rows, nodes))


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}


def report(rows: list[dict[str, Any]], nodes: int) -> str:
    def middle(who: str, load: float, what: str) -> float:
        found = (r[what] for r in rows if r["who"] == who and r["load"] == load)
        return float(statistics.median(found))

    names = list(dict.fromkeys(r["who"] for r in rows))
    loads = sorted({r["load"] for r in rows})
    usable = {
        who: max((x for x in loads if middle(who, x, "p99") <= WITHIN * SERVICE), default=0.0)
        for who in names
    }
    lines = [
        "# Load balancing as in the paper",
        "",
        f"{nodes} simulated nodes of 1, 2, 4 or 8 slots, {SERVICE * 1e3:.0f} ms mean service; "
        "medians of the seeds. Written by `make bench-optimiser-balance`; definitions in its "
        "docstring.",
        "",
        f"| policy | deviation of utilisation at {AT:.0%} | against round robin | against least "
        f"connections | mean, ms | p99, ms | load with p99 within {WITHIN:.0f} services |",
        "|---|---|---|---|---|---|---|",
    ]
    for who in names:
        own = middle(who, AT, "deviation")
        against = [
            1.0 - own / middle(other, AT, "deviation")
            for other in ("round robin", "least connections")
        ]
        lines.append(
            f"| {who} | {own:.3f} | {against[0]:+.0%} | {against[1]:+.0%} "
            f"| {1e3 * middle(who, AT, 'mean'):.1f} | {1e3 * middle(who, AT, 'p99'):.1f} "
            f"| {f'{usable[who]:.0%}' if usable[who] else 'none'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
