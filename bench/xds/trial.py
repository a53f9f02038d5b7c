"""One trial: a fresh server, fresh clients, and what is measured of them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from bench.xds.child import Child
from bench.xds.scene import Shape

SERVERS = {"floor": "floor", "eigenmesh": "subject"}
"""Name -> module."""

FLEET_SHAPE = Shape()
CONNECT_TIMEOUT = 60.0
PUSH_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Case:
    """streams: of well-behaved clients, spread over `processes`. at_once: how many may be
    connecting at a time, in all. stalled: clients that never read, added for a second round of
    pushes. node_always: the clients repeat their node in every request. settling: seconds
    between the last connection and the measurement of memory.
    """

    name: str
    streams: int
    shape: Shape = FLEET_SHAPE
    pushes: int = 5
    stalled: int = 0
    processes: int = 2
    at_once: int = 32
    node_always: bool = False
    settling: float = 1.0


def run(case: Case, server: str) -> dict[str, Any]:
    """Everything measured, seconds and bytes. Raises ChildError."""
    rounds = 2 if case.stalled else 1
    arguments = [*case.shape.arguments(), "--pushes", str(1 + rounds * case.pushes)]
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        child = stack.enter_context(Child(SERVERS[server], *arguments))
        processes = min(case.processes, case.streams)
        clients = [stack.enter_context(Child("clients")) for _ in range(processes)]
        ready = child.answer()
        for client in clients:
            client.call("usage")  # It is there, with all its imports.
        address = f"127.0.0.1:{ready.pop('port')}"
        before = child.call("usage")
        connecting = _connect(case, clients, address)
        time.sleep(case.settling)
        after = child.call("usage")
        _push(child, clients, case.streams)  # The first is not like the others.
        result = {
            "case": {**asdict(case), "name": case.name},
            "server": server,
            "load_average": load,
            "ready": ready,
            "connect": connecting | {"cpu": after["cpu"] - before["cpu"]},
            "memory": {
                "before": before["rss"],
                "idle": after["rss"],
                "per_stream": (after["rss"] - before["rss"]) / case.streams,
            },
            "pushes": [_push(child, clients, case.streams) for _ in range(case.pushes)],
        }
        if case.stalled:
            lazy = stack.enter_context(Child("clients"))
            lazy.call("stall", address=address, streams=case.stalled)
            result["stalled_pushes"] = [
                _push(child, clients, case.streams) for _ in range(case.pushes)
            ]
            result["stalled_ends"] = lazy.call("stalled")
        result["memory"]["after_pushes"] = child.call("usage")["rss"]
        return result


def complete(result: dict[str, Any]) -> bool:
    """No stream was lost, and every one has ACKed one and the same table of every push."""
    streams = result["case"]["streams"]
    pushes = [*result["pushes"], *result.get("stalled_pushes", ())]
    return not result["connect"]["errors"] and all(
        p["missing"] == 0 and p["acks"] == streams and p["versions"] == 1 for p in pushes
    )


def _connect(case: Case, clients: Sequence[Child], address: str) -> dict[str, Any]:
    """total: from the first to the last. seconds_*: of each stream."""
    for number, client in enumerate(clients):
        client.ask(
            "connect",
            address=address,
            name=f"envoy-{number}",
            streams=_share(case.streams, len(clients), number),
            at_once=max(1, _share(case.at_once, len(clients), number)),
            within=CONNECT_TIMEOUT,
            node_always=case.node_always,
        )
    answers = [client.answer() for client in clients]
    begun = min(a["begun"] for a in answers)
    return {
        "total": max(a["begun"] + a["total"] for a in answers) - begun,
        **_spread("seconds", [s for a in answers for s in a["seconds"]]),
        "errors": [e for a in answers for e in a["errors"]],
    }


def _push(child: Child, clients: Sequence[Child], streams: int) -> dict[str, Any]:
    """received_*, acked_*: seconds after the change began, over the streams."""
    for client in clients:
        client.call("expect")
    used = sum(client.call("usage")["cpu"] for client in clients)
    pushed = child.call("push", expected=streams)
    for client in clients:
        client.ask("collect", within=PUSH_TIMEOUT)
    answers = [client.answer() for client in clients]
    settled = child.call("settle", within=5.0)
    used = sum(client.call("usage")["cpu"] for client in clients) - used
    start = pushed.pop("started")
    return {
        **pushed,
        **settled,
        **_spread("received", [t - start for a in answers for t in a["received"]]),
        **_spread("acked", [t - start for a in answers for t in a["acked"]]),
        "versions": len({v for a in answers for v in a["versions"]}),
        "bytes": max((size for a in answers for size in a["sizes"]), default=0),
        "missing": sum(a["missing"] for a in answers),
        "errors": sorted({e for a in answers for e in a["errors"]}),
        "client_cpu": used,
    }


def _share(total: int, parts: int, number: int) -> int:
    return total // parts + (number < total % parts)


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Median, 99th percentile and maximum (nearest rank); None without values."""
    ordered = sorted(values)

    def rank(quantile: float) -> float | None:
        return ordered[math.ceil(quantile * len(ordered)) - 1] if ordered else None

    return {f"{name}_p50": rank(0.5), f"{name}_p99": rank(0.99), f"{name}_max": rank(1.0)}
