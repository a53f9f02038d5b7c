"""What Envoy itself says, read from its admin API while the demo runs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence

from eigenmesh.demo.processes import EnvoyProcess

_LIMIT = re.compile(r"^(.+)::default_priority::max_requests::(\d+)$", re.MULTILINE)

HARM = (
    r"^cluster\.({clusters})\.(upstream_cx_destroy_local_with_active_rq"
    r"|upstream_cx_destroy_remote_with_active_rq|upstream_cx_connect_fail"
    r"|upstream_rq_rx_reset|upstream_rq_tx_reset)$"
    r"|^http\.ingress\.(downstream_cx_destroy_local_active_rq|no_route|no_cluster)$"
    r"|update_rejected$|^runtime\.load_error$"
)
"""Counters that grow when a push breaks a request or is refused. A pushed change that made Envoy
drop a connection in use, route to nothing, or refuse the update would show in one of them."""


async def harm(envoy: EnvoyProcess, clusters: Sequence[str]) -> dict[str, int]:
    """The counters of `HARM`, for the steered clusters."""
    pattern = HARM.format(clusters="|".join(map(re.escape, clusters)))
    return await asyncio.to_thread(envoy.stats, pattern)


class LiveProbe:
    """Effective breaker limits, loads and in-flight requests of the steered clusters."""

    def __init__(self, envoy: EnvoyProcess, clusters: Sequence[str]) -> None:
        self._envoy = envoy
        self._clusters = tuple(clusters)
        names = "|".join(map(re.escape, clusters))
        self._filter = rf"^cluster\.({names})\.upstream_rq_(active|total)$"
        self._last: tuple[float, Mapping[str, int]] | None = None

    async def read(self) -> tuple[dict[str, int], dict[str, float], dict[str, int]]:
        """Limits (max_requests), loads (requests/s since the last read) and in-flight requests
        by cluster. Raises OSError or ProcessError when Envoy does not answer."""
        text, stats = await asyncio.gather(
            asyncio.to_thread(self._envoy.admin, "/clusters"),
            asyncio.to_thread(self._envoy.stats, self._filter),
        )
        found = {name: int(limit) for name, limit in _LIMIT.findall(text)}
        now = time.monotonic()
        totals = {c: stats.get(f"cluster.{c}.upstream_rq_total", 0) for c in self._clusters}
        loads = dict.fromkeys(self._clusters, 0.0)
        if self._last is not None:
            then, before = self._last
            loads = {c: (totals[c] - before[c]) / max(now - then, 1e-3) for c in totals}
        self._last = now, totals
        active = {c: stats.get(f"cluster.{c}.upstream_rq_active", 0) for c in self._clusters}
        return {c: found[c] for c in self._clusters if c in found}, loads, active
