"""`guard.storm` in the settings: when retries are taken for a storm."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eigenmesh.control.duration import Seconds
from eigenmesh.control.strict import Strict
from eigenmesh.mesh import StormPolicy


class StormSettings(Strict):
    """See StormPolicy."""

    enabled: bool = StormPolicy.enabled
    """Whether it is damped."""
    amplification: Annotated[float, Field(gt=1)] = StormPolicy.amplification
    """From which on it may be one. Unit: attempts per first attempt."""
    goodput: Annotated[float, Field(gt=0, le=1)] = StormPolicy.goodput
    """Part of the requests below which so many succeed then."""
    quiet: Annotated[Seconds, Field(gt=0)] = StormPolicy.quiet
    """Without a sign of it, until more retries are allowed again."""

    def policy(self) -> StormPolicy:
        return StormPolicy(**self.model_dump())
