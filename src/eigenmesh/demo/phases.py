"""The demo's script: which phases, how long, with whose weights."""

from __future__ import annotations

from dataclasses import dataclass

from eigenmesh.demo import stage

WARM_UP = "warm-up"
INCUMBENT = "incumbent"
TAKE_OVER = "take-over"
STEADY = "steady"
DEGRADED = "degraded"
ORACLE_DEGRADED = "oracle-degraded"
ORACLE = "oracle"
LEAST_REQUEST = "least-request"

STEERED_PHASES = (TAKE_OVER, STEADY, DEGRADED)
"""While these last, Eigenmesh pushes."""

MEASURED_SEED = 7
"""Of every measured phase: the same arrivals and service demands for every policy."""


@dataclass(frozen=True, slots=True)
class Phase:
    """seconds: how long it is measured. settle: seconds of the same load before that, unmeasured.
    clean: begins with empty queues. host: whose virtual host gets the load. says: what happens,
    for a reader who sees it live."""

    name: str
    seconds: float
    says: str
    host: str = stage.STEERED
    settle: float = 0.0
    clean: bool = False
    seed: int = MEASURED_SEED


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each phase."""

    warm_up: float = 3.0
    incumbent: float = 10.0
    take_over: float = 15.0
    steady: float = 18.0
    degraded: float = 28.0
    oracle_degraded: float = 9.0
    oracle: float = 18.0
    least_request: float = 18.0
    settle: float = 2.0
    drain: float = 0.6
    """Between phases that must not share queues: nothing is sent."""


NORMAL = Timing()
FAST = Timing(
    warm_up=0.5,
    incumbent=3.0,
    take_over=6.0,
    steady=3.0,
    degraded=4.0,
    oracle_degraded=1.5,
    oracle=2.0,
    least_request=2.0,
    settle=0.3,
    drain=0.2,
)


def script(timing: Timing) -> tuple[Phase, ...]:
    """The phases in their order."""
    best = stage.UPSTREAMS[0].name
    was, now = stage.UPSTREAMS[0], stage.DEGRADED[0]
    return (
        Phase(
            WARM_UP,
            timing.warm_up,
            "Equal weights. Connections open, Eigenmesh takes its first look.",
            seed=1,
        ),
        Phase(
            INCUMBENT,
            timing.incumbent,
            "Equal weights and Envoy's default breakers: the smallest upstream gets more than it "
            "can serve. Eigenmesh only watches.",
            clean=True,
        ),
        Phase(
            TAKE_OVER,
            timing.take_over,
            "Eigenmesh takes over: it moves the weights step by step.",
            clean=True,
            seed=2,
        ),
        Phase(STEADY, timing.steady, "Eigenmesh steers. This is measured."),
        Phase(
            DEGRADED,
            timing.degraded,
            f"Upstream {best} has just degraded from {was.capacity:.0f} to {now.capacity:.0f} "
            "requests/s. Nobody told Eigenmesh.",
        ),
        Phase(
            ORACLE_DEGRADED,
            timing.oracle_degraded,
            "For comparison: the best fixed weights of one who knows the degraded capacities.",
            host=stage.ORACLE_DEGRADED,
            settle=timing.settle,
            clean=True,
        ),
        Phase(
            ORACLE,
            timing.oracle,
            f"Upstream {best} is healed. For comparison: the best fixed weights of one who knows "
            "the true capacities.",
            host=stage.ORACLE,
            settle=timing.settle,
            clean=True,
        ),
        Phase(
            LEAST_REQUEST,
            timing.least_request,
            "For comparison: Envoy's LEAST_REQUEST over all upstreams in one cluster.",
            host=stage.LEAST_REQUEST,
            settle=timing.settle,
            clean=True,
        ),
    )


def total_seconds(timing: Timing) -> float:
    """How long the phases take in all."""
    return sum(p.seconds + p.settle for p in script(timing))
