"""The proto's values in words and figures."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from eigenmesh.v1 import mesh_pb2 as pb

_MODES = {pb.MODE_OBSERVE: "yellow", pb.MODE_APPROVE: "cyan", pb.MODE_AUTO: "green"}
_ACTIONS = {
    pb.Decision.ACTION_PUSH: "green",
    pb.Decision.ACTION_RECOMMEND: "cyan",
    pb.Decision.ACTION_AWAIT: "bold yellow",
    pb.Decision.ACTION_ROLLBACK: "bold red",
}


def mode(value: pb.Mode) -> Text:
    return Text(_plain(pb.Mode.Name(value), "MODE_"), _MODES.get(value, ""))


def action(value: pb.Decision.Action) -> Text:
    return Text(_plain(pb.Decision.Action.Name(value), "ACTION_"), _ACTIONS.get(value, ""))


def _plain(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def milliseconds(of: pb.ClusterState, field: str) -> str:
    return f"{1000 * getattr(of, field):.1f}" if of.HasField(field) else "no data"


def capacity(state: pb.ClusterState) -> str:
    curve = state.curve
    known = state.HasField("curve")
    return f"{curve.capacity:.0f} ±{curve.capacity_error:.0%}" if known else "learning"


def weights(split: Mapping[str, float]) -> str:
    return ", ".join(f"{cluster} {weight:.1%}" for cluster, weight in sorted(split.items()))


def moment(time: Timestamp) -> str:
    """UTC, to the second."""
    return f"{time.ToDatetime():%Y-%m-%dT%H:%M:%SZ}"
