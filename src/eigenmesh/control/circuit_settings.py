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
    pool: Annotated[int, Field(ge=1, le=64)] = CircuitSettings.pool
    algorithm: Algorithm = CircuitSettings.algorithm
    max_qubits: Annotated[int, Field(ge=1, le=24)] = CircuitSettings.max_qubits
    shots: Annotated[int, Field(ge=1)] = CircuitSettings.shots
    layers: Annotated[int, Field(ge=1, le=10)] = CircuitSettings.layers
    family: str = CircuitSettings.family
    angles: Path | None = CircuitSettings.angles
    refine: Annotated[int, Field(ge=0)] = CircuitSettings.refine
    warm_start: Annotated[float, Field(ge=0, lt=1)] = CircuitSettings.warm_start
    depolarising: Annotated[float, Field(ge=0, le=1)] = CircuitSettings.depolarising
    readout: Annotated[float, Field(ge=0, lt=0.5)] = CircuitSettings.readout
    seconds: Annotated[Seconds, Field(gt=0)] = CircuitSettings.seconds

    @model_validator(mode="after")
    def _angles_are_there(self) -> Circuits:
        load(self.layers, self.family, self.angles)
        return self

    def settings(self) -> CircuitSettings:
        return CircuitSettings(**self.model_dump())
