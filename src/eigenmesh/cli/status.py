"""`eigenmesh ctl status` as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from eigenmesh.v1 import mesh_pb2 as pb


def show_mesh(mesh: pb.Mesh, nodes: Sequence[pb.Node], console: Console | None = None) -> None:
    """Prints the mesh to standard output; colours are off when it is piped."""
    console = console or Console()
    mode = pb.Mode.Name(mesh.mode).removeprefix("MODE_").lower()
    console.print(f"mesh [bold]{mesh.id}[/bold], mode [bold]{mode}[/bold]")
    decision = mesh.latest_decision if mesh.HasField("latest_decision") else None
    if decision is not None:
        action = pb.Decision.Action.Name(decision.action).removeprefix("ACTION_").lower()
        console.print(f"decision {decision.number}: {action}: {decision.why}", highlight=False)
    console.print(_clusters(mesh, decision))
    if mesh.division:
        console.print(f"limits are {mesh.division}:")
        console.print(_parts(nodes))
    console.print(_nodes(nodes))


def _parts(nodes: Sequence[pb.Node]) -> Table:
    """Every Envoy's part of the clusters' limits."""
    table = Table()
    table.add_column("node")
    granted = {node.id: node.max_requests for node in nodes}
    clusters = sorted({cluster for parts in granted.values() for cluster in parts})
    for cluster in clusters:
        table.add_column(cluster, justify="right")
    for node, parts in granted.items():
        table.add_row(node, *(str(parts[c]) if c in parts else "own" for c in clusters))
    return table


def _clusters(mesh: pb.Mesh, decision: pb.Decision | None) -> Table:
    table = Table(title="clusters", title_justify="left")
    routes = [r.route for r in mesh.plan_in_force.routes]
    for name in ("cluster", *(f"weight {r}" for r in routes)):
        table.add_column(name)
    for name in ("load/s", "mean ms", "p99 ms", "in flight", "limit", "capacity/s", "t0 ms"):
        table.add_column(name, justify="right")
    limits = {c.cluster: c.max_requests for c in mesh.plan_in_force.clusters}
    states = {c.cluster: c for c in decision.clusters} if decision else {}
    names = dict.fromkeys(c for r in mesh.plan_in_force.routes for c in r.weights)
    for name in names:
        weights = [
            f"{r.weights[name]:.1%}" if name in r.weights else "-"
            for r in mesh.plan_in_force.routes
        ]
        s = states.get(name, pb.ClusterState())
        has_curve = s.HasField("curve")
        table.add_row(
            name,
            *weights,
            f"{s.load:.0f}",
            f"{1000 * s.mean_seconds:.1f}" if s.HasField("mean_seconds") else "no data",
            f"{1000 * s.p99_seconds:.1f}" if s.HasField("p99_seconds") else "no data",
            f"{s.in_flight:.0f}",
            str(limits.get(name, "Envoy's")),
            f"{s.curve.capacity:.0f} ±{s.curve.capacity_error:.0%}" if has_curve else "learning",
            f"{1000 * s.curve.t0_seconds:.1f}" if has_curve else "learning",
        )
    return table


def show_nodes(nodes: Sequence[pb.Node], console: Console | None = None) -> None:
    """Every Envoy and type: what it asked for, has been sent, and has accepted."""
    (console or Console()).print(_nodes(nodes))


def _nodes(nodes: Sequence[pb.Node]) -> Table:
    table = Table(title="Envoys", title_justify="left")
    columns = ("node", "cluster", "group", "type", "subscribed", "sent", "ACKed", "state")
    for name in (*columns, "answered"):
        table.add_column(name)
    for node in nodes:
        for s in node.subscriptions:
            table.add_row(
                node.id,
                node.cluster,
                node.group,
                s.type_url.rpartition(".")[2],
                _shorten(s.names),
                s.sent_version,
                s.acked_version,
                _state(s),
                f"{s.answered_ago.ToTimedelta().total_seconds():.0f} s ago"
                if s.HasField("answered_ago")
                else "never",
            )
    return table


def _state(subscription: pb.Subscription) -> str:
    if subscription.nack:
        return f"[red]NACK[/red] ({subscription.nack_count}): {subscription.nack}"
    if subscription.sent_version == subscription.acked_version:
        return "[green]in step[/green]"
    return "waiting for ACK"


def _shorten(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
