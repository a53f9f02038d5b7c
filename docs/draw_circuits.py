"""Draws the circuits of docs/optimiser.md: `make pictures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pennylane as qml

from eigenmesh.optimize.angles import load
from eigenmesh.optimize.circuits.ansatz import hardware_efficient, x_layers, xy_layers
from eigenmesh.optimize.circuits.device import Gates
from eigenmesh.optimize.circuits.operations import DiagonalCost
from eigenmesh.optimize.circuits.weights import tree_gates
from eigenmesh.optimize.encoding import tree_angles

PICTURES = Path(__file__).parent / "pictures"


def weights() -> Gates:
    """The weights of three clusters, 4/7, 2/7 and 1/7, on two qubits."""
    return tree_gates(tree_angles(np.array([4.0, 2.0, 1.0]) / 7.0))


def weights_whole() -> Gates:
    """Seven clusters on three qubits, a rotation multiplexed by the qubits above it a level."""
    angles = tree_angles(np.arange(7, 0, -1) / 28.0)
    return [
        qml.RY(angles[0], wires=0),
        *(
            qml.SelectPauliRot(
                angles[2**level - 1 : 2 ** (level + 1) - 1],
                control_wires=range(level),
                target_wire=level,
                rot_axis="Y",
            )
            for level in (1, 2)
        ),
    ]


def cost(qubits: int) -> DiagonalCost:
    return DiagonalCost(np.random.default_rng(1).normal(size=2**qubits))


PICTURED: dict[str, Callable[[], Gates]] = {
    "weights": weights_whole,
    "weights-gates": weights,
    "qaoa": lambda: x_layers(cost(4), load(2)),
    "qaoa-gates": lambda: [g for op in x_layers(cost(2), load(1)) for g in _gates(op)],
    "qaoa-xy": lambda: xy_layers(cost(4), load(1), 4),
    "vqe": lambda: hardware_efficient(np.ones((3, 4))),
}


def _gates(op: qml.operation.Operator) -> Gates:
    parts = op.decomposition() if op.name in {"CostPhase", "MixerX"} else [op]
    return [part for part in parts if not isinstance(part, qml.GlobalPhase)]


def main() -> None:
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "eigenmesh"
    PICTURES.mkdir(exist_ok=True)
    for name, gates in PICTURED.items():
        tape = qml.tape.QuantumScript(gates())
        figure, _ = qml.drawer.tape_mpl(tape, decimals=2, style="pennylane")
        figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
        print(f"{name}.svg")


if __name__ == "__main__":
    main()
