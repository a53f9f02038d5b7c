"""Scenario 2: a retry storm that outlasts its trigger.

    python -m bench.breakers.retries [--seconds 75] [--repetitions 5] [--quick]

The parameters are those of `bench.breakers.storm`: two upstreams at three quarters of their
capacity, an attempt given up after a quarter of a second and made twice more. For five seconds the
upstreams are five times slower; then they are well again, and the storm goes on by itself.
"""

from __future__ import annotations

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
OVER = BEFORE + storm.TRIGGER
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


def script(seconds: float) -> Sequence[Event]:
    slow = dict.fromkeys(storm.CLUSTERS, f"service_time={storm.SERVICE * storm.SLOWER}")
    well = dict.fromkeys(storm.CLUSTERS, f"service_time={storm.SERVICE}")
    before, over = min(BEFORE, seconds / 4.0), min(OVER, seconds / 2.0)
    return (
        Event(0.0, rates=[storm.DEMAND]),
        Event(before, knobs=slow),
        Event(over, knobs=well),
    )


def back_after(raw: Mapping[str, Any]) -> float:
    """Seconds from the end of the trigger until the goodput of STEADY seconds is at 95% of what
    it was before; those of the whole rest if it never is."""
    columns = raw["windows"]
    good, sent = (columns[name] for name in ("answered", "sent"))
    before = slice_of(columns, 2.0, BEFORE)
    wanted = storm.RECOVERED * sum(before["answered"]) / max(1, sum(before["sent"]))
    for start in range(int(OVER), len(sent) - STEADY + 1):
        inside = slice(start, start + STEADY)
        if sum(good[inside]) >= wanted * sum(sent[inside]):
            return float(start - OVER)
    return float(len(sent) - OVER)


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
    print(
        write(
            document,
            caption=f"Upstreams of {BED.capacity:g} requests/s at {storm.DEMAND:g}, five times "
            f"slower for {storm.TRIGGER:g} s; {storm.RETRIES} retries, {storm.PER_TRY:g} s a try. "
            f"Back: seconds after the trigger until {storm.RECOVERED:.0%} of the success of before "
            f"({end - OVER:g}: never). Amplification: attempts for each request let in.",
            columns=[
                Column("back after, s", back_after, digits=0),
                Column("amplification, 10 s later", amplification(OVER + 10.0, end), digits=2),
                percent("success, 10 s later", share("answered", OVER + 10.0, end)),
                percent("blocked, 10 s later", share("blocked", OVER + 10.0, end)),
                Column("goodput within 100 ms, 10 s later", rate("good", OVER + 10.0), digits=0),
                percent("success before", share("answered", 2.0, BEFORE)),
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
