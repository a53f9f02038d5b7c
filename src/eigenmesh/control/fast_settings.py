"""`guard.fast` in the settings: what may be lowered between two decisions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eigenmesh.control.duration import Seconds
from eigenmesh.control.strict import Strict
from eigenmesh.mesh import FastPolicy


class FastSettings(Strict):
    """See FastPolicy. admin: Envoys' admin addresses; None: those of telemetry.envoy. Where
    Prometheus is the source and none are given, nothing is read between decisions."""

    enabled: bool = FastPolicy.enabled
    interval: Annotated[Seconds, Field(ge=0.2)] = FastPolicy.interval
    tolerance: Annotated[float, Field(gt=1)] = FastPolicy.tolerance
    lowest: Annotated[float, Field(gt=0, le=1)] = FastPolicy.lowest
    admin: list[str] | None = None

    def policy(self) -> FastPolicy:
        return FastPolicy(**self.model_dump(exclude={"admin"}))
