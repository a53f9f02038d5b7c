"""`ctl status`, and the line with which every change is answered."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from eigenmesh.cli.ctl.output import table
from eigenmesh.cli.ctl.views import words
from eigenmesh.cli.ctl.views.plans import weighed
from eigenmesh.v1 import mesh_pb2 as pb


def mesh_view(mesh: pb.Mesh) -> Iterator[RenderableType]:
    yield from standing(mesh)
    yield (
        f"{mesh.connected_nodes} Envoys connected"
        + f"; limits are {mesh.division}" * bool(mesh.division)
    )
    if mesh.HasField("latest_decision"):
        yield latest(mesh.latest_decision)
    yield ""
    yield clusters(mesh)


def standing(mesh: pb.Mesh) -> Iterator[RenderableType]:
    """What may be pushed now, and what people asked for."""
    line = Text.assemble("mesh ", (mesh.id, "bold"), ", mode ", words.mode(mesh.mode))
    if mesh.stopped:
        line.append(", ").append(mesh.stopped, "bold red")
    yield line
    if mesh.pending_decision:
        number = mesh.pending_decision.rpartition("/")[2]
        yield Text(
            f"decision {number} waits: `ctl explain {number}`, then `ctl approve {number}`"
            f" or `ctl reject {number}`",
            "bold yellow",
        )
    yield from asked(mesh.controls)


def asked(controls: pb.Controls) -> Iterator[str]:
    """Over and above the mode: a line for each kind."""
    for kind, modes in (("route", controls.routes), ("cluster", controls.clusters)):
        for name, mode in sorted(modes.items()):
            yield f"{kind} {name}: mode {words.mode(mode)}"
    for route, pins in sorted(controls.pins.items()):
        yield f"route {route}: pinned to {words.weights(pins.weights)}"
    for one in controls.promoted:
        yield f"route {one.route}: {one.cluster} promoted"
    for name, value in sorted(controls.overrides.items()):
        yield f"policy {name}: {value:g} (not as in the settings)"


def latest(decision: pb.Decision) -> Text:
    subject = f"decision {decision.number}" if decision.number else "proposal"
    found = Text(f"{subject}, {words.moment(decision.time)}: ")
    found.append(words.action(decision.action)).append(f": {decision.why}")
    if decision.HasField("check"):
        found.append(f"\ncheck: {decision.check.why}")
    return found


def decision_line(decision: pb.Decision) -> Iterator[RenderableType]:
    yield latest(decision)


def clusters(mesh: pb.Mesh) -> Table:
    """Every steered cluster under the plan in force, as the latest decision saw it."""
    plan, routes = mesh.plan_in_force, weighed(mesh.plan_in_force)
    made = table(
        ("cluster", *(f"weight {r.route}" for r in routes)),
        ("load/s", "mean ms", "p99 ms", "in flight", "limit", "capacity/s", "t0 ms"),
    )
    limits = {c.cluster: c.max_requests for c in plan.clusters}
    states = {c.cluster: c for c in mesh.latest_decision.clusters}
    names = dict.fromkeys((*sorted({c for r in plan.routes for c in r.weights}), *sorted(limits)))
    for name in names:
        s = states.get(name, pb.ClusterState())
        made.add_row(
            name,
            *(f"{r.weights[name]:.1%}" if name in r.weights else "-" for r in routes),
            f"{s.load:.0f}",
            words.milliseconds(s, "mean_seconds"),
            words.milliseconds(s, "p99_seconds"),
            f"{s.in_flight:.0f}",
            str(limits.get(name, "Envoy's")),
            words.capacity(s),
            f"{1000 * s.curve.t0_seconds:.1f}" if s.HasField("curve") else "learning",
        )
    return made
