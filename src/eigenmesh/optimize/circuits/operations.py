"""The layers of a QAOA circuit as PennyLane operations.

A cost layer is thousands of gates on a device that only has gates, and one product on a simulator
that has a state vector. `CostPhase` and the mixers say what is meant: the device `eigenmesh.qubit`
applies them as they stand, any other one gets their decomposition into standard gates.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pennylane as qml
from pennylane.operation import Operation
from scipy.sparse import diags

from eigenmesh.mesh import MeshError
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import walsh


class DiagonalCost:
    """A cost for every basis state, and the same as a sum of products of Z.

    values: (2^n,), read-only. All layers of a circuit share one, so that its terms are found once.
    """

    def __init__(self, values: Array) -> None:
        if values.ndim != 1 or values.size < 2 or values.size & (values.size - 1):
            raise MeshError("cost.values", f"shape {values.shape}", "give 2, 4, 8, ... numbers")
        if not np.isfinite(values).all():
            raise MeshError("cost.values", "not finite", "leave out what cannot be priced")
        self.values = values.view()
        self.values.flags.writeable = False

    @property
    def qubits(self) -> int:
        return self.values.size.bit_length() - 1

    @cached_property
    def single(self) -> Array:
        """The values in single precision."""
        return self.values.astype(np.float32)

    @cached_property
    def coefficients(self) -> Array:
        """(2^n,): bit n - 1 - w of an index says whether wire w's Z is in the product."""
        return walsh(self.values)

    @cached_property
    def terms(self) -> tuple[tuple[tuple[int, ...], float], ...]:
        """Wires and coefficient of every product but the constant, the largest first."""
        size = np.abs(self.coefficients)
        order = np.argsort(-size[1:], kind="stable") + 1
        order = order[size[order] > 0.0]
        top = self.qubits - 1
        return tuple(
            (
                tuple(w for w in range(self.qubits) if subset >> (top - w) & 1),
                float(self.coefficients[subset]),
            )
            for subset in order.tolist()
        )

    def truncated(self, kept: float, most: int) -> DiagonalCost:
        """The largest terms only: as many as carry the share `kept` of the variance, and at most
        `most`. What a device that pays gate by gate can afford."""
        coefficients = self.coefficients
        order = np.argsort(-np.abs(coefficients[1:]), kind="stable") + 1
        share = np.cumsum(coefficients[order] ** 2)
        count = min(int(np.searchsorted(share, kept * share[-1])) + 1, most)
        if count >= order.size:
            return self
        left = np.zeros_like(coefficients)
        left[0] = coefficients[0]
        left[order[:count]] = coefficients[order[:count]]
        out = DiagonalCost(walsh(left) * left.size)
        out.coefficients = left  # those of the values would have the rounding's terms too
        return out


class CostPhase(Operation):  # type: ignore[misc]
    """exp(-i gamma C) for a diagonal C on all of its wires."""

    num_params = 1
    ndim_params = (0,)
    grad_method = None
    resource_keys: ClassVar[set[str]] = set()

    def __init__(self, gamma: Any, cost: DiagonalCost, wires: Any, id: str | None = None) -> None:
        super().__init__(gamma, wires=wires, id=id)
        if len(self.wires) != cost.qubits:
            raise MeshError(
                "CostPhase.wires", len(self.wires), f"this cost has {cost.qubits} qubits"
            )
        self.hyperparameters["cost"] = cost

    @property
    def cost(self) -> DiagonalCost:
        cost: DiagonalCost = self.hyperparameters["cost"]
        return cost

    def _flatten(self) -> tuple[Any, Any]:
        return self.data, (self.wires, self.cost)

    @classmethod
    def _unflatten(cls, data: Any, metadata: Any) -> CostPhase:
        wires, cost = metadata
        return cls(data[0], cost, wires)

    @staticmethod
    def compute_decomposition(gamma: Any, wires: Any, cost: DiagonalCost) -> list[Operation]:
        gates: list[Operation] = []
        for on, coefficient in cost.terms:
            turn = 2.0 * coefficient * gamma
            where = [wires[w] for w in on]
            if len(on) == 1:
                gates.append(qml.RZ(turn, wires=where))
            elif len(on) == 2:
                gates.append(qml.IsingZZ(turn, wires=where))
            else:
                gates.append(qml.MultiRZ(turn, wires=where))
        return [*gates, qml.GlobalPhase(gamma * float(cost.coefficients[0]))]

    def generator(self) -> Any:
        matrix = diags(self.cost.values, format="csr")
        return qml.s_prod(-1.0, qml.SparseHamiltonian(matrix, wires=self.wires))

    def adjoint(self) -> CostPhase:
        return CostPhase(-self.data[0], self.cost, self.wires)

    def label(
        self, decimals: int | None = None, base_label: str | None = None, cache: Any = None
    ) -> str:
        angle = "" if decimals is None else f"\n({qml.math.round(self.data[0], decimals)})"
        return (base_label or "exp(-iγC)") + angle


def tilted(start: int, qubits: int, tilt: float) -> Array:
    """Angles (n,) of RY that lean from the even superposition toward a basis state, by `tilt`
    quarter turns: 0 leaves it even, 1 is that state."""
    ones = ((start >> np.arange(qubits - 1, -1, -1)) & 1).astype(np.float64)
    out: Array = 0.5 * np.pi * (1.0 + tilt * (2.0 * ones - 1.0))
    return out


class MixerTilted(Operation):  # type: ignore[misc]
    """exp(-i beta (sin(angle) X + cos(angle) Z)) on every one of its wires.

    angles: one a wire, all with the same sine (`tilted`). RY(angle) of the zero state is what the
    mixer leaves as it is (D. Egger, J. Marecek, S. Woerner, "Warm-starting quantum optimization",
    Quantum 5, 2021).
    """

    num_params = 1
    ndim_params = (0,)
    grad_method = None
    resource_keys: ClassVar[set[str]] = set()

    def __init__(self, beta: Any, angles: Array, wires: Any, id: str | None = None) -> None:
        super().__init__(beta, wires=wires, id=id)
        if len(self.wires) != angles.size:
            raise MeshError("MixerTilted.angles", angles.size, f"give {len(self.wires)}")
        self.hyperparameters["angles"] = angles

    @property
    def angles(self) -> Array:
        angles: Array = self.hyperparameters["angles"]
        return angles

    def _flatten(self) -> tuple[Any, Any]:
        return self.data, (self.wires, self.angles)

    @classmethod
    def _unflatten(cls, data: Any, metadata: Any) -> MixerTilted:
        wires, angles = metadata
        return cls(data[0], angles, wires)

    @staticmethod
    def compute_decomposition(beta: Any, wires: Any, angles: Array) -> list[Operation]:
        gates: list[Operation] = []
        for wire, angle in zip(wires, angles.tolist(), strict=True):
            gates += [qml.RY(-angle, wires=wire), qml.RZ(2.0 * beta, wires=wire)]
            gates.append(qml.RY(angle, wires=wire))
        return gates

    def generator(self) -> Any:
        parts = [
            qml.s_prod(float(factor), gate(w))
            for w, angle in zip(self.wires, self.angles, strict=True)
            for factor, gate in ((np.sin(angle), qml.X), (np.cos(angle), qml.Z))
        ]
        return qml.s_prod(-1.0, qml.sum(*parts))

    def adjoint(self) -> MixerTilted:
        return MixerTilted(-self.data[0], self.angles, self.wires)

    def label(
        self, decimals: int | None = None, base_label: str | None = None, cache: Any = None
    ) -> str:
        angle = "" if decimals is None else f"\n({qml.math.round(self.data[0], decimals)})"
        return (base_label or "exp(-iβΣ(sX+cZ))") + angle


class MixerX(Operation):  # type: ignore[misc]
    """exp(-i beta X) on every one of its wires."""

    num_params = 1
    ndim_params = (0,)
    grad_method = None
    resource_keys: ClassVar[set[str]] = set()

    @staticmethod
    def compute_decomposition(beta: Any, wires: Any) -> list[Operation]:
        return [qml.RX(2.0 * beta, wires=w) for w in wires]

    def generator(self) -> Any:
        return qml.s_prod(-1.0, qml.sum(*(qml.X(w) for w in self.wires)))

    def adjoint(self) -> MixerX:
        return MixerX(-self.data[0], wires=self.wires)

    def label(
        self, decimals: int | None = None, base_label: str | None = None, cache: Any = None
    ) -> str:
        angle = "" if decimals is None else f"\n({qml.math.round(self.data[0], decimals)})"
        return (base_label or "exp(-iβΣX)") + angle
