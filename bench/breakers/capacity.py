"""Scenario 1: capacity halves for a while under a demand that jumps from 0.6 to 1.4 times it.

    python -m bench.breakers.capacity [--seconds 210] [--repetitions 5] [--quick]

Three upstreams of 4, 2 and 2 slots lose half of them in the middle third. The demand, as a multiple
of the healthy capacity, is 0.6 for 20 s and 1.4 for 10 s, again and again: while half is lost, even
the lower one is 1.2 times what can be served, and somebody has to be turned away.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.breakers.figures import rate, share, under_target
from bench.breakers.play import Scenario, options, run
from bench.breakers.report import P95, Column, Panel, percent, write
from bench.breakers.rig import Event
from bench.breakers.setup import SLO, Bed, Variant, static_limits
from eigenmesh.demo.oracle import Upstream

UPSTREAMS = (Upstream("a", 4, 0.04), Upstream("b", 2, 0.04), Upstream("c", 2, 0.04))
BED = Bed(UPSTREAMS)
LOW, HIGH = 0.6, 1.4
QUIET, SPIKE = 20.0, 10.0
"""Seconds of each, in turns."""

LOOSE = static_limits(UPSTREAMS, 3.0)
VARIANTS = (
    Variant("Envoy's defaults"),
    Variant("static, the knee", limits=static_limits(UPSTREAMS, 1.0)),
    Variant("static, 3 knees", limits=LOOSE),
    Variant("adaptive rule, p 0.9", "rule", 0.9, LOOSE),
    Variant("adaptive rule, p 0.95", "rule", 0.95, LOOSE),
    Variant("Eigenmesh", "eigenmesh"),
)


def script(seconds: float) -> Sequence[Event]:
    cycle = min(QUIET + SPIKE, seconds / 3.0)
    events = []
    at = 0.0
    while at < seconds:
        events.append(Event(at, rates=[LOW * BED.capacity]))
        events.append(Event(at + cycle * QUIET / (QUIET + SPIKE), rates=[HIGH * BED.capacity]))
        at += cycle
    half = {u.name: f"slots={u.slots // 2}" for u in UPSTREAMS}
    whole = {u.name: f"slots={u.slots}" for u in UPSTREAMS}
    events.append(Event(seconds / 3.0, knobs=half))
    events.append(Event(2.0 * seconds / 3.0, knobs=whole))
    return sorted((e for e in events if e.at < seconds), key=lambda e: e.at)


SCENARIO = Scenario("capacity", BED, VARIANTS, script, seconds=210.0)


def main() -> None:
    args = options(SCENARIO)
    document = run(SCENARIO, args)
    third = document["seconds"] / 3.0
    print(
        write(
            document,
            caption=f"Capacity ({BED.capacity:g} requests/s) halves in the middle third; demand "
            f"{LOW:g} and {HIGH:g} times the healthy capacity. Goodput: answered within "
            f"{1e3 * SLO:g} ms, requests/s. Availability: answered at all.",
            columns=[
                percent("p95 under target", under_target()),
                Column("goodput", rate("good"), digits=0),
                Column("healthy", rate("good", 0.0, third), digits=0),
                Column("halved", rate("good", third, 2.0 * third), digits=0),
                Column("healed", rate("good", 2.0 * third), digits=0),
                percent("availability", share("answered")),
                percent("blocked", share("blocked")),
                percent("errors", share("errors")),
            ],
            panels=[
                Panel("goodput, requests/s", windows="good"),
                P95,
                Panel("sum of the limits", sums="limit ", log=True),
            ],
            results=args.results,
            pictures=args.pictures,
        )
    )


if __name__ == "__main__":
    main()
