"""Plans beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from eigenmesh.cli.ctl.output import table
from eigenmesh.v1 import mesh_pb2 as pb

_MOST = 5
"""Routes that have room beside each other."""


def weighed(plan: pb.Plan) -> Sequence[pb.RouteWeights]:
    """The routes whose weights are columns of a table; of more, `ctl routes` has a row for each."""
    return plan.routes if len(plan.routes) <= _MOST else ()


def plans_table(plans: Mapping[str, pb.Plan]) -> Table:
    """A row for each weight and limit of the last plan, a column for each plan."""
    made = table(("route", "cluster"), plans)
    splits = [{r.route: r.weights for r in plan.routes} for plan in plans.values()]
    for route, split in splits[-1].items():
        for cluster in sorted(split):
            shares = [known[route].get(cluster) if route in known else None for known in splits]
            made.add_row(route, cluster, *("-" if s is None else f"{s:.2%}" for s in shares))
    limits = [{c.cluster: c.max_requests for c in plan.clusters} for plan in plans.values()]
    for cluster in limits[-1]:
        made.add_row("max_requests", cluster, *(str(one.get(cluster, "-")) for one in limits))
    return made
