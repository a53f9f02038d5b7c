"""Scenario 2: a retry storm that outlasts its trigger.

    python -m bench.breakers.retries [--seconds 75] [--repetitions 5] [--quick]

The parameters are those of `bench.breakers.storm`: two upstreams at three quarters of their
capacity, an attempt given up after some time and made twice more. For five seconds the upstreams
are five times slower; then they are well again, and the storm goes on by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.breakers import storm
from bench.breakers.figures import Figure, arrivals, rate, share, slice_of
from bench.breakers.play import Scenario, options, run
from bench.breakers.report import Column, Panel, percent, write
from bench.breakers.rig import Event
from bench.breakers.setup import Bed, Variant, static_limits
from eigenmesh.demo.oracle import Upstream

UPSTREAMS = tuple(Upstream(name, storm.SLOTS, storm.SERVICE) for name in storm.CLUSTERS)
RETRY = {
    "retry_on": storm.RETRY_ON,
    "num_retries": storm.RETRIES,
    "per_try_timeout": f"{storm.PER_TRY}s",
}
BED = Bed(UPSTREAMS, retry=RETRY)
BEFORE = 15.0
"""Seconds before the trigger."""
AFTER = 10.0
"""Seconds after it from which the rest is judged: by then all should be well."""
STEADY = 5
"""Windows (seconds) whose mean must be back."""

UNLIMITED = {u.name: {"max_retries": 1024} for u in UPSTREAMS}
KNEES = static_limits(UPSTREAMS, 3.0)
VARIANTS = (
    Variant("Envoy's defaults"),
    Variant("retries unlimited", limits=UNLIMITED),
    Variant("static, 3 knees", limits={n: {**KNEES[n], **UNLIMITED[n]} for n in KNEES}),
    Variant("Eigenmesh", "eigenmesh", limits=UNLIMITED),
    Variant(
        "Eigenmesh, storms not damped",
        "eigenmesh",
        limits=UNLIMITED,
        settings={"guard": {"storm": {"enabled": False}}},
    ),
)


def trigger(seconds: float) -> tuple[float, float]:
    """When it begins and is over, in a run of so many seconds."""
    begins = min(BEFORE, seconds / 4.0)
    return begins, min(begins + storm.TRIGGER, seconds / 2.0)


def script(seconds: float) -> Sequence[Event]:
    slow = dict.fromkeys(storm.CLUSTERS, f"service_time={storm.SERVICE * storm.SLOWER}")
    well = dict.fromkeys(storm.CLUSTERS, f"service_time={storm.SERVICE}")
    begins, over = trigger(seconds)
    return (
        Event(0.0, rates=[storm.DEMAND]),
        Event(begins, knobs=slow),
        Event(over, knobs=well),
    )


def back_after(begins: float, over: float) -> Figure:
    """Seconds from the end of the trigger until the success of STEADY windows is at 95% of what
    it was before; those of the whole rest if it never is."""

    def figure(raw: Mapping[str, Any]) -> float:
        columns = raw["windows"]
        answered, sent = (columns[name] for name in ("answered", "sent"))
        wanted = storm.RECOVERED * share("answered", 0.0, begins)(raw)
        for start in range(math.ceil(over), len(sent) - STEADY + 1):
            inside = slice(start, start + STEADY)
            if sum(answered[inside]) >= wanted * sum(sent[inside]):
                return start - over
        return len(sent) - over

    return figure


def amplification(start: float, end: float) -> Figure:
    """Attempts that reached the upstreams for each request that a breaker did not turn away."""

    def figure(raw: Mapping[str, Any]) -> float:
        inside = slice_of(raw["windows"], start, end)
        reached = sum(arrivals(raw, u.name, start, end) for u in UPSTREAMS)
        return float(reached / max(1, sum(inside["sent"]) - sum(inside["blocked"])))

    return figure


SCENARIO = Scenario("retries", BED, VARIANTS, script, seconds=75.0, warm_up=40.0)


def main() -> None:
    args = options(SCENARIO)
    document = run(SCENARIO, args)
    end = document["seconds"]
    begins, over = trigger(end)
    judged = min(over + AFTER, 0.5 * (over + end))
    print(
        write(
            document,
            caption=f"Upstreams of {BED.capacity:g} requests/s at {storm.DEMAND:g}, five times "
            f"slower for {storm.TRIGGER:g} s; {storm.RETRIES} retries, {storm.PER_TRY:g} s a try. "
            f"Back: seconds after the trigger until {storm.RECOVERED:.0%} of the success of before "
            f"({end - over:g}: never). The rest from {judged - over:g} s after it on. "
            "Amplification: attempts for each request let in.",
            columns=[
                Column("back after, s", back_after(begins, over), digits=0),
                Column("amplification", amplification(judged, end), digits=2),
                percent("success", share("answered", judged, end)),
                percent("blocked", share("blocked", judged, end)),
                Column("goodput within 100 ms", rate("good", judged, end), digits=0),
                percent("success before", share("answered", 0.0, begins)),
            ],
            panels=[
                Panel("answered, requests/s", windows="answered"),
                Panel("blocked, requests/s", windows="blocked"),
                Panel("in flight at the upstreams", sums="in flight", log=True),
            ],
            results=args.results,
            pictures=args.pictures,
        )
    )


if __name__ == "__main__":
    main()
