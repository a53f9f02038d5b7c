"""From an operator's static envoy.yaml to Eigenmesh settings and the bootstrap that joins it.

Pure: documents in, documents out. What Envoy needs before it can ask for anything stays in the
bootstrap; listeners, clusters and secrets move to the settings, from where they are served. An
Envoy that has a control plane keeps it and everything else, and gets a runtime layer (overlay).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eigenmesh.control.joining import client_tls
from eigenmesh.control.settings import Settings, SettingsError, parse_document
from eigenmesh.xds.bootstrap import beside_another, bootstrap
from eigenmesh.xds.client_tls import ClientTls, secret_files

_ADMIN = "127.0.0.1:9901"


@dataclass(frozen=True)
class Adopted:
    """settings, bootstrap: documents to be written. understood: lines for the operator.

    secrets: further files, name -> document, when Envoy is to speak TLS with Eigenmesh.
    """

    settings: dict[str, Any]
    bootstrap: dict[str, Any]
    understood: tuple[str, ...]
    secrets: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def adopt(
    document: Mapping[str, Any],
    *,
    xds_address: str,
    file: str,
    base: Mapping[str, Any] | None = None,
    folder: str = ".",
    envoy: Path | None = None,
) -> Adopted:
    """Splits `document`, a static Envoy v3 bootstrap, or reads one with dynamic resources.

    base: settings that are kept, such as xds.tls and node.tls. folder: where Envoy finds secrets.
    envoy: Envoy's executable or a FileDescriptorSet; the settings refer to it if the document
    uses what is not known here.

    Raises SettingsError, one line per complaint, when its admin port cannot be read, or when a
    resource cannot be served.
    """
    overlay = bool(document.get("dynamic_resources") or document.get("dynamicResources"))
    static = document.get("static_resources", document.get("staticResources"))
    if overlay:
        # What is only read needs no secrets.
        static = {k: v for k, v in (static or {}).items() if k in ("listeners", "clusters")}
    if not isinstance(static, Mapping):
        raise SettingsError([f"{file}: static_resources: missing; nothing here can be served"])
    node = document.get("node") or {}
    admin = _admin_address(document.get("admin"), file)
    base = base or {}
    settings: dict[str, Any] = {
        "mode": "observe",
        "telemetry": {"envoy": {"admin": [f"http://{_reachable(admin)}"]}},
        **base,
        **({"overlay": True} if overlay else {}),
        "xds": {"listen": xds_address, **(base.get("xds") or {})},
        "node": {
            **(base.get("node") or {}),
            "id": node.get("id", "envoy-1"),
            "cluster": node.get("cluster", "edge"),
            "admin": admin,
        },
        "envoy": {"static_resources": dict(static)},
    }
    try:
        checked = parse_document(settings, file)
    except SettingsError:
        if envoy is None:
            raise
        settings["envoy_descriptors"] = str(envoy.absolute())
        checked = parse_document(settings, file)
    tls = client_tls(checked, xds_address=xds_address, folder=folder)
    lines = [*_understood(checked), *_changed(document)]
    return Adopted(
        settings,
        _bootstrap(document, checked, xds_address, tls),
        tuple(lines),
        secret_files(tls) if tls else {},
    )


def _bootstrap(
    document: Mapping[str, Any], settings: Settings, xds_address: str, tls: ClientTls | None
) -> dict[str, Any]:
    node = settings.model.node
    joined = bootstrap(
        node_id=node.id,
        node_cluster=node.cluster,
        xds_address=xds_address,
        admin_address=node.admin,
        runtime_layer=settings.model.runtime_layer,
        tls=tls,
    )
    own = {_snake(k): v for k, v in document.items()}
    static = own.pop("static_resources", None) or {}
    layers = (own.pop("layered_runtime", None) or {}).get("layers")
    if settings.model.overlay:
        joined = {key: joined[key] for key in ("node", "admin")} | beside_another(joined)
    else:
        own.pop("dynamic_resources", None)
    [*before, served] = joined["layered_runtime"]["layers"]
    # Two ways to say when statistics are flushed exclude each other, and Eigenmesh needs its own:
    # otherwise histograms are seconds old when they are read.
    own.pop("stats_flush_interval", None)
    merged = {**joined, **own}
    merged["node"] = {**joined["node"], **(own.get("node") or {})}
    merged["admin"] = own.get("admin") or joined["admin"]
    merged["stats_config"] = _stats_config(joined["stats_config"], own.get("stats_config") or {})
    # The operator's layers first: a later layer wins, and theirs may not know the plan.
    merged["layered_runtime"] = {"layers": [*(layers or before), served]}
    ours = joined["static_resources"]["clusters"]
    if settings.model.overlay:
        clusters = [*ours, *(static.get("clusters") or ())]
        merged["static_resources"] = {**static, "clusters": clusters}
        return merged
    # Envoy wants the clusters that its bootstrap itself speaks to before it can ask for any.
    kept = [c for c in static.get("clusters") or () if c.get("name") in _cluster_names(own)]
    merged["static_resources"] = {"clusters": [*ours, *kept]}
    return merged


def _stats_config(ours: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The operator's, with the tags and the latency buckets that telemetry reads."""
    merged = {_snake(k): v for k, v in own.items()}
    if merged.get("use_all_default_tags") is False:
        del merged["use_all_default_tags"]
    buckets = merged.get("histogram_bucket_settings") or ()
    # The first match counts.
    merged["histogram_bucket_settings"] = [*ours["histogram_bucket_settings"], *buckets]
    return merged


def _changed(document: Mapping[str, Any]) -> list[str]:
    """What of the operator's bootstrap had to give way, and why."""
    own = {_snake(k): v for k, v in document.items()}
    lines = []
    if "stats_flush_interval" in own:
        lines.append("changes: stats_flush_interval: replaced by stats_flush_on_admin: true")
    stats = {_snake(k): v for k, v in (own.get("stats_config") or {}).items()}
    if stats.get("use_all_default_tags") is False:
        lines.append("changes: stats_config.use_all_default_tags: telemetry reads the tags")
    return lines


def _cluster_names(value: Any) -> set[str]:
    """Every cluster that this part of a bootstrap names."""
    found: set[str] = set()
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _snake(str(key)) in _NAMES_A_CLUSTER and isinstance(inner, str):
                found.add(inner)
            else:
                found |= _cluster_names(inner)
    elif isinstance(value, list):
        for inner in value:
            found |= _cluster_names(inner)
    return found


_NAMES_A_CLUSTER = frozenset(
    {"cluster", "cluster_name", "collector_cluster", "local_cluster_name", "tcp_cluster_name"}
)


def _snake(key: str) -> str:
    """Envoy takes fields in both spellings."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: f"_{m[1].lower()}", key)


def _understood(settings: Settings) -> list[str]:
    operator = settings.operator
    plan = operator.original_plan()
    if settings.model.overlay:
        lines = [
            "overlay: this Envoy has a control plane and keeps it; Eigenmesh will serve one "
            f"runtime layer ({settings.model.runtime_layer}) and nothing else"
        ]
        nothing = (
            "add the control plane's weighted routes and their clusters to the settings, "
            "under envoy.routes and envoy.clusters (Envoy's /config_dump has them)"
        )
    else:
        lines = [
            f"understood: {len(operator.clusters)} clusters, {len(operator.tables)} route tables, "
            f"{len(operator.fixed)} resources that no plan changes"
        ]
        nothing = "no route has two or more weighted clusters"
    if (newer := settings.model.envoy_descriptors) is not None:
        lines.append(f"reads: {newer}, for what this Envoy knows and Eigenmesh alone does not")
    for route in settings.topology.routes:
        split = ", ".join(f"{c} {w:.0%}" for c, w in plan.weights[route.name].items())
        lines.append(f"will steer: route {route.name}: {split}")
    lines += [f"leaves alone: {line}" for line in operator.left_alone]
    if not settings.topology.routes:
        lines.append(f"will steer nothing: {nothing}")
    return lines


def _admin_address(admin: Any, file: str) -> str:
    if not admin:
        return _ADMIN
    address = admin.get("address") or {}
    socket = address.get("socket_address", address.get("socketAddress"))
    if not isinstance(socket, Mapping):
        raise SettingsError(
            [
                f"{file}: admin.address: Eigenmesh reads statistics from a TCP admin port; "
                "give socket_address, or use Prometheus in the settings"
            ]
        )
    port = socket.get("port_value", socket.get("portValue"))
    return f"{socket.get('address', '127.0.0.1')}:{port}"


def _reachable(address: str) -> str:
    """Where an admin port that listens everywhere is reached from this machine."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "::", "[::]") else address
