"""Scenario 4: one cluster behind three proxies whose shares of the traffic change.

    python -m bench.breakers.fleet [--seconds 150] [--repetitions 5] [--quick]

The proxies bring 70, 20 and 10% of 1.3 times what the cluster can serve; after a third of the run
the first and the last have changed places; after two thirds the last one, which has 70% then, is
killed and its traffic gone. What the cluster may safely have in flight is 2 knees of its curve,
which it serves within the target even when that is full: the same limit on every proxy lets in
three times that, and a third each turns away what others have room for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.breakers.figures import rate, share, under_target
from bench.breakers.play import Scenario, options, run
from bench.breakers.report import P95, Column, Panel, percent, write
from bench.breakers.rig import Event
from bench.breakers.setup import Bed, Variant, knee
from eigenmesh.demo.oracle import Upstream

UPSTREAM = Upstream("a", 8, 0.04)
PROXIES = 3
BED = Bed((UPSTREAM,), proxies=PROXIES)
SHARES = (0.7, 0.2, 0.1)
LOAD = 1.3
SAFE = 2 * knee(UPSTREAM)
"""Requests in flight at the cluster."""
SAFELY = {float(SAFE): "safe"}

WHOLE = {UPSTREAM.name: {"max_requests": SAFE}}
PART = {UPSTREAM.name: {"max_requests": SAFE // PROXIES}}
# Eigenmesh divides what it decides; here it may decide nothing but this one limit.
HELD = {"guard": {"min_limit": SAFE, "max_limit": SAFE}}
VARIANTS = (
    Variant("Envoy's defaults"),
    Variant("the same limit on every proxy", limits=WHOLE),
    Variant("a third of the limit each", limits=PART),
    Variant("Eigenmesh, this limit divided", "eigenmesh", settings=HELD),
    Variant("Eigenmesh", "eigenmesh"),
)


def script(seconds: float) -> Sequence[Event]:
    demand = LOAD * BED.capacity
    third = seconds / 3.0
    first = [demand * share for share in SHARES]
    swapped = first[::-1]
    left = [*swapped[:2], 0.0]
    # The killed proxy's clients are gone with it; the two that are left have the same as before.
    return (
        Event(0.0, rates=first),
        Event(third, rates=swapped),
        Event(2.0 * third, rates=left, kill=2),
    )


def limits(raw: Mapping[str, Any]) -> np.ndarray:
    """The sum of the proxies' limits at every sample; a dead one has none."""
    columns = [values for name, values in raw["samples"].items() if name.startswith("limit ")]
    found = np.array([[np.nan if x is None else x for x in one] for one in columns], dtype=float)
    out: np.ndarray = np.nansum(found, axis=0)
    return out


def overshoot(raw: Mapping[str, Any]) -> float:
    """The largest sum of limits, of the safe concurrency."""
    return float(limits(raw).max()) / SAFE


def overload(raw: Mapping[str, Any]) -> float:
    """Fraction of the samples in which the upstream had more in flight than is safe."""
    return float((np.array(raw["samples"][f"in flight {UPSTREAM.name}"]) > SAFE).mean())


SCENARIO = Scenario("fleet", BED, VARIANTS, script, seconds=150.0, warm_up=40.0)


def main() -> None:
    args = options(SCENARIO)
    document = run(SCENARIO, args)
    third = document["seconds"] / 3.0
    print(
        write(
            document,
            caption=f"One cluster of {BED.capacity:g} requests/s behind {PROXIES} "
            f"proxies with 70, 20 and 10% of {LOAD:g} times as much; swapped in the middle third; "
            f"in the last one the busiest proxy is killed. Safe: {SAFE} in flight.",
            columns=[
                Column("largest sum of limits, of the safe", overshoot, digits=2),
                percent("an upstream beyond the safe", overload),
                percent("p95 under target", under_target(0.0, 2.0 * third)),
                Column("goodput, 70/20/10", rate("good", 0.0, third), digits=0),
                Column("goodput, swapped", rate("good", third, 2.0 * third), digits=0),
                percent("blocked, 70/20/10", share("blocked", 0.0, third)),
                percent("blocked, one killed", share("blocked", 2.0 * third + 5.0)),
            ],
            panels=[
                Panel(
                    "sum of the limits",
                    sums="limit ",
                    log=True,
                    lines=SAFELY,
                ),
                Panel(
                    "in flight at the upstream",
                    sums="in flight",
                    log=True,
                    lines=SAFELY,
                ),
                Panel("goodput, requests/s", windows="good"),
                P95,
            ],
            results=args.results,
            pictures=args.pictures,
        )
    )


if __name__ == "__main__":
    main()
