"""One way to run circuits on a PennyLane device.

A QNode transforms, checks and expands its tape at every call: 9 ms for a two-qubit gradient that
the simulator itself does in 0.8 ms. The circuits here are written in gates that lightning.qubit
has, so for it those steps are skipped and gradients are adjoint ones; any other device gets the
full treatment, parameter-shift gradients, and nothing but probabilities and samples to measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pennylane as qml
from numpy.typing import NDArray
from pennylane.devices import ExecutionConfig
from pennylane.tape import QuantumScript
from scipy.sparse import diags

from eigenmesh.mesh import MeshError
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints

NATIVE = "lightning.qubit"
SIMULATORS = ("lightning.", "default.", "null.")

Gates = Sequence[Any]


class Device:
    """A PennyLane device by name, with `wires` qubits and its own random stream.

    Raises MeshError if no such device is installed.
    """

    def __init__(self, name: str, wires: int, seed: int = 0) -> None:
        self.name = name
        self.wires = wires
        self.simulated = name.startswith(SIMULATORS)
        seeded = {"seed": seed} if self.simulated else {}
        try:
            self._device = qml.device(name, wires=wires, **seeded)
        except (qml.exceptions.DeviceError, ImportError) as error:
            raise MeshError(
                "circuits.device", name, f"install its PennyLane plugin, or use {NATIVE} ({error})"
            ) from error

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
        wires = range(diagonal.size.bit_length() - 1)
        if self.name == NATIVE:
            # Adjoint differentiation takes no probabilities, but any one sparse observable.
            observable = qml.SparseHamiltonian(diags(diagonal, format="csr"), wires=wires)
            tape = QuantumScript(gates, [qml.expval(observable)])
            tape.trainable_params = list(range(len(tape.get_parameters(trainable_only=False))))
            config = ExecutionConfig(gradient_method="adjoint")
            (found,) = self._device.compute_derivatives([tape], config)
            return np.asarray(found, dtype=np.float64).reshape(-1)
        tape = QuantumScript(gates, [qml.probs(wires=wires)])
        tape.trainable_params = list(range(len(tape.get_parameters(trainable_only=False))))
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
        if self.name == NATIVE:
            return self._device.execute([tape])[0]
        return qml.execute([tape], self._device, diff_method=None)[0]
