"""The PennyLane device `eigenmesh.qubit`: a state-vector simulator for circuits with diagonal
costs.

It applies `CostPhase` with one product, `MixerX` with a few small matrix products and a
multiplexed RY (`qml.SelectPauliRot`) with one, where a device that only has gates needs thousands.
Everything else is applied by its matrix on up to three wires, or decomposed by PennyLane until it
is. Gradients of expectation values are adjoint ones (T. Jones, J. Gacon, "Efficient calculation of
gradients in classical simulations of variational quantum algorithms", arXiv:2009.02823).

Samples are drawn from a state of single precision: its error of 1e-6 is far below what any number
of shots can see. All else is in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pennylane as qml
from numpy.typing import NDArray
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.devices.preprocess import (
    decompose,
    validate_adjoint_trainable_params,
    validate_device_wires,
)
from pennylane.devices.qubit import measure, measure_with_samples
from pennylane.exceptions import DeviceError
from pennylane.measurements import ExpectationMP, SampleMP
from pennylane.operation import operation_derivative
from pennylane.tape import QuantumScript
from pennylane.transforms.core import CompilePipeline

from eigenmesh.optimize.circuits.operations import CostPhase, MixerTilted, MixerX
from eigenmesh.optimize.statevector import (
    State,
    phase,
    product,
    rotate_about,
    rotate_x,
    sum_about,
    sum_x,
    uniform,
)

MOST_WIRES = 3
"""Wires of a gate that is applied by its matrix."""

Change = Callable[[State], State]


def _is_native(op: Any) -> bool:
    if isinstance(op, qml.SelectPauliRot):
        return bool(op.hyperparameters["rot_axis"] == "Y")
    if isinstance(op, CostPhase | MixerX | MixerTilted | qml.GlobalPhase | qml.Identity):
        return True
    return bool(op.has_matrix) and len(op.wires) <= MOST_WIRES


def _is_differentiable(op: Any) -> bool:
    """PennyLane stacks the slopes of all parameters: one number each, so no multiplexer here."""
    plain = not op.data or (op.num_params == 1 and op.has_generator)
    return _is_native(op) and plain and not isinstance(op, qml.SelectPauliRot)


@simulator_tracking
@single_tape_support
class EigenmeshQubit(Device):  # type: ignore[misc]
    """wires: how many, or their labels. seed: of the samples."""

    name = "eigenmesh.qubit"

    def __init__(self, wires: Any, seed: Any = None) -> None:
        super().__init__(wires=wires)
        if self.wires is None or not len(self.wires):
            raise DeviceError("eigenmesh.qubit: wires: none: give the number of qubits")
        self._rng = np.random.default_rng(seed)

    def setup_execution_config(
        self, config: ExecutionConfig | None = None, circuit: Any = None
    ) -> ExecutionConfig:
        config = config or ExecutionConfig()
        if config.gradient_method in {"best", "adjoint"} and self.supports_derivatives(
            config, circuit
        ):
            return replace(config, gradient_method="adjoint", use_device_gradient=True)
        return config

    def preprocess_transforms(self, execution_config: Any = None) -> CompilePipeline:
        program = CompilePipeline()
        program.add_transform(validate_device_wires, self.wires, name=self.name)
        adjoint = execution_config is not None and execution_config.gradient_method == "adjoint"
        native = _is_differentiable if adjoint else _is_native
        program.add_transform(decompose, stopping_condition=native, name=self.name)
        if adjoint:
            program.add_transform(validate_adjoint_trainable_params)
        return program

    def supports_derivatives(
        self, execution_config: ExecutionConfig | None = None, circuit: Any = None
    ) -> bool:
        if execution_config and execution_config.gradient_method not in {"best", "adjoint"}:
            return False
        return circuit is None or (
            not circuit.shots and all(isinstance(m, ExpectationMP) for m in circuit.measurements)
        )

    def execute(self, circuits: Sequence[QuantumScript], execution_config: Any = None) -> Any:
        return tuple(self._results(circuit) for circuit in circuits)

    def compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: Any = None
    ) -> Any:
        return tuple(self._derivatives(circuit) for circuit in circuits)

    # One circuit.

    def _state(self, circuit: QuantumScript, dtype: Any) -> State:
        qubits, rest = len(self.wires), list(circuit.operations)
        opening = rest[:qubits]
        if {op.wires[0] for op in opening if isinstance(op, qml.Hadamard)} == set(self.wires):
            state, rest = uniform((1 << qubits,), dtype), rest[qubits:]
        elif [op.wires[0] for op in opening if isinstance(op, qml.RY)] == list(self.wires):
            turns = np.array([float(op.data[0]) for op in opening])
            state, rest = product(turns, dtype), rest[qubits:]
        else:
            state = np.zeros(1 << qubits, dtype=dtype)
            state[0] = 1.0
        for op in rest:
            state = self._apply(op, state)
        return state

    def _results(self, circuit: QuantumScript) -> Any:
        shots = circuit.shots
        drawn = not shots.has_partitioned_shots and all(
            isinstance(m, SampleMP) and m.obs is None and m.eigvals() is None
            for m in circuit.measurements
        )
        if shots and drawn:
            state = self._state(circuit, np.complex64)
            samples = _draw(state, shots.total_shots, self._rng)
            found = [m.process_samples(samples, self.wires) for m in circuit.measurements]
        else:
            state = self._state(circuit, np.complex128).reshape((2,) * len(self.wires))
            ready = circuit.map_to_standard_wires() if self._relabels else circuit
            if shots:
                found = measure_with_samples(ready.measurements, state, shots, rng=self._rng)
            else:
                found = [measure(m, state) for m in ready.measurements]
        return found[0] if len(found) == 1 else tuple(found)

    @property
    def _relabels(self) -> bool:
        return list(self.wires) != list(range(len(self.wires)))

    def _derivatives(self, circuit: QuantumScript) -> Any:
        state = self._state(circuit, np.complex128)
        bras = []
        for measurement in circuit.measurements:
            observable = measurement.obs.sparse_matrix(wire_order=self.wires)
            bras.append(observable @ state)
        wanted = set(circuit.trainable_params)
        slopes: list[list[Any]] = [[] for _ in bras]
        parameter = sum(len(op.data) for op in circuit.operations)
        for op in reversed(circuit.operations):
            parameter -= len(op.data)
            if len(op.data) and parameter in wanted:
                slope = self._slope(op, state)
                for found, bra in zip(slopes, bras, strict=True):
                    found.append(slope(bra))
            state = self._apply(op, state, back=True)
            bras = [self._apply(op, bra, back=True) for bra in bras]
        rows = [found[0] if len(found) == 1 else tuple(reversed(found)) for found in slopes]
        return rows[0] if len(rows) == 1 else tuple(rows)

    # One operation.

    def _apply(self, op: Any, state: State, back: bool = False) -> State:
        """The operation, or its inverse."""
        sign = -1.0 if back else 1.0
        if isinstance(op, CostPhase):
            costs = op.cost.single if state.dtype == np.complex64 else op.cost.values
            return self._on(op.wires, state, lambda s: phase(s, sign * float(op.data[0]), costs))
        if isinstance(op, MixerX):
            return self._on(op.wires, state, lambda s: rotate_x(s, sign * float(op.data[0])))
        if isinstance(op, MixerTilted):
            beta = sign * float(op.data[0])
            return self._on(op.wires, state, lambda s: rotate_about(s, beta, op.angles))
        if isinstance(op, qml.SelectPauliRot):
            angles = sign * np.asarray(op.data[0])
            return self._on(_select(op), state, partial(_multiplexed_ry, angles))
        if isinstance(op, qml.GlobalPhase):
            factor: State = np.exp(-1j * sign * np.asarray(op.data[0])).astype(state.dtype)
            return state * factor
        if isinstance(op, qml.Identity):
            return state
        matrix = np.asarray(op.matrix()).astype(state.dtype)
        columns = matrix.conj() if back else matrix.T
        return self._on(op.wires, state, lambda s: s @ columns)

    def _slope(self, op: Any, after: State) -> Callable[[State], Any]:
        """The derivative of <bra|circuit> by the operation's parameter, from the state after it."""
        if isinstance(op, CostPhase):
            turned = self._on(op.wires, after, lambda s: -1j * op.cost.values * s)
        elif isinstance(op, MixerX):
            turned = self._on(op.wires, after, lambda s: -1j * sum_x(s))
        elif isinstance(op, MixerTilted):
            turned = self._on(op.wires, after, lambda s: -1j * sum_about(s, op.angles))
        elif isinstance(op, qml.SelectPauliRot):
            wires, count = _select(op), np.asarray(op.data[0]).size

            def each(bra: State) -> Any:
                # -i/2 Y turns (a, b) into (-b, a) / 2, for every state of the controls alone.
                b, s = (self._on(wires, x, None).reshape(-1, count, 2) for x in (bra, after))
                overlap = b[..., 1].conj() * s[..., 0] - b[..., 0].conj() * s[..., 1]
                return overlap.real.sum(axis=0)

            return each
        else:
            before = self._apply(op, after, back=True)
            matrix = operation_derivative(op)
            turned = self._on(op.wires, before, lambda s: s @ matrix.T)
        return lambda bra: np.asarray(2.0 * np.vdot(bra, turned).real)

    def _on(self, wires: Any, state: State, change: Change | None) -> State:
        """`change` applied to the state with these wires last, shape (..., 2^k), and put back.

        Without a change: the state with these wires last."""
        axes = [int(a) for a in self.wires.indices(wires)]
        qubits, k = len(self.wires), len(axes)
        if axes == list(range(qubits - k, qubits)):
            rows = state.reshape(-1, 1 << k)
            return rows if change is None else change(rows).reshape(-1)
        order = [a for a in range(qubits) if a not in axes] + axes
        rows = state.reshape((2,) * qubits).transpose(order).reshape(-1, 1 << k)
        if change is None:
            return rows
        turned = change(rows).reshape((2,) * qubits)
        return turned.transpose(np.argsort(order)).reshape(-1)


def _select(op: Any) -> Any:
    return [*op.hyperparameters["control_wires"], *op.hyperparameters["target_wire"]]


def _multiplexed_ry(angles: NDArray[np.float64], state: State) -> State:
    """RY(angles[i]) on the last qubit where the others of the last axis are in state i."""
    pairs = state.reshape(-1, angles.size, 2)
    real = state.real.dtype
    cos, sin = np.cos(angles / 2.0).astype(real), np.sin(angles / 2.0).astype(real)
    out = np.empty_like(pairs)
    out[..., 0] = cos * pairs[..., 0] - sin * pairs[..., 1]
    out[..., 1] = sin * pairs[..., 0] + cos * pairs[..., 1]
    return out.reshape(state.shape)


def _draw(state: State, shots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Bits (shots, qubits) of samples in the computational basis."""
    below = np.cumsum(state.real**2 + state.imag**2, dtype=np.float64)
    found = np.searchsorted(below, rng.random(shots) * below[-1], side="right")
    found = np.minimum(found, state.size - 1)
    qubits = state.size.bit_length() - 1
    out: NDArray[np.int64] = (found[:, None] >> np.arange(qubits - 1, -1, -1)) & 1
    return out
