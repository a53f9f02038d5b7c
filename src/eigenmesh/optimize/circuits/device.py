"""One way to run circuits on a PennyLane device.

A QNode transforms, checks and expands its tape at every call: 9 ms for a two-qubit gradient that
the simulator itself does in 0.8 ms. The circuits here are written in gates that the two simulators
below have, once the layers of `operations` are expanded for the one that does not know them: for
these two the other steps are skipped, and gradients are adjoint ones. Any other device gets the
full treatment, parameter-shift gradients, and nothing but probabilities and samples to measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pennylane as qml
from numpy.typing import NDArray
from pennylane.devices import ExecutionConfig
from pennylane.tape import QuantumScript
from scipy.sparse import diags

from eigenmesh.mesh import MeshError
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.circuits.operations import CostPhase, MixerTilted, MixerX
from eigenmesh.optimize.circuits.simulator import EigenmeshQubit
from eigenmesh.optimize.encoding import Ints

GATES = "lightning.qubit"
"""Gate by gate, in C++; the default."""
LAYERS = "eigenmesh.qubit"
"""Layer by layer (`simulator`)."""
SIMULATORS = ("eigenmesh.", "lightning.", "default.", "null.")

Gates = Sequence[Any]


def expanded(gates: Gates) -> tuple[Gates, Ints, Array]:
    """The same circuit in standard gates. For each of its parameters, in order: which parameter of
    `gates` it is proportional to, and the factor."""
    out: list[Any] = []
    owners: list[int] = []
    factors: list[float] = []
    count = 0
    for gate in gates:
        if isinstance(gate, CostPhase | MixerX | MixerTilted):
            parts = gate.decomposition()
            out += parts
            # What does not grow with the parameter has no part in its slope.
            unit, none = (
                gate.compute_decomposition(x, wires=gate.wires, **gate.hyperparameters)
                for x in (1.0, 0.0)
            )
            factors += [
                float(a.data[0]) - float(b.data[0]) for a, b in zip(unit, none, strict=True)
            ]
            owners += [count] * len(parts)
        else:
            out.append(gate)
            owners += range(count, count + len(gate.data))
            factors += [1.0] * len(gate.data)
        count += len(gate.data)
    return out, np.asarray(owners, dtype=np.int64), np.asarray(factors)


class Device:
    """A PennyLane device by name, with `wires` qubits and its own random stream.

    Raises MeshError if no such device is installed.
    """

    def __init__(self, name: str, wires: int, seed: int = 0) -> None:
        self.name = name
        self.wires = wires
        self.seed = seed
        self.simulated = name.startswith(SIMULATORS)
        seeded = {"seed": seed} if self.simulated else {}
        try:
            make = EigenmeshQubit if name == LAYERS else partial(qml.device, name)
            self._device = make(wires=wires, **seeded)
        except (qml.exceptions.DeviceError, ImportError) as error:
            raise MeshError(
                "circuits.device", name, f"install its PennyLane plugin, or use {GATES} ({error})"
            ) from error

    @property
    def pays_by_gate(self) -> bool:
        """Whether a cost with many terms takes long."""
        return self.name != LAYERS

    @property
    def detail(self) -> dict[str, float | str]:
        """What a candidate says of it."""
        backend = "simulated" if self.simulated else "plugin"
        return {"device": self.name, "backend": backend, "qubits": self.wires}

    def probabilities(self, gates: Gates, qubits: int) -> Array:
        """Of all basis states of the first `qubits` wires."""
        tape = QuantumScript(gates, [qml.probs(wires=range(qubits))])
        return np.asarray(self._run(tape), dtype=np.float64)

    def slopes(self, gates: Gates, diagonal: Array) -> Array:
        """Derivatives of the expectation value of `diagonal` by the gates' parameters."""
        if self.name == LAYERS:
            return self._adjoint(gates, diagonal)
        written, owners, factors = expanded(gates)
        slope = self._adjoint if self.name == GATES else self._shifted
        out = np.zeros(sum(len(gate.data) for gate in gates))
        np.add.at(out, owners, factors * slope(written, diagonal))
        return out

    def _adjoint(self, gates: Gates, diagonal: Array) -> Array:
        # Adjoint differentiation takes no probabilities, but any one sparse observable.
        wires = range(diagonal.size.bit_length() - 1)
        observable = qml.SparseHamiltonian(diags(diagonal, format="csr"), wires=wires)
        tape = QuantumScript(gates, [qml.expval(observable)])
        tape.trainable_params = list(range(sum(len(gate.data) for gate in gates)))
        config = ExecutionConfig(gradient_method="adjoint")
        (found,) = self._device.compute_derivatives([tape], config)
        return np.asarray(found, dtype=np.float64).reshape(-1)

    def _shifted(self, gates: Gates, diagonal: Array) -> Array:
        tape = QuantumScript(gates, [qml.probs(wires=range(diagonal.size.bit_length() - 1))])
        tape.trainable_params = list(range(sum(len(gate.data) for gate in gates)))
        batch, combine = qml.gradients.param_shift(tape)
        found = combine([self._run(t) for t in batch])
        rows = np.asarray(found, dtype=np.float64).reshape(len(tape.trainable_params), -1)
        return np.asarray(rows @ diagonal)

    def samples(self, gates: Gates, qubits: int, shots: int) -> Ints:
        """`shots` basis states of the first `qubits` wires."""
        tape = QuantumScript(gates, [qml.sample(wires=range(qubits))], shots=shots)
        found: NDArray[Any] = np.asarray(self._run(tape)).reshape(shots, qubits)
        return found.astype(np.int64) @ (1 << np.arange(qubits - 1, -1, -1, dtype=np.int64))

    def _run(self, tape: Any) -> Any:
        if self.name == LAYERS:
            return self._device.execute([tape])[0]
        tape = tape.copy(operations=expanded(tape.operations)[0])
        if self.name == GATES:
            return self._device.execute([tape])[0]
        return qml.execute([tape], self._device, diff_method=None)[0]
