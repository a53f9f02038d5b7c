"""`ctl whatif`: what would be."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from eigenmesh.cli.ctl.output import heading, table
from eigenmesh.cli.ctl.views.explain import candidates_table
from eigenmesh.cli.ctl.views.plans import weighed
from eigenmesh.v1 import mesh_service_pb2 as calls


def whatif_view(found: calls.WhatIfResponse) -> Iterator[RenderableType]:
    demands = ", ".join(f"{route} {rate:.1f}" for route, rate in sorted(found.demands.items()))
    yield f"demand/s: {demands}"
    plan, routes = found.plan, weighed(found.plan)
    limits = {one.cluster: str(one.max_requests) for one in plan.clusters}
    made = table(
        ("cluster", *(f"weight {r.route}" for r in routes)),
        ("limit", "load/s", "capacity/s", "mean ms", "turned away"),
    )
    for name, one in sorted(found.clusters.items()):
        made.add_row(
            name,
            *(f"{r.weights[name]:.1%}" if name in r.weights else "-" for r in routes),
            limits.get(name, "-"),
            f"{one.load:.1f}",
            f"{one.capacity:.0f}",
            f"{1000 * one.latency:.1f}",
            f"{one.blocked:.1%}",
        )
    yield made
    yield heading("then")
    yield _outcomes(found)
    if found.candidates:
        yield heading("candidates")
        yield candidates_table(found.candidates)


def _outcomes(found: calls.WhatIfResponse) -> RenderableType:
    made = table(("under",), ("objective ms", "mean ms"))
    for name, objective, field in (
        ("this plan", found.predicted, "predicted_latency"),
        ("the plan in force", found.incumbent_predicted, "incumbent_predicted_latency"),
    ):
        mean = f"{1000 * getattr(found, field):.2f}" if found.HasField(field) else "overloaded"
        made.add_row(name, f"{1000 * objective:.2f}", mean)
    return made
