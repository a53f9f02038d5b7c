"""`circuits` in the settings: which device runs the variational solvers, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from eigenmesh.control.duration import Seconds
from eigenmesh.control.strict import Strict
from eigenmesh.optimize.angles import load
from eigenmesh.optimize.problem import Algorithm, CircuitSettings


class Circuits(Strict):
    """See CircuitSettings. A device whose plugin is missing, or that fails, is no reason to stop:
    the classical solvers' plan is taken, and the decision names the error."""

    device: Annotated[str, Field(min_length=1)] = CircuitSettings.device
    """Any PennyLane device."""
    pool: Annotated[int, Field(ge=1, le=64)] = CircuitSettings.pool
    """Blocks that are solved side by side. Unit: devices."""
    algorithm: Algorithm = CircuitSettings.algorithm
    """What samples the rungs."""
    max_qubits: Annotated[int, Field(ge=1, le=24)] = CircuitSettings.max_qubits
    """Largest block of rungs for one circuit. Unit: qubits."""
    shots: Annotated[int, Field(ge=1)] = CircuitSettings.shots
    """Of a rung circuit. Unit: samples."""
    layers: Annotated[int, Field(ge=1, le=10)] = CircuitSettings.layers
    """Depth; the angles must have it. Unit: QAOA layers."""
    family: str = CircuitSettings.family
    """Instances that the angles were trained on."""
    angles: Path | None = CircuitSettings.angles
    """Another table of them (`eigenmesh train-angles`); unset: the shipped ones."""
    refine: Annotated[int, Field(ge=0)] = CircuitSettings.refine
    """Training that follows, block by block. Unit: steps."""
    warm_start: Annotated[float, Field(ge=0, lt=1)] = CircuitSettings.warm_start
    """How far a circuit leans toward the plan in force. Unit: quarter turns of a qubit."""
    depolarising: Annotated[float, Field(ge=0, le=1)] = CircuitSettings.depolarising
    """Simulated noise: probability that a two-qubit gate depolarises its qubits."""
    readout: Annotated[float, Field(ge=0, lt=0.5)] = CircuitSettings.readout
    """Simulated noise: probability of misreading a bit."""
    seconds: Annotated[Seconds, Field(gt=0)] = CircuitSettings.seconds
    """Soft limit of one training of the weight circuits."""

    @model_validator(mode="after")
    def _angles_are_there(self) -> Circuits:
        load(self.layers, self.family, self.angles)
        return self

    def settings(self) -> CircuitSettings:
        return CircuitSettings(**self.model_dump())
