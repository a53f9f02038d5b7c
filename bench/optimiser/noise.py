"""What noise costs and what mitigation brings back; cut circuits; a pool of devices.

    python -m bench.optimiser.noise [--quick]

Ten qubits, six layers, the shipped mixture angles, simulated by trajectories (`circuits.noise`). A
recovery factor is the error of the noisy energy over the error of the mitigated one. Cutting is
PennyLane's `cut_circuit` on chains of six qubits. The pool solves the blocks of one partition of 40
clusters on 1, 2 and 4 processes, each with a simulated device of its own, and then as the solver
does it (`circuits.pool`), on threads. Into bench/results/optimiser_noise.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pennylane as qml

from bench.optimiser.families import LEVELS, draw, problem
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import load
from eigenmesh.optimize.circuits import noise as noisy
from eigenmesh.optimize.circuits.device import Device, Gates
from eigenmesh.optimize.circuits.noise import Noise, noisy_probabilities, unconfused
from eigenmesh.optimize.circuits.operations import DiagonalCost
from eigenmesh.optimize.circuits.rungs import sampled_rungs
from eigenmesh.optimize.circuits.sampling import KEPT_VARIANCE, MOST_TERMS, sample
from eigenmesh.optimize.encoding import Ints
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings
from eigenmesh.optimize.training import near_optimal

RESULTS = Path(__file__).parents[1] / "results"
FAMILIES = ("smooth", "cliff", "glass", "mesh")
CLUSTERS, LAYERS = 5, 6
FOLDS = (1, 3, 5)
SHOTS = (64, 256, 1024, 4096)
CLUSTERS_OF_POOL = 40
QUEUE = 0.1
"""Seconds that a device elsewhere takes before it answers."""
Say = Callable[[str], None]
Samples = Callable[[Device, Gates, int, int], Ints]
_samples: Samples = Device.samples


def gates(count: int, trajectories: int, say: Say) -> list[dict[str, Any]]:
    """Depolarising noise: success of the samples, and the energy with and without extrapolation."""
    out = []
    angles = load(LAYERS)
    for family in FAMILIES:
        for number in range(count):
            costs = draw(family, CLUSTERS, 40_000 + number)
            cost = DiagonalCost(costs).truncated(KEPT_VARIANCE, MOST_TERMS)
            good = near_optimal(costs)
            for strength in (0.0, 0.002, 0.01, 0.03):
                rng = np.random.default_rng([number, int(1e4 * strength)])
                noise = Noise(strength)
                means = [
                    noisy_probabilities(
                        cost, angles, noise, rng, fold=fold, trajectories=trajectories
                    ).mean(axis=0)
                    for fold in FOLDS
                ]
                energies = [float(p @ cost.values) for p in means]
                sampled = [
                    float(cost.values[rng.choice(p.size, 4096, p=p / p.sum())].mean())
                    for p in means
                ]
                out.append(
                    {
                        "family": family,
                        "number": number,
                        "strength": strength,
                        "two-qubit gates": LAYERS * noisy.two_qubit_gates(cost),
                        "p good": float(means[0][good].sum()),
                        "p uniform": float(good.mean()),
                        "energy": energies[0],
                        "extrapolated": extrapolated(energies),
                        "energy, 4096 shots": sampled[0],
                        "extrapolated, 4096 shots": extrapolated(sampled),
                    }
                )
        say(f"gates: {family}: {count} instances")
    return out


def extrapolated(energies: list[float]) -> float:
    """The exponential fit to no noise; a wholly depolarised state has the mean cost, 0.
    Energies whose sign noise has turned have no such fit: the plain one is kept."""
    if any(e >= 0 for e in energies):
        return energies[0]
    return float(qml.noise.exponential_extrapolate(FOLDS, energies, asymptote=0.0))


def readout(count: int, say: Say) -> list[dict[str, Any]]:
    """Misread bits: the energy of 4096 samples, as it is and with the confusion undone."""
    out = []
    angles = load(LAYERS)
    for family in FAMILIES:
        for number in range(count):
            costs = draw(family, CLUSTERS, 40_000 + number)
            cost, good = DiagonalCost(costs), near_optimal(costs)
            rng = np.random.default_rng(number)
            p = noisy_probabilities(cost, angles, Noise(), rng, trajectories=1)
            exact = float(p[0] @ costs)
            for wrong in (0.0, 0.01, 0.03):
                noise = Noise(readout=wrong)
                states = noisy.draw(p, 4096, noise, rng)
                out.append(
                    {
                        "family": family,
                        "number": number,
                        "readout": wrong,
                        "exact": exact,
                        "raw": float(costs[states].mean()),
                        "unconfused": float(unconfused(costs, noise)[states].mean()),
                        "p good": float(good[states].mean()),
                    }
                )
    say("readout: done")
    return out


def cutting(repetitions: int, say: Say) -> list[dict[str, Any]]:
    """The energy of a chain of six, whole and cut in two at the fourth wire."""
    out = []
    for layers in (1, 2):
        angles = load(layers)

        def circuit(cut: bool, layers: int = layers) -> Any:
            angles = load(layers)
            for w in range(6):
                qml.Hadamard(w)
            for gamma, beta in zip(angles.gammas.tolist(), angles.betas.tolist(), strict=True):
                for w in range(5):
                    if cut and w == 3:
                        qml.WireCut(wires=3)
                    qml.IsingZZ(gamma, wires=(w, w + 1))
                    if cut and w == 3 and gamma != angles.gammas[-1]:
                        qml.WireCut(wires=3)
                for w in range(6):
                    qml.RX(2.0 * beta, wires=w)
            return qml.expval(qml.Z(0) @ qml.Z(1) @ qml.Z(4) @ qml.Z(5))

        device = qml.device("lightning.qubit", wires=6)
        whole = qml.QNode(circuit, device)
        parts = qml.cut_circuit(qml.QNode(circuit, device))
        for _ in range(repetitions + 1):
            for who, node, cut in (("whole", whole, False), ("cut", parts, True)):
                before = time.perf_counter()
                with qml.Tracker(device) as tracker:
                    value = float(node(cut))
                out.append(
                    {
                        "layers": layers,
                        "who": who,
                        "seconds": time.perf_counter() - before,
                        "circuits": int(tracker.totals.get("simulations", 0)),
                        "value": value,
                    }
                )
        say(f"cutting: p = {layers}")
        del angles
    return out


def _solve(task: tuple[Array, int]) -> int:
    table, seed = task
    settings = CircuitSettings(device="lightning.qubit", max_qubits=10)
    device = Device(settings.device, 10, seed)
    found = sample(table, LEVELS, 0, settings, seed, device).states
    return int(found[table[found].argmin()])


def pool(repetitions: int, say: Say) -> list[dict[str, Any]]:
    tasks = [(draw("smooth", CLUSTERS, 50_000 + k), k) for k in range(8)]
    out = []
    pools = {n: ProcessPoolExecutor(n, mp_context=get_context("spawn")) for n in (1, 2, 4)}
    try:
        answers = {n: list(p.map(_solve, tasks * 2)) for n, p in pools.items()}  # warms up
        assert len({tuple(a) for a in answers.values()}) == 1
        for _ in range(repetitions):
            for n, executor in pools.items():
                before = time.perf_counter()
                list(executor.map(_solve, tasks))
                out.append({"devices": n, "seconds": time.perf_counter() - before})
    finally:
        for executor in pools.values():
            executor.shutdown()
    out += _in_the_solver(repetitions)
    say("pool: done")
    return out


def _queued(self: Device, tape: Gates, qubits: int, shots: int) -> Ints:
    """A device elsewhere, as far as time goes: what is asked of it waits first."""
    time.sleep(QUEUE)
    return _samples(self, tape, qubits, shots)


def _in_the_solver(repetitions: int) -> list[dict[str, Any]]:
    """`circuits.pool`: threads, on a mesh of forty clusters in blocks of five."""
    objective = Objective(problem(np.random.default_rng(7), CLUSTERS_OF_POOL))
    start = objective.initial_rungs
    names = ("lightning.qubit", "eigenmesh.qubit")
    cases: list[tuple[str, str, Samples]] = [(name, name, _samples) for name in names]
    cases.append((f"{names[0]}, {1e3 * QUEUE:.0f} ms queue", names[0], _queued))
    out = []
    for number in range(repetitions + 1):
        for case, name, samples in cases:
            for n in (1, 2, 4):
                settings = CircuitSettings(device=name, max_qubits=10, pool=n)
                with patch.object(Device, "samples", samples):
                    before = time.perf_counter()
                    found = sampled_rungs(objective, objective.initial, start, settings)
                    seconds = time.perf_counter() - before
                value = float(objective.evaluate_rungs(objective.initial, found.value[None])[0])
                if number:  # the first warms up
                    out.append({"device": case, "solver": n, "seconds": seconds, "value": value})
    return out


def report(document: dict[str, Any]) -> str:
    def middle(values: list[float]) -> float:
        return float(statistics.median(values))

    lines = [
        "# Noise, mitigation, cutting, a pool",
        "",
        "Simulated: ten qubits, six layers, mixture angles. Written by "
        "`make bench-optimiser-noise`; every figure is in optimiser_noise.json.",
        "",
        "## Depolarising gates",
        "",
        "Chance that the best of so many samples is within 1% of the optimum / of as many uniform "
        "samples, and the energy's error (of its size): as measured, and extrapolated from "
        "foldings of 1, 3 and 5. Medians; recovery is the ratio of the two errors.",
        "",
        "| family | noise a gate | two-qubit gates | "
        + " | ".join(f"{n} samples" for n in SHOTS)
        + " | error | extrapolated | recovery | with 4096 shots: error | extrapolated |",
        "|---" * (8 + len(SHOTS)) + "|",
    ]
    truth = {
        (r["family"], r["number"]): r["energy"] for r in document["gates"] if not r["strength"]
    }
    for family in FAMILIES:
        for strength in sorted({r["strength"] for r in document["gates"]}):
            rows = [
                r for r in document["gates"] if r["family"] == family and r["strength"] == strength
            ]
            good, alike = (np.array([r[k] for r in rows]) for k in ("p good", "p uniform"))
            chances = [
                " / ".join(f"{np.mean(1 - (1 - p) ** n):.1%}" for p in (good, alike)) for n in SHOTS
            ]
            pairs = middle([r["two-qubit gates"] for r in rows])

            def off(name: str, rows: list[dict[str, Any]] = rows) -> float:
                return middle([abs(r[name] / truth[r["family"], r["number"]] - 1.0) for r in rows])

            raw, mended = off("energy"), off("extrapolated")
            factor = f"{raw / mended:.1f}" if strength else "-"
            lines.append(
                f"| {family} | {strength:.1%} | {pairs:,.0f} | "
                + " | ".join(chances)
                + f" | {raw:.2%} | {mended:.2%} | {factor} | {off('energy, 4096 shots'):.2%} "
                f"| {off('extrapolated, 4096 shots'):.2%} |"
            )
    lines += [
        "",
        "## Misread bits",
        "",
        "The energy of 4,096 samples: its error as read, and with every bit's confusion undone.",
        "",
        "| family | misread | P(within 1%) of one sample | error, raw | undone | recovery |",
        "|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        for wrong in sorted({r["readout"] for r in document["readout"]}):
            rows = [
                r for r in document["readout"] if r["family"] == family and r["readout"] == wrong
            ]
            raw, mended = (
                middle([abs(r[k] / r["exact"] - 1.0) for r in rows]) for k in ("raw", "unconfused")
            )
            lines.append(
                f"| {family} | {wrong:.0%} | {np.mean([r['p good'] for r in rows]):.3f} "
                f"| {raw:.2%} | {mended:.2%} | {raw / mended:.1f} |"
            )
    lines += [
        "",
        "## Cut circuits",
        "",
        "One expectation value of a chain of six qubits on devices of three and four, by "
        "`qml.cut_circuit`, against the whole circuit. Cuts grow as 2p - 1, circuits exponentially "
        "in them, and samples cannot be had at all: the solver cuts the problem into "
        "blocks instead.",
        "",
        "| p | circuits, whole | cut | ms, whole | cut | difference |",
        "|---|---|---|---|---|---|",
    ]
    for layers in (1, 2):
        rows = [r for r in document["cutting"] if r["layers"] == layers]
        by = {w: [r for r in rows if r["who"] == w][1:] for w in ("whole", "cut")}
        cells = [by[w][0]["circuits"] for w in ("whole", "cut")]
        taken = [1e3 * middle([r["seconds"] for r in by[w]]) for w in ("whole", "cut")]
        apart = abs(by["whole"][0]["value"] - by["cut"][0]["value"])
        lines.append(
            f"| {layers} | {cells[0]} | {cells[1]} | {taken[0]:.1f} | {taken[1]:.1f} "
            f"| {apart:.0e} |"
        )
    lines += [
        "",
        "## A pool of simulated devices",
        "",
        f"Eight blocks of ten qubits, on a machine with {document['cores']} cores.",
        "",
        "| devices | ms | speed-up |",
        "|---|---|---|",
    ]
    taken_by = {
        n: middle([r["seconds"] for r in document["pool"] if r.get("devices") == n])
        for n in (1, 2, 4)
    }
    lines += [f"| {n} | {1e3 * t:.0f} | {taken_by[1] / t:.2f} |" for n, t in taken_by.items()]
    lines += [
        "",
        "In the solver: forty clusters in blocks of five, on threads. The queue is simulated: a "
        "device elsewhere, that is waited for.",
        "",
        "| device | `circuits.pool` | ms | speed-up | objective, relative to one device |",
        "|---|---|---|---|---|",
    ]
    solved = [r for r in document["pool"] if "solver" in r]
    for device in dict.fromkeys(r["device"] for r in solved):
        runs = {
            n: [r for r in solved if (r["device"], r["solver"]) == (device, n)] for n in taken_by
        }
        times = {n: middle([r["seconds"] for r in own]) for n, own in runs.items()}
        values = {n: own[0]["value"] for n, own in runs.items()}
        lines += [
            f"| {device} | {n} | {1e3 * t:.0f} | {times[1] / t:.2f} "
            f"| {values[n] / values[1] - 1.0:+.3%} |"
            for n, t in times.items()
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    count, trajectories = (1, 8) if arguments.quick else (6, 128)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    document = {
        "cores": os.cpu_count(),
        "pool": pool(1 if arguments.quick else 5, say),
        "cutting": cutting(1 if arguments.quick else 5, say),
        "readout": readout(count, say),
        "gates": gates(count, trajectories, say),
    }
    name = arguments.out / "optimiser_noise"
    text = json.dumps(document, separators=(",", ":"))
    name.with_suffix(".json").write_text(text.replace("},{", "},\n{") + "\n")
    name.with_suffix(".md").write_text(report(document))


if __name__ == "__main__":
    main()
