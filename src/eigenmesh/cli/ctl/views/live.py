"""`ctl watch` on a terminal: the mode and what holds it back on top, then the mesh, then the
decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from eigenmesh.cli.ctl.output import table
from eigenmesh.cli.ctl.views import words
from eigenmesh.cli.ctl.views.mesh import asked
from eigenmesh.cli.ctl.views.plans import weighed
from eigenmesh.v1 import mesh_pb2 as pb

_NEARLY = 0.9
"""Fraction of its limit from which a cluster's requests in flight are red."""
_OTHERS = 16
"""Rows of the screen that are not a cluster's."""


@dataclass
class Watched:
    """What was heard of the mesh. at: unix seconds of the last news. trouble: why none come."""

    mesh: pb.Mesh = field(default_factory=pb.Mesh)
    decisions: Sequence[pb.Decision] = ()
    at: float = 0.0
    trouble: str = ""


def live_view(seen: Watched, now: float, rows: int) -> RenderableType:
    """rows: of the screen; of many clusters the busiest are shown, so that decisions have room."""
    mesh = seen.mesh
    parts: list[RenderableType] = [*_banner(mesh), _news(seen, now)]
    if mesh.pending_decision:
        number = mesh.pending_decision.rpartition("/")[2]
        parts.append(Text(f"decision {number} waits for `ctl approve {number}`", "bold yellow"))
    parts.extend(Text(line, "cyan") for line in asked(mesh.controls))
    decision = mesh.latest_decision
    if decision.HasField("check"):
        parts.append(Text(f"check: {decision.check.why}"))
    parts += ["", *_clusters(mesh, max(rows - _OTHERS, 3)), "", _decisions(seen.decisions, now)]
    return Group(*parts)


def _banner(mesh: pb.Mesh) -> Iterator[RenderableType]:
    mode = words.mode(mesh.mode)
    loud = f"bold reverse {mode.style}".strip()
    yield Text.assemble(("eigenmesh ", "bold"), (mesh.id, "bold"), " ", (f" {mode} ".upper(), loud))
    if mesh.stopped:
        kind, colon, why = mesh.stopped.partition(":")
        yield Padding(Text(f" {kind.upper()}{colon}{why}"), style="bold white on red")


def _news(seen: Watched, now: float) -> Text:
    mesh = seen.mesh
    line = Text(f"{mesh.connected_nodes} Envoys, heard of {_ago(now - seen.at)}, q quits", "dim")
    if seen.trouble:
        line.append(f"  no news: {seen.trouble}", "bold red")
    return line


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0.0):.0f} s ago"


def _clusters(mesh: pb.Mesh, most: int) -> Iterator[RenderableType]:
    plan, routes = mesh.plan_in_force, weighed(mesh.plan_in_force)
    made = table(
        ("cluster", *(f"weight {r.route}" for r in routes)),
        ("share", "seen", "load/s", "mean ms", "p99 ms", "in flight", "limit", "capacity/s"),
    )
    limits = {one.cluster: one.max_requests for one in plan.clusters}
    states = {one.cluster: one for one in mesh.latest_decision.clusters}
    wanted, found = shares(mesh)
    names = {c for r in plan.routes for c in r.weights} | set(limits)
    busiest = sorted(names, key=lambda name: (-found.get(name, 0.0), name))[:most]
    for name in sorted(busiest):
        s = states.get(name, pb.ClusterState())
        limit = limits.get(name, 0)
        full = bool(limit) and s.in_flight >= _NEARLY * limit
        made.add_row(
            name,
            *(f"{r.weights[name]:.1%}" if name in r.weights else "-" for r in routes),
            f"{wanted[name]:.1%}" if name in wanted else "-",
            f"{found[name]:.1%}" if name in found else "no data",
            f"{s.load:.0f}",
            words.milliseconds(s, "mean_seconds"),
            words.milliseconds(s, "p99_seconds"),
            Text(f"{s.in_flight:.0f}", "bold red" if full else ""),
            str(limit or "Envoy's"),
            words.capacity(s),
        )
    yield made
    if len(names) > most:
        yield Text(f"and {len(names) - most} that are less busy: `ctl clusters`", "dim")


def shares(mesh: pb.Mesh) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Of all requests, each cluster's fraction: by the weights in force and the demands seen, and
    as it was in the last window. Empty without traffic."""
    demands = {d.route: d.requests_per_second for d in mesh.latest_decision.demands}
    wanted: dict[str, float] = {}
    for route in mesh.plan_in_force.routes:
        for cluster, weight in route.weights.items():
            wanted[cluster] = wanted.get(cluster, 0.0) + weight * demands.get(route.route, 0.0)
    found = {one.cluster: one.load for one in mesh.latest_decision.clusters}
    return _normalised(wanted), _normalised(found)


def _normalised(parts: Mapping[str, float]) -> Mapping[str, float]:
    whole = sum(parts.values())
    return {name: part / whole for name, part in parts.items()} if whole > 0 else {}


def _decisions(decisions: Sequence[pb.Decision], now: float) -> Table:
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(justify="right")
    made.add_column(justify="right")
    made.add_column()
    made.add_column(no_wrap=True, overflow="ellipsis")
    for one in decisions:
        age = _ago(now - one.time.seconds - one.time.nanos / 1e9)
        made.add_row(str(one.number), age, words.action(one.action), Text(one.why))
    return made
