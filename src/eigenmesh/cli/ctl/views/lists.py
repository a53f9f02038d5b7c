"""The lists: Envoys, routes, clusters, decisions, who asked for what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from google.protobuf.json_format import MessageToDict
from rich.console import RenderableType
from rich.text import Text

from eigenmesh.cli.ctl.output import heading, table
from eigenmesh.cli.ctl.views import words
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import mesh_service_pb2 as calls


def nodes_view(found: calls.ListNodesResponse) -> Iterator[RenderableType]:
    """Every Envoy and type: what it asked for, has been sent, and has accepted."""
    made = table(
        ("node", "cluster", "group", "type", "subscribed", "sent", "ACKed", "state", "answered")
    )
    for node in found.nodes:
        for s in node.subscriptions:
            made.add_row(
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
    yield made


def _state(subscription: pb.Subscription) -> Text:
    if subscription.nack:
        return Text.assemble(("NACK", "red"), f" ({subscription.nack_count}): {subscription.nack}")
    if subscription.sent_version == subscription.acked_version:
        return Text("in step", "green")
    return Text("waiting for ACK")


def _shorten(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def routes_view(found: calls.ListRoutesResponse) -> Iterator[RenderableType]:
    """A row for each cluster of each route."""
    made = table(("route", "mode"), ("demand/s",), ("cluster", "weight", "held by"))
    for route in found.routes:
        demand = f"{route.demand:.1f}" if route.HasField("demand") else "no data"
        for cluster, weight in sorted(route.weights.items()):
            held = []
            if cluster in route.pins:
                held.append(f"pinned to {route.pins[cluster]:.1%}")
            if cluster in route.canaries:
                held.append(f"canary, at most {route.canaries[cluster]:.1%}")
            made.add_row(
                route.id,
                words.mode(route.mode),
                demand,
                cluster,
                f"{weight:.1%}",
                ", ".join(held),
            )
    yield made
    yield from (f"no data: {r.id}: {r.missing}" for r in found.routes if r.missing)


def clusters_view(found: calls.ListClustersResponse) -> Iterator[RenderableType]:
    """What was observed, learned and set; then each Envoy's part of the limits."""
    made = table(
        ("cluster", "mode"),
        ("load/s", "mean ms", "p99 ms", "errors/s", "in flight", "limit", "capacity/s", "t0 ms"),
        ("host", "weights"),
    )
    for cluster in found.clusters:
        s = cluster.state
        limit = str(cluster.limits.max_requests) if cluster.HasField("limits") else "Envoy's"
        made.add_row(
            cluster.id,
            words.mode(cluster.mode),
            f"{s.load:.1f}",
            words.milliseconds(s, "mean_seconds"),
            words.milliseconds(s, "p99_seconds"),
            f"{s.upstream_errors:.1f}",
            f"{s.in_flight:.0f}",
            "adaptive" if cluster.adaptive else limit,
            words.capacity(s),
            f"{1000 * s.curve.t0_seconds:.1f}" if s.HasField("curve") else "learning",
            cluster.host,
            words.weights(cluster.weights),
        )
    yield made
    nodes = sorted({node for cluster in found.clusters for node in cluster.max_requests})
    if nodes:
        yield heading("parts of the limits")
        parts = table(("node",), (c.id for c in found.clusters))
        for node in nodes:
            parts.add_row(node, *(str(c.max_requests.get(node, "own")) for c in found.clusters))
        yield parts
    yield from (f"no data: {c.id}: {c.missing}" for c in found.clusters if c.missing)


def decisions_view(found: calls.ListDecisionsResponse) -> Iterator[RenderableType]:
    made = table((), ("number",), ("time", "action", "why"))
    for one in found.decisions:
        made.add_row(str(one.number), words.moment(one.time), words.action(one.action), one.why)
    yield made


def audit_view(found: calls.ListAuditEntriesResponse) -> Iterator[RenderableType]:
    made = table((), ("number",), ("time", "who", "action", "what", "outcome"))
    for one in found.audit_entries:
        made.add_row(
            str(one.number),
            words.moment(one.time),
            one.who,
            one.action,
            json.dumps(MessageToDict(one.detail), ensure_ascii=False, sort_keys=True),
            Text(one.outcome, "" if one.outcome == "ok" else "red"),
        )
    yield made
