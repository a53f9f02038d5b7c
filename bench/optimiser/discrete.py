"""QAOA on cost tables of 8 to 20 qubits against everything else that decides them.

    python -m bench.optimiser.discrete [--quick] [--qokit PYTHON]

Four parts, all into bench/results/optimiser_discrete.{json,md,svg}; --parts renews some and keeps
what the file has of the others:

quality   For every instance: the probability, exact from the state vector, that one sample lies
within
          1% of the optimum (on the way to it from the mean), for p = 1 to 10; from it the chance of
          the best of SHOTS samples; and what becomes of real samples before and after one greedy
          pass. Beside it the rivals, each judged by the true cost.
ways      QAOA with either mixer, refined, and VQE on the same few instances.
transfer  Training of the angles from random starts against training from the shipped ones: gradient
          evaluations to the same energy, and the approximation ratio reached.
speed     One circuit of 16 and 20 qubits on each device, and a whole decision. Interleaved, five
          repetitions, medians of processor time. QOKit runs from a virtual environment of its own
          (--qokit).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from bench.optimiser import discrete_report, rivals
from bench.optimiser.families import FAMILIES, LEVELS, draw, problem
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import Angles, load
from eigenmesh.optimize.circuits.ansatz import x_layers
from eigenmesh.optimize.circuits.device import Device
from eigenmesh.optimize.circuits.operations import DiagonalCost
from eigenmesh.optimize.circuits.rungs import sampled_rungs
from eigenmesh.optimize.circuits.sampling import (
    KEPT_VARIANCE,
    MOST_TERMS,
    circuit_qubits,
    sample,
)
from eigenmesh.optimize.encoding import Ints
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings
from eigenmesh.optimize.statevector import phase, rotate_x, uniform
from eigenmesh.optimize.training import WITHIN, near_optimal

RESULTS = Path(__file__).parents[1] / "results"
DEPTHS = range(1, 11)
SHOTS = {8: 1024, 12: 1024, 16: 1024, 20: 4096}
COUNTS = {8: 200, 12: 200, 16: 200, 20: 50}
REPETITIONS = 5
PARTS = ["speed", "quality", "ways", "transfer"]


def success(costs: Array, angles: Angles) -> tuple[float, float, float]:
    """Probability of a near-optimal state, of an optimal one, and the energy's approximation
    ratio."""
    single = costs.astype(np.float32)
    state = uniform((costs.size,), np.complex64)
    for gamma, beta in zip(angles.gammas.tolist(), angles.betas.tolist(), strict=True):
        state = rotate_x(phase(state, gamma, single), beta)
    p = state.real**2 + state.imag**2
    low, high = float(costs.min()), float(costs.max())
    near, best = near_optimal(costs), costs <= low + 1e-9
    energy = float(p.astype(np.float64) @ costs)
    return float(p[near].sum()), float(p[best].sum()), (high - energy) / (high - low)


def quality(qubits: int, count: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    out = []
    depths = DEPTHS if qubits <= 16 else (6, 10)
    settings = CircuitSettings(device="eigenmesh.qubit", shots=SHOTS[qubits])
    device = Device(settings.device, qubits, 1)
    for family in FAMILIES:
        for number in range(count):
            costs = draw(family, qubits // 2, number)
            edge = float(costs.min() * (1.0 - WITHIN))
            start = int(np.random.default_rng([number, qubits]).integers(0, costs.size))
            record: dict[str, Any] = {"family": family, "qubits": qubits, "number": number}
            for kind in ("mixture", family):
                found = [success(costs, load(p, kind)) for p in depths]
                own = "mixture" if kind == "mixture" else "own"
                record[own] = {str(p): f for p, f in zip(depths, found, strict=True)}
            states = sample(costs, LEVELS, start, settings, number, device).states
            best = int(states[costs[states].argmin()])
            polished = rivals.one_pass(costs, best)
            model = rivals.quadratic(costs)
            ends = {
                "qaoa": best,
                "qaoa, polished": polished,
                "table minimum": rivals.minimum(costs, start),
                "greedy": rivals.greedy(costs, start),
                "greedy x 10": rivals.greedy_restarts(costs, start, number),
                "annealing": rivals.annealing(costs, model, number),
                "tabu": rivals.tabu(costs, model, number),
                "uniform": rivals.uniform_samples(costs, start, number, SHOTS[qubits]),
            }
            ends["uniform, polished"] = rivals.one_pass(costs, ends["uniform"])
            record["within"] = {name: bool(costs[s] <= edge) for name, s in ends.items()}
            record["gap"] = {
                name: float((costs[s] - costs.min()) / -costs.min()) for name, s in ends.items()
            }
            out.append(record)
        say(f"quality: {family}, {qubits} qubits: {count} instances")
    return out


def transfer(count: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """At 10 qubits: L-BFGS on the energy, from random angles and from the shipped ones."""
    out = []
    device = Device("eigenmesh.qubit", 10)
    for family in FAMILIES:
        for number in range(count):
            cost = DiagonalCost(draw(family, 5, 10_000 + number))
            low, high = float(cost.values.min()), float(cost.values.max())
            rng = np.random.default_rng(number)
            for layers in (4, 10):
                shipped = load(layers)
                starts = {
                    "shipped": np.concatenate((shipped.gammas, shipped.betas)),
                    "random": np.concatenate(
                        (rng.uniform(0, np.pi, layers), rng.uniform(-np.pi / 2, 0, layers))
                    ),
                }
                runs = {who: _descend(cost, x, layers, device) for who, x in starts.items()}
                # The level that both reach: how long did each take to it?
                level = max(min(energies) for energies in runs.values())
                level += 1e-3 * (high - level)
                for who, energies in runs.items():
                    reached = next(i for i, e in enumerate(energies) if e <= level) + 1
                    out.append(
                        {
                            "family": family,
                            "number": number,
                            "layers": layers,
                            "start": who,
                            "evaluations_to_level": reached,
                            "evaluations": len(energies),
                            "first_ratio": (high - energies[0]) / (high - low),
                            "ratio": (high - min(energies)) / (high - low),
                        }
                    )
        say(f"transfer: {family}: {count} instances")
    return out


def _descend(cost: DiagonalCost, start: Array, layers: int, device: Device) -> list[float]:
    """Energies of all evaluations, in order."""
    energies: list[float] = []
    order = np.concatenate((np.arange(0, 2 * layers, 2), np.arange(1, 2 * layers, 2)))

    def value(x: Array) -> tuple[float, Array]:
        gates = x_layers(cost, Angles("", x[:layers], x[layers:]))
        energies.append(float(device.probabilities(gates, cost.qubits) @ cost.values))
        return energies[-1], device.slopes(gates, cost.values)[order]

    minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return energies


def ways(count: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every algorithm on the same instances, 256 shots each."""
    out = []
    variants: dict[str, CircuitSettings] = {
        "qaoa": CircuitSettings(device="eigenmesh.qubit", shots=256),
        "qaoa, refined (20 steps)": CircuitSettings(device="eigenmesh.qubit", shots=256, refine=20),
        "qaoa-xy": CircuitSettings(device="eigenmesh.qubit", shots=256, algorithm="qaoa-xy"),
        "vqe": CircuitSettings(device="eigenmesh.qubit", shots=256, algorithm="vqe"),
    }
    for clusters in (4, 6):
        for family in FAMILIES:
            for number in range(count):
                costs = draw(family, clusters, 30_000 + number)
                start = int(np.random.default_rng(number).integers(0, costs.size))
                for who, settings in variants.items():
                    qubits = circuit_qubits(clusters, LEVELS, settings)
                    if qubits > 16:
                        continue
                    device = Device(settings.device, qubits, number)
                    started = time.perf_counter()
                    found = sample(costs, LEVELS, start, settings, number, device)
                    seconds = time.perf_counter() - started
                    best = float(costs[found.states].min())
                    out.append(
                        {
                            "family": family,
                            "block": 2 * clusters,
                            "who": who,
                            "qubits": qubits,
                            "within": bool(best <= costs.min() * (1.0 - WITHIN)),
                            "mean": float(costs[found.states].mean()),
                            "seconds": seconds,
                            "gradients": found.evaluations,
                        }
                    )
        say(f"ways: blocks of {2 * clusters} bits: {count} instances a family")
    return out


class Qokit:
    """A child process in its own environment: the same circuit by QOKit's simulator from PyPI."""

    CODE = """
import json, sys, time
import numpy as np
from qokit.fur import choose_simulator
for line in sys.stdin:
    file, gammas, betas = json.loads(line)
    costs = np.load(file)
    simulator = choose_simulator(name="auto")(costs.size.bit_length() - 1, costs=costs)
    started = time.process_time()
    state = simulator.simulate_qaoa(gammas, betas)
    taken = time.process_time() - started
    p = simulator.get_probabilities(state)
    print(json.dumps([taken, type(simulator).__name__, float(p @ costs)]), flush=True)
"""

    def __init__(self, python: str) -> None:
        self.child = subprocess.Popen(
            [python, "-W", "ignore", "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, file: Path, angles: Angles) -> tuple[float, float]:
        """Processor seconds and energy. Its mixer is exp(-i beta X) and its phase
        exp(-i gamma C), as ours."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        request = [str(file), angles.gammas.tolist(), angles.betas.tolist()]
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()
        taken, _, energy = json.loads(self.child.stdout.readline())
        return taken, energy

    def close(self) -> None:
        self.child.kill()
        self.child.wait()


def circuits(qubits: int, qokit: Qokit | None, repetitions: int) -> list[dict[str, Any]]:
    """Processor seconds of one circuit, its samples included, on every device; the cost's terms are
    at hand."""
    out = []
    costs = draw("smooth", qubits // 2, 20_000)
    whole = DiagonalCost(costs)
    short = whole.truncated(KEPT_VARIANCE, MOST_TERMS)
    assert short.terms
    assert whole.single.size
    file = RESULTS / ".costs.npy"
    np.save(file, costs)
    devices = {"eigenmesh.qubit": 10, "lightning.qubit": 10}
    if qubits <= 16:
        devices["default.qubit"] = 10
    made = {name: Device(name, qubits, 1) for name in devices}
    for repetition in range(-1, repetitions):
        for layers in (6, 10):
            angles = load(layers)
            taken: dict[str, float] = {}
            for name, device in made.items():
                gates = x_layers(short if device.pays_by_gate else whole, angles)
                started = time.process_time()
                device.samples(gates, qubits, SHOTS[qubits])
                taken[name] = time.process_time() - started
            if qokit is not None and qubits <= 16:
                taken["QOKit (Python, no samples)"], _ = qokit.run(file, angles)
            for name, seconds in taken.items():
                if repetition >= 0:  # the first one warms up
                    out.append(
                        {
                            "what": "circuit",
                            "qubits": qubits,
                            "layers": layers,
                            "terms": len(short.terms),
                            "who": name,
                            "seconds": seconds,
                        }
                    )
    file.unlink()
    return out


def decisions(qubits: int, repetitions: int) -> list[dict[str, Any]]:
    """Processor seconds of one whole decision of a mesh's limits: the cost table, the circuit, the
    samples by J, the greedy pass; and of the classical ways to the same block."""
    from eigenmesh.optimize.classical.rungs import coordinate
    from eigenmesh.optimize.tables import block_costs

    out = []
    clusters = qubits // 2
    objective = Objective(problem(np.random.default_rng(3), clusters))
    w, start = objective.initial, np.zeros(clusters, dtype=np.int64)

    def circuit(device: str) -> Callable[[], float]:
        settings = CircuitSettings(device=device, max_qubits=qubits, shots=SHOTS[qubits])
        return lambda: judged(sampled_rungs(objective, w, start, settings, 1).value)

    def judged(rungs: Ints) -> float:
        return float(objective.evaluate_rungs(w, rungs[None])[0])

    def least() -> float:
        return float(block_costs(objective, w, range(clusters), start).min())

    def least_by_objective() -> float:
        return float(objective.diagonal(w, range(clusters), start).min())

    ways: dict[str, Callable[[], float]] = {
        "qaoa on eigenmesh.qubit": circuit("eigenmesh.qubit"),
        "table minimum": least,
        "coordinate descent x 9": lambda: judged(coordinate(objective, w, start).value),
    }
    if qubits <= 16:
        ways["qaoa on lightning.qubit"] = circuit("lightning.qubit")
        ways["minimum of all J"] = least_by_objective
    for repetition in range(-1, repetitions):
        for who, way in ways.items():
            started = time.process_time()
            value = way()
            seconds = time.process_time() - started
            if repetition >= 0:
                out.append(
                    {
                        "what": "decision",
                        "qubits": qubits,
                        "layers": CircuitSettings().layers,
                        "who": who,
                        "seconds": seconds,
                        "objective": value,
                    }
                )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few instances, 8 and 12 qubits")
    parser.add_argument("--qokit", help="a Python that has QOKit")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    file = arguments.out / "optimiser_discrete.json"
    document = json.loads(file.read_text()) if file.exists() else {}
    document |= {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "threads": 1,
        },
        "shots": SHOTS,
        "within": WITHIN,
    }
    quick = arguments.quick
    if "speed" in arguments.parts:
        qokit = Qokit(arguments.qokit) if arguments.qokit else None
        try:
            document["speed"] = speed((12,) if quick else (16, 20), qokit, say)
        finally:
            if qokit is not None:
                qokit.close()
    if "quality" in arguments.parts:
        sizes = {8: 5, 12: 5} if quick else COUNTS
        document["quality"] = [
            r for qubits, count in sizes.items() for r in quality(qubits, count, say)
        ]
    if "ways" in arguments.parts:
        document["ways"] = ways(2 if quick else 20, say)
    if "transfer" in arguments.parts:
        document["transfer"] = transfer(3 if quick else 20, say)
    arguments.out.mkdir(exist_ok=True)
    discrete_report.write(document, arguments.out)
    say(f"written: {arguments.out}/optimiser_discrete.{{json,md,svg}}")


def speed(
    sizes: tuple[int, ...], qokit: Qokit | None, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    out = []
    for qubits in sizes:
        say(f"speed: {qubits} qubits")
        out += circuits(qubits, qokit, REPETITIONS)
        out += decisions(qubits, REPETITIONS)
    return out


if __name__ == "__main__":
    main()
