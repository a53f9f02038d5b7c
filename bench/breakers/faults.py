"""Scenario 3: an upstream that fails fast, and one that hangs.

    python -m bench.breakers.faults [--seconds 120] [--repetitions 5] [--quick]

Three upstreams at half load; the middle one answers everything with 503 after 5 ms from a quarter
of the run to a half, and then hangs, never answering, from five eighths to seven eighths. The route
gives up after a second. The baselines that have the endpoints in one cluster balance by
LEAST_REQUEST, to which a fast failure looks like a good server; outlier detection has Envoy's own
thresholds but for an ejection that also a third of the hosts may suffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.breakers.figures import Figure, arrivals, rate, share
from bench.breakers.play import Scenario, options, run
from bench.breakers.report import Column, Panel, percent, write
from bench.breakers.rig import Event
from bench.breakers.setup import Bed, Variant
from eigenmesh.demo.oracle import Upstream

UPSTREAMS = (Upstream("a", 6, 0.04), Upstream("b", 4, 0.04), Upstream("c", 2, 0.04))
BED = Bed(UPSTREAMS, timeout="1s")
BAD = UPSTREAMS[1].name
LOAD = 0.5
FAILING = (0.25, 0.5)
HANGING = (0.625, 0.875)
"""Of the run's length."""

OUTLIER = {"consecutive_5xx": 5, "interval": "1s", "base_ejection_time": "30s"}
VARIANTS = (
    Variant("weighted clusters, defaults"),
    Variant("one cluster, LEAST_REQUEST", one_cluster=True),
    Variant(
        "one cluster, outlier detection",
        one_cluster=True,
        outlier={**OUTLIER, "max_ejection_percent": 34},
    ),
    Variant("weighted clusters, outlier detection", outlier=OUTLIER),
    Variant("Eigenmesh", "eigenmesh"),
)


def script(seconds: float) -> Sequence[Event]:
    failing, failed, hanging, hung = (seconds * part for part in (*FAILING, *HANGING))
    return (
        Event(0.0, rates=[LOAD * BED.capacity]),
        Event(failing, knobs={BAD: "fail_after=0.005"}),
        Event(failed, knobs={BAD: "fail_after="}),
        Event(hanging, knobs={BAD: "hang=1"}),
        Event(hung, knobs={BAD: "hang=0&reset=1"}),
    )


def misdirected(start: float, end: float) -> Figure:
    """Fraction of what reached the upstreams from `start` to `end` that went to the bad one."""

    def figure(raw: Mapping[str, Any]) -> float:
        reached = {u.name: arrivals(raw, u.name, start, end) for u in UPSTREAMS}
        return reached[BAD] / max(1.0, sum(reached.values()))

    return figure


SCENARIO = Scenario("faults", BED, VARIANTS, script, seconds=120.0)


def main() -> None:
    args = options(SCENARIO)
    document = run(SCENARIO, args)
    columns = []
    for what, parts in (("503", FAILING), ("hang", HANGING)):
        start, end = (document["seconds"] * part for part in parts)
        columns += [
            percent(f"{what}: success", share("answered", start, end)),
            percent(f"{what}: misdirected", misdirected(start, end)),
            percent(f"{what}: blocked", share("blocked", start, end)),
        ]
    print(
        write(
            document,
            caption=f"Upstream {BAD}, a third of the capacity, answers 503 in 5 ms, then is well, "
            f"then hangs; demand {LOAD:g} times the capacity. Misdirected: share of what reached "
            "the upstreams that went to it meanwhile.",
            columns=[*columns, Column("goodput of the whole run", rate("good"), digits=0)],
            panels=[
                Panel("goodput, requests/s", windows="good"),
                Panel("errors, requests/s", windows="errors"),
                Panel("blocked, requests/s", windows="blocked"),
            ],
            results=args.results,
            pictures=args.pictures,
        )
    )


if __name__ == "__main__":
    main()
