"""`guard.fast` in the settings: what may be lowered between two decisions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eigenmesh.control.duration import Seconds
from eigenmesh.control.strict import Strict
from eigenmesh.mesh import FastPolicy


class FastSettings(Strict):
    """See FastPolicy."""

    enabled: bool = FastPolicy.enabled
    """Whether limits are lowered."""
    interval: Annotated[Seconds, Field(ge=0.2)] = FastPolicy.interval
    """Between two looks."""
    tolerance: Annotated[float, Field(gt=1)] = FastPolicy.tolerance
    """Latency beyond which a cluster may be running away. Unit: times its curve's."""
    lowest: Annotated[float, Field(gt=0, le=1)] = FastPolicy.lowest
    """Part of the plan's limit that is always left."""
    admin: list[str] | None = None
    """Envoys' admin addresses, such as `http://127.0.0.1:9901`; unset: those of `telemetry.envoy`.
    With Prometheus and none given, nothing is read between decisions."""

    def policy(self) -> FastPolicy:
        return FastPolicy(**self.model_dump(exclude={"admin"}))
