"""Large meshes of rungs: blocks and circuits against whatever else has the same time.

    python -m bench.optimiser.meshes [--sizes 10 100 1000 10000] [--instances 5] [--quick]

Families: smooth and glass (`pairwise`: couplings on sparse graphs); mesh, Eigenmesh's own J on n
clusters and n / 4 routes near saturation; and hosts, the same with four clusters to a shared host.
Every solver gets half a millisecond a cluster (at least 50 ms) of processor time, in turn on the
same instance:

blocks    `decomposition.search` over blocks of five clusters, each tried exhaustively; a mesh of
          ten is one block;
qaoa      blocks of five, ten qubits, each by the best of 256 samples of the QAOA circuit;
greedy    cluster by cluster from random rungs, again and again; smooth and glass many at once;
annealing, tabu  those of `dwave-samplers`, in C++; smooth and glass are exact as quadratic models
          of bits, mesh and hosts are none. How many sweeps there is time for is measured before.
          Tabu search only up to 1,000 clusters: at 10,000 it took 97 s of the 5 it was given, and
          15 GB;
milp      HiGHS on the linearised model, 10 clusters only, 20 s: the optimum where it says so.

The best known is the best of all and of long runs: blocks to their end, and, up to 1,000 clusters,
annealing with ten times the time. `blocks, to the end` says how long the search without kicks takes
by itself: its growth with n is that of the method. On mesh and hosts the tables of a `RungWalk` are
made in addition to the budget, and counted in the seconds. All takes about six minutes. Into
bench/results/optimiser_meshes.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highspy
import numpy as np
from dimod import BinaryQuadraticModel
from dwave.samplers import SimulatedAnnealingSampler, TabuSampler

from bench.optimiser.pairwise import LEVELS, Pairwise, X, glass, smooth
from bench.optimiser.referee import projected_gradient
from eigenmesh.mesh import Bounds, Cluster, GuardPolicy, Host, LatencyCurve, Plan, Route, Topology
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.circuits.device import Device
from eigenmesh.optimize.circuits.sampling import sample
from eigenmesh.optimize.classical.weights import newton
from eigenmesh.optimize.decomposition import block_size, lowest, search, sweep
from eigenmesh.optimize.encoding import Ints, bits
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings, Problem
from eigenmesh.optimize.walk import RungWalk

RESULTS = Path(__file__).parents[1] / "results"
BLOCK = 5
LONG = 600.0
"""Seconds: as good as to the end."""
LONGER = 1000
"""Clusters up to which there are runs of several times the budget, and tabu search."""
PER_CLUSTER, LEAST = 5e-4, 0.05
CIRCUITS = CircuitSettings(device="eigenmesh.qubit", shots=256)
Clock = Callable[[], bool]


def until(seconds: float) -> Clock:
    end = time.process_time() + seconds
    return lambda: time.process_time() < end


def mesh(rng: np.random.Generator, clusters: int) -> Problem:
    """Teams of twelve clusters; most routes stay inside one, one in five goes to a second."""
    names = [f"c{k}" for k in range(clusters)]
    capacity = 100.0 * 2.0 ** rng.uniform(0.0, 3.0, clusters)
    teams = [np.arange(a, min(a + 12, clusters)) for a in range(0, clusters, 12)]
    routes = []
    for r in range(max(2, clusters // 4)):
        team = teams[r % len(teams)]
        if rng.random() < 0.2:
            team = np.union1d(team, teams[rng.integers(len(teams))])
        chosen = rng.choice(team, min(len(team), int(rng.integers(3, 9))), replace=False)
        routes.append(Route(f"r{r}", tuple(names[k] for k in sorted(chosen))))
    topology = Topology(tuple(map(Cluster, names)), tuple(routes))
    uses = {name: sum(name in r.clusters for r in routes) for name in topology.steered_clusters}
    at = dict(zip(names, capacity.tolist(), strict=True))
    return Problem(
        topology,
        {r.name: 0.7 * sum(at[k] / uses[k] for k in r.clusters) for r in routes},
        {k: LatencyCurve(float(rng.uniform(0.01, 0.04)), at[k]) for k in uses},
        Plan.equal(topology),
        guard=GuardPolicy(Bounds(0.0, 1.0), probe_floor=0.0),
    )


def sharing(rng: np.random.Generator, problem: Problem) -> Problem:
    """The same mesh, the clusters of a team on three hosts, at half the demand."""
    topology = problem.topology
    clusters = tuple(
        replace(c, host=f"h{k // 12}.{rng.integers(3)}") for k, c in enumerate(topology.clusters)
    )
    hosts = tuple(Host(name, 0.3) for name in dict.fromkeys(c.host for c in clusters) if name)
    return replace(
        problem,
        topology=Topology(clusters, topology.routes, hosts),
        demands={r: 0.5 * d for r, d in problem.demands.items()},
    )


def circuit(seed: int) -> Callable[[Array, int], int]:
    devices: dict[int, Device] = {}

    def solve(changes: Array, here: int) -> int:
        qubits = bits(changes.size)
        if qubits not in devices:
            devices[qubits] = Device(CIRCUITS.device, qubits, seed)
        states = sample(changes, LEVELS, here, CIRCUITS, seed, devices[qubits]).states
        return int(states[changes[states].argmin()])

    return solve


def greedy(cost: Pairwise, seed: int, in_time: Clock, at_once: int = 64) -> float:
    """Best of as many coordinate descents as there is time for."""
    rng, best = np.random.default_rng(seed), np.inf
    ends, others, pulls = cost.pairs.indptr, cost.pairs.indices, cost.pairs.data
    count = len(cost.rungs)
    while best == np.inf or in_time():
        rungs = rng.integers(0, LEVELS, (count, at_once))
        pull = cost.pairs @ X[rungs]
        for _ in range(100):
            moved = False
            for k in range(count):
                choice = (cost.fields[k][:, None] + X[:, None] * pull[k]).argmin(axis=0)
                step = X[choice] - X[rungs[k]]
                if step.any():
                    near = slice(ends[k], ends[k + 1])
                    pull[others[near]] += pulls[near, None] * step
                    rungs[k] = choice
                    moved = True
            if not moved or not in_time():
                break
        own = np.take_along_axis(cost.fields, rungs, axis=1).sum(axis=0)
        values = own + 0.5 * (X[rungs] * (cost.pairs @ X[rungs])).sum(axis=0)
        best = min(best, float(values.min()))
    return best


def model(cost: Pairwise) -> BinaryQuadraticModel:
    """Exact: rung = 2 bit(2k) + bit(2k + 1)."""
    f = cost.fields
    found = BinaryQuadraticModel("BINARY")
    linear = np.stack((f[:, 2] - f[:, 0], f[:, 1] - f[:, 0]), axis=1)
    row_sums = np.asarray(cost.pairs.sum(axis=1)).ravel()
    linear += X[0] * row_sums[:, None] * np.array([2.0, 1.0])
    found.add_linear_from(enumerate(linear.ravel().tolist()))
    both = f[:, 3] - f[:, 2] - f[:, 1] + f[:, 0]
    found.add_quadratic_from((2 * k, 2 * k + 1, float(v)) for k, v in enumerate(both))
    upper = cost.pairs.tocoo()
    for j, k, v in zip(upper.row.tolist(), upper.col.tolist(), upper.data.tolist(), strict=True):
        if j < k:
            for a, p in ((2 * j, 2.0), (2 * j + 1, 1.0)):
                for b, q in ((2 * k, 2.0), (2 * k + 1, 1.0)):
                    found.add_quadratic(a, b, p * q * v)
    return found


def decoded(cost: Pairwise, answer: Any) -> float:
    sample = answer.first.sample
    word = np.array([sample[i] for i in range(2 * len(cost.rungs))])
    return cost.at(2 * word[::2] + word[1::2]).value()


def sweeps_in(qubo: BinaryQuadraticModel, seconds: float) -> int:
    """How many sweeps an annealing run makes in so much processor time, the model's copy included:
    doubled until they take a tenth of it, which bounds the trials by half of it and the copies."""
    sampler = SimulatedAnnealingSampler()

    def spent(sweeps: int) -> float:
        began = time.process_time()
        sampler.sample(qubo, num_reads=1, num_sweeps=sweeps, seed=0)
        return time.process_time() - began

    spent(1)  # what only the first run pays
    copy, sweeps = spent(1), 8
    while (took := spent(sweeps) - copy) < 0.1 * seconds:
        sweeps *= 2
    return max(10, int(sweeps * (seconds - copy) / took))


def annealing(cost: Pairwise, qubo: BinaryQuadraticModel, sweeps: int, seed: int) -> float:
    """One run, as long as there is time for."""
    sampler = SimulatedAnnealingSampler()
    return decoded(cost, sampler.sample(qubo, num_reads=1, num_sweeps=sweeps, seed=seed))


def tabu(cost: Pairwise, qubo: BinaryQuadraticModel, seconds: float, seed: int) -> float:
    timeout = max(1, int(1e3 * seconds))
    return decoded(cost, TabuSampler().sample(qubo, num_reads=1, timeout=timeout, seed=seed))


def milp(cost: Pairwise, seconds: float = 20.0) -> tuple[float, bool]:
    """One binary a cluster and rung, one variable a product; and whether it proved the optimum."""
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("time_limit", seconds)
    count = len(cost.rungs)
    y = [[highs.addBinary() for _ in range(LEVELS)] for _ in range(count)]
    for row in y:
        highs.addConstr(highs.qsum(row) == 1)
    terms = [float(cost.fields[k, r]) * y[k][r] for k in range(count) for r in range(LEVELS)]
    upper = cost.pairs.tocoo()
    for j, k, v in zip(upper.row.tolist(), upper.col.tolist(), upper.data.tolist(), strict=True):
        if j >= k:
            continue
        z = [[highs.addVariable(0.0, 1.0) for _ in range(LEVELS)] for _ in range(LEVELS)]
        for a in range(LEVELS):
            highs.addConstr(highs.qsum(z[a]) == y[j][a])
            highs.addConstr(highs.qsum([z[b][a] for b in range(LEVELS)]) == y[k][a])
            terms += [float(v * X[a] * X[b]) * z[a][b] for b in range(LEVELS)]
    highs.minimize(highs.qsum(terms))
    solved = highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return float(highs.getInfo().objective_function_value), solved


def pairwise_case(cost: Pairwise, seed: int, budget: float) -> list[tuple[str, float, float]]:
    qubo = model(cost)
    sweeps = sweeps_in(qubo, budget)
    whole = block_size(len(cost.rungs), LEVELS, BLOCK)
    found = []

    def timed(name: str, run: Callable[[], float]) -> None:
        began = time.process_time()
        value = run()
        found.append((name, value, time.process_time() - began))

    def swept(solve: Callable[[Array, int], int], size: int, seconds: float) -> float:
        walk = cost.at(cost.rungs)
        kicks = 0 if seconds > LONG else 1000
        search(walk, solve, size, kicks=kicks, seed=seed, most=1000, in_time=until(seconds))
        return walk.value()

    timed("blocks", lambda: swept(lowest, whole, budget))
    timed("qaoa", lambda: swept(circuit(seed), BLOCK, budget))
    timed("greedy", lambda: greedy(cost, seed, until(budget)))
    timed("annealing", lambda: annealing(cost, qubo, sweeps, seed))
    timed("blocks, to the end", lambda: swept(lowest, whole, 2 * LONG))
    if len(cost.rungs) <= LONGER:
        timed("tabu", lambda: tabu(cost, qubo, budget, seed))
        timed("blocks, 5 x the time", lambda: swept(lowest, whole, 5.0 * budget))
        timed("qaoa, 5 x the time", lambda: swept(circuit(seed), BLOCK, 5.0 * budget))
        timed("annealing, 10 x the time", lambda: annealing(cost, qubo, 10 * sweeps, seed))
    if len(cost.rungs) <= 10:
        value, proven = milp(cost)
        found.append(("milp" if proven else "milp, not proven", value, float("nan")))
    return found


def mesh_case(problem: Problem, seed: int, budget: float) -> list[tuple[str, float, float]]:
    objective = Objective(problem)
    limits = objective.ladder[:, -1]
    w = objective.capacity_weights()
    found = []
    if objective.separable:
        for name, solve in (("projected gradient", projected_gradient), ("newton", newton)):
            began = time.process_time()
            w = solve(objective, limits, objective.capacity_weights()).value
            seconds = time.process_time() - began
            found.append((f"weights: {name}", float(objective.evaluate(w, limits)), seconds))
    # Bursts that the weights were not made for: now limits matter.
    burst = {r: 1.35 * d for r, d in problem.demands.items()}
    crowded = Objective(replace(problem, demands=burst))
    first = crowded.initial_rungs

    def swept(name: str, run: Callable[[RungWalk], object], begin: Ints) -> None:
        began = time.process_time()
        walk = RungWalk(crowded, w, begin)
        run(walk)
        seconds = time.process_time() - began
        found.append((name, walk.value(), seconds))

    def restarts(walk: RungWalk) -> None:
        rng, in_time = np.random.default_rng(seed), until(budget)
        best, value = walk.rungs, np.inf
        while value == np.inf or in_time():
            walk.restart(rng.integers(0, walk.levels, len(first)))
            sweep(walk, lowest, 1, most=1000, in_time=in_time)
            if walk.value() < value:
                best, value = walk.rungs, walk.value()
        walk.restart(best)

    def blocks(
        solve: Callable[[Array, int], int], size: int, seconds: float
    ) -> Callable[[RungWalk], object]:
        return lambda walk: sweep(walk, solve, size, most=1000, in_time=until(seconds))

    whole = block_size(len(first), LEVELS, BLOCK)
    swept("blocks", blocks(lowest, whole, budget), first)
    swept("qaoa", blocks(circuit(seed), BLOCK, budget), first)
    swept("greedy", restarts, first)
    swept("blocks, to the end", blocks(lowest, whole, 2 * LONG), first)
    if len(first) <= LONGER:
        swept("qaoa, 5 x the time", blocks(circuit(seed), BLOCK, 5.0 * budget), first)
    return found


def run(family: str, size: int, number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng([size, number, len(family)])
    budget = max(LEAST, PER_CLUSTER * size)
    if family in ("mesh", "hosts"):
        problem = mesh(rng, size)
        problem = sharing(rng, problem) if family == "hosts" else problem
        found = mesh_case(problem, number, budget)
    else:
        cost = (smooth if family == "smooth" else glass)(rng, size)
        found = pairwise_case(cost, number, budget)
    groups: dict[bool, list[float]] = {}
    for name, value, _ in found:
        groups.setdefault(name.startswith("weights"), []).append(value)
    return [
        {
            "family": family,
            "clusters": size,
            "number": number,
            "solver": name,
            "value": value,
            "seconds": seconds,
            "gap": (value - (low := min(groups[name.startswith("weights")]))) / abs(low),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        }
        for name, value, seconds in found
    ]


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        "| family | clusters | solver | instances | gap to the best known, median | worst "
        "| s, median | better than greedy, median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["family"], r["clusters"], r["solver"]), []).append(r)
    for (family, size, solver), rows in groups.items():
        gaps, spent = (np.array([r[key] for r in rows]) for key in ("gap", "seconds"))
        rival = groups.get((family, size, "greedy"), []) if "weights" not in solver else []
        better = ""
        if rival and solver != "greedy":
            other = np.array([r["value"] for r in rival])
            mine = np.array([r["value"] for r in rows])
            if len(mine) == len(other):
                better = f"{np.median((other - mine) / np.abs(other)):.2%}"
        lines.append(
            f"| {family} | {size:,} | {solver} | {len(rows)} | {np.median(gaps):.3%} "
            f"| {gaps.max():.3%} | {np.median(spent):.2f} | {better} |"
        )
    return "\n".join(lines)


def growth(records: list[dict[str, Any]]) -> str:
    lines = ["| family | clusters | s to the end | s / (n log n), relative | peak MB |"]
    lines.append("|---|---|---|---|---|")
    for family in dict.fromkeys(r["family"] for r in records):
        unit = None
        # A mesh of ten is one block, and no measure of a search over many.
        for size in dict.fromkeys(r["clusters"] for r in records if r["clusters"] > 10):
            rows = [
                r
                for r in records
                if (r["family"], r["clusters"]) == (family, size) and "end" in r["solver"]
            ]
            if rows:
                seconds = float(np.median([r["seconds"] for r in rows]))
                rate = seconds / (size * np.log(size))
                unit = unit or rate
                peak = max(r["peak_mb"] for r in rows)
                lines.append(
                    f"| {family} | {size:,} | {seconds:.2f} | {rate / unit:.2f} | {peak:.0f} |"
                )
    return "\n".join(lines)


def report(records: list[dict[str, Any]]) -> str:
    return "\n\n".join(
        (
            "# Large meshes",
            "Simulated circuits, one thread, processor time (tabu search: by the wall clock); "
            "every solver in turn on the same instance. Written by `make bench-optimiser-meshes`; "
            "every run is in optimiser_meshes.json.",
            table(records),
            "Time that the search over blocks takes until nothing improves, and memory of the "
            "whole process (which only grows):",
            growth(records),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark of the decomposition.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument(
        "--instances", type=int, default=5, help="of every case; 3 from 1,000 on, 1 from 10,000 on"
    )
    parser.add_argument("--quick", action="store_true", help="one instance, 10 and 100 clusters")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    args = parser.parse_args()
    sizes, count = ([10, 100], 1) if args.quick else (args.sizes, args.instances)
    records: list[dict[str, Any]] = []
    began = time.perf_counter()
    for size in sizes:
        for family in ("smooth", "glass", "mesh", "hosts"):
            most = 1 if size >= 10_000 else 3 if size >= 1000 else count
            for number in range(min(count, most)):
                records += run(family, size, number)
            rows = [r for r in records if (r["family"], r["clusters"]) == (family, size)]
            print(f"{time.perf_counter() - began:.0f} s")
            print(table(rows).split("\n", 2)[2], flush=True)
    args.results.mkdir(parents=True, exist_ok=True)
    rows_text = ",\n".join(json.dumps(r) for r in records).replace("NaN", "null")
    (args.results / "optimiser_meshes.json").write_text(f"[\n{rows_text}\n]\n")
    (args.results / "optimiser_meshes.md").write_text(report(records) + "\n")


if __name__ == "__main__":
    main()
