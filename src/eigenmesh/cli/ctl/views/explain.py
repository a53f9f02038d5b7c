"""`ctl explain`: everything that a decision rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table

from eigenmesh.cli.ctl.output import heading, table
from eigenmesh.cli.ctl.views.mesh import latest
from eigenmesh.cli.ctl.views.plans import plans_table
from eigenmesh.v1 import mesh_pb2 as pb


def decision_view(decision: pb.Decision) -> Iterator[RenderableType]:
    yield latest(decision)
    if decision.HasField("observed_at"):
        age = (decision.time.ToDatetime() - decision.observed_at.ToDatetime()).total_seconds()
        window = decision.window.ToTimedelta().total_seconds()
        yield f"data: a window of {window:.1f} s that ended {age:.1f} s before"
    if decision.source:
        yield f"from: {decision.source}"
    yield from (f"query: {query}" for query in decision.queries)
    yield from (f"left out: {name}: {why}" for name, why in sorted(decision.left_out.items()))
    yield from (f"no data: {name}: {why}" for name, why in sorted(decision.missing.items()))
    if decision.demands:
        demands = ", ".join(f"{d.route} {d.requests_per_second:.1f}" for d in decision.demands)
        yield f"demand/s: {demands}"
    if decision.clusters:
        yield heading("seen (quantiles in the width of their bucket)")
        yield _clusters(decision.clusters)
        yield heading("curves")
        yield _curves(decision.clusters)
    if decision.couplings:
        known = ", ".join(
            f"{name} {value:.2f}" for name, value in sorted(decision.couplings.items())
        )
        yield f"coupling: {known}"
    if len({one.proxy for one in decision.proxies}) > 1:
        yield heading("proxies")
        yield _proxies(decision.proxies)
    if decision.candidates:
        yield heading("candidates")
        yield candidates_table(decision.candidates)
    yield heading("plan")
    yield plans_table({"proposed": decision.proposed, "decided": decision.plan})
    for cut in decision.cuts:
        yield f"cut by {cut.rule}: {cut.subject}: {cut.proposed:.4g} to {cut.allowed:.4g}"
    if decision.HasField("predicted") and decision.HasField("incumbent_predicted"):
        yield (
            f"objective: {1000 * decision.predicted:.2f} ms proposed, "
            f"{1000 * decision.incumbent_predicted:.2f} ms in force"
        )


def _clusters(states: Iterable[pb.ClusterState]) -> Table:
    figures = ("load/s", "mean ms", "p50 ms", "p90 ms", "p99 ms", "in flight", "pending")
    errors = ("connections", "retries/s", "breaker/s", "errors/s")
    made = table(("cluster",), (*figures, *errors))
    for s in states:
        found = {round(one.q, 6): _quantile(one) for one in s.quantiles}
        causes = ", ".join(
            f"{cause} {rate:.1f}" for cause, rate in sorted(s.errors.items()) if rate
        )
        made.add_row(
            s.cluster,
            f"{s.load:.1f}",
            f"{1000 * s.mean_seconds:.1f}" if s.HasField("mean_seconds") else "no data",
            *(found.get(q, "no data") for q in (0.5, 0.9, 0.99)),
            *(f"{value:.0f}" for value in (s.in_flight, s.pending, s.connections)),
            *(f"{value:.1f}" for value in (s.retries, s.breaker_errors)),
            causes or "0",
        )
    return made


def _quantile(one: pb.Quantile) -> str:
    if one.resolution_seconds == float("inf"):
        return f"over {1000 * one.seconds:.0f}"
    return f"{1000 * one.seconds:.1f} in {1000 * one.resolution_seconds:.0f}"


def _curves(states: Iterable[pb.ClusterState]) -> Table:
    made = table(("cluster",), ("t0 ms", "capacity/s", "changed"))
    for s in states:
        if not s.HasField("curve"):
            made.add_row(s.cluster, "learning", "learning", "")
            continue
        changed = s.curve.changed_at.ToJsonString() if s.curve.HasField("changed_at") else "never"
        made.add_row(
            s.cluster,
            f"{1000 * s.curve.t0_seconds:.1f} ±{s.curve.t0_error:.0%}",
            f"{s.curve.capacity:.0f} ±{s.curve.capacity_error:.0%}",
            changed,
        )
    return made


def _proxies(loads: Iterable[pb.ProxyLoad]) -> Table:
    made = table(("proxy", "cluster"), ("load/s", "in flight"))
    for one in loads:
        made.add_row(one.proxy, one.cluster, f"{one.load:.1f}", f"{one.in_flight:.0f}")
    return made


def candidates_table(candidates: Iterable[pb.Candidate]) -> Table:
    made = table(("part", "solver", ""), ("objective ms", "took ms"))
    for one in candidates:
        made.add_row(
            one.part,
            one.solver,
            one.detail.get("error") or ("won" if one.won else ""),
            f"{1000 * one.objective:.3f}",
            f"{1000 * one.took.ToTimedelta().total_seconds():.0f}",
        )
    return made
