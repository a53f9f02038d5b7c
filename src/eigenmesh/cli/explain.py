"""`eigenmesh ctl explain`: everything that a decision rests on."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from eigenmesh.v1 import mesh_pb2 as pb


def show_decision(decision: pb.Decision, console: Console | None = None) -> None:
    """Prints it to standard output; colours are off when it is piped."""
    console = console or Console()

    def say(text: str) -> None:
        # Names and queries have brackets, which must not be taken for markup.
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    action = pb.Decision.Action.Name(decision.action).removeprefix("ACTION_").lower()
    say(f"decision {decision.number}, {decision.time.ToJsonString()}: {action}: {decision.why}")
    if decision.HasField("observed_at"):
        age = (decision.time.ToDatetime() - decision.observed_at.ToDatetime()).total_seconds()
        window = decision.window.ToTimedelta().total_seconds()
        say(f"data: a window of {window:.1f} s that ended {age:.1f} s before")
    if decision.source:
        say(f"from: {decision.source}")
    for query in decision.queries:
        say(f"query: {query}")
    for name, why in decision.left_out.items():
        say(f"left out: {name}: {why}")
    for name, why in decision.missing.items():
        say(f"no data: {name}: {why}")
    if decision.demands:
        demands = ", ".join(f"{d.route} {d.requests_per_second:.1f}" for d in decision.demands)
        say(f"demand/s: {demands}")
    if decision.clusters:
        console.print(_clusters(decision.clusters))
        console.print(_curves(decision.clusters))
    if decision.couplings:
        known = ", ".join(f"{name} {value:.2f}" for name, value in decision.couplings.items())
        say(f"coupling: {known}")
    if len({one.proxy for one in decision.proxies}) > 1:
        console.print(_proxies(decision.proxies))
    if decision.candidates:
        console.print(_candidates(decision.candidates))
    console.print(_plans(decision))
    for cut in decision.cuts:
        say(f"cut by {cut.rule}: {cut.subject}: {cut.proposed:.4g} to {cut.allowed:.4g}")
    if decision.HasField("predicted") and decision.HasField("incumbent_predicted"):
        say(
            f"objective: {1000 * decision.predicted:.2f} ms proposed, "
            f"{1000 * decision.incumbent_predicted:.2f} ms in force"
        )


def _table(title: str, text: Iterable[str], figures: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in text:
        table.add_column(name)
    for name in figures:
        table.add_column(name, justify="right")
    return table


def _clusters(states: Iterable[pb.ClusterState]) -> Table:
    figures = ("load/s", "mean ms", "p50 ms", "p90 ms", "p99 ms", "in flight", "pending")
    errors = ("connections", "retries/s", "breaker/s", "errors/s")
    table = _table(
        "seen (quantiles in the width of their bucket)", ("cluster",), (*figures, *errors)
    )
    for s in states:
        found = {round(one.q, 6): _quantile(one) for one in s.quantiles}
        causes = ", ".join(f"{cause} {rate:.1f}" for cause, rate in s.errors.items() if rate)
        table.add_row(
            s.cluster,
            f"{s.load:.1f}",
            f"{1000 * s.mean_seconds:.1f}" if s.HasField("mean_seconds") else "no data",
            *(found.get(q, "no data") for q in (0.5, 0.9, 0.99)),
            *(f"{value:.0f}" for value in (s.in_flight, s.pending, s.connections)),
            *(f"{value:.1f}" for value in (s.retries, s.breaker_errors)),
            causes or "0",
        )
    return table


def _quantile(one: pb.Quantile) -> str:
    if one.resolution_seconds == float("inf"):
        return f"over {1000 * one.seconds:.0f}"
    return f"{1000 * one.seconds:.1f} in {1000 * one.resolution_seconds:.0f}"


def _curves(states: Iterable[pb.ClusterState]) -> Table:
    table = _table("curves", ("cluster",), ("t0 ms", "capacity/s", "changed"))
    for s in states:
        if not s.HasField("curve"):
            table.add_row(s.cluster, "learning", "learning", "")
            continue
        changed = s.curve.changed_at.ToJsonString() if s.curve.HasField("changed_at") else "never"
        table.add_row(
            s.cluster,
            f"{1000 * s.curve.t0_seconds:.1f} ±{s.curve.t0_error:.0%}",
            f"{s.curve.capacity:.0f} ±{s.curve.capacity_error:.0%}",
            changed,
        )
    return table


def _proxies(loads: Iterable[pb.ProxyLoad]) -> Table:
    table = _table("proxies", ("proxy", "cluster"), ("load/s", "in flight"))
    for one in loads:
        table.add_row(one.proxy, one.cluster, f"{one.load:.1f}", f"{one.in_flight:.0f}")
    return table


def _candidates(candidates: Iterable[pb.Candidate]) -> Table:
    table = _table("candidates", ("part", "solver", ""), ("objective ms", "took ms"))
    for one in candidates:
        table.add_row(
            one.part,
            one.solver,
            one.detail.get("error") or ("won" if one.won else ""),
            f"{1000 * one.objective:.3f}",
            f"{1000 * one.took.ToTimedelta().total_seconds():.0f}",
        )
    return table


def _plans(decision: pb.Decision) -> Table:
    table = _table("plan", ("route", "cluster"), ("proposed", "decided"))
    proposed = {r.route: dict(r.weights) for r in decision.proposed.routes}
    for route in decision.plan.routes:
        for cluster, weight in sorted(route.weights.items()):
            wanted = proposed.get(route.route, {}).get(cluster)
            shown = "-" if wanted is None else f"{wanted:.2%}"
            table.add_row(route.route, cluster, shown, f"{weight:.2%}")
    limits = {c.cluster: c.max_requests for c in decision.proposed.clusters}
    for one in decision.plan.clusters:
        asked = str(limits.get(one.cluster, "-"))
        table.add_row("max_requests", one.cluster, asked, str(one.max_requests))
    return table
