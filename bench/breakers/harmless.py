"""Scenario 5: no harm where there is nothing to mend.

    python -m bench.breakers.harmless [--seconds 600] [--repetitions 2] [--quick]

Three equal upstreams, lightly loaded by a demand that comes in bursts: it changes between a quiet
rate and four times that at random (a Markov-modulated Poisson process of two states that last 4
and 1 s on average), a third of the capacity on average. Every request that a breaker turns away
here is one that Envoy's defaults would have served.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from bench.breakers.figures import rate, share, under_target
from bench.breakers.play import Scenario, options, run
from bench.breakers.report import P95, Column, Panel, percent, write
from bench.breakers.rig import Event
from bench.breakers.setup import Bed, Variant, static_limits
from eigenmesh.demo.oracle import Upstream

UPSTREAMS = tuple(Upstream(name, 4, 0.04) for name in "abc")
BED = Bed(UPSTREAMS)
LOAD = 0.33
BURST = 4.0
"""How many times the quiet rate comes in a burst."""
CALM_FOR, BURST_FOR = 4.0, 1.0
"""Mean seconds of each."""
SEED = 5

VARIANTS = (
    Variant("Envoy's defaults"),
    Variant("static, the knee", limits=static_limits(UPSTREAMS, 1.0)),
    Variant("Eigenmesh", "eigenmesh"),
)


def script(seconds: float) -> Sequence[Event]:
    rng = random.Random(SEED)
    mean = (CALM_FOR + BURST * BURST_FOR) / (CALM_FOR + BURST_FOR)
    quiet = LOAD * BED.capacity / mean
    events, at, bursting = [], 0.0, False
    while at < seconds:
        events.append(Event(at, rates=[quiet * (BURST if bursting else 1.0)]))
        at += rng.expovariate(1.0 / (BURST_FOR if bursting else CALM_FOR))
        bursting = not bursting
    return events


def blocked(raw: Mapping[str, Any]) -> float:
    return float(sum(raw["windows"]["blocked"]))


SCENARIO = Scenario("harmless", BED, VARIANTS, script, seconds=600.0)


def main() -> None:
    args = options(SCENARIO)
    document = run(SCENARIO, args)
    print(
        write(
            document,
            caption=f"Three equal upstreams at {LOAD:.0%} of {BED.capacity:g} requests/s in bursts "
            f"of {BURST:g} times the quiet rate.",
            columns=[
                Column("blocked, requests", blocked, digits=0),
                percent("availability", share("answered"), digits=2),
                percent("p95 under target", under_target()),
                Column("goodput", rate("good"), digits=1),
            ],
            panels=[
                Panel("sent, requests/s", windows="sent"),
                Panel("blocked, requests/s", windows="blocked"),
                Panel("sum of the limits", sums="limit ", log=True),
                P95,
            ],
            results=args.results,
            pictures=args.pictures,
        )
    )


if __name__ == "__main__":
    main()
