"""What was measured over one window, whichever source measured it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Cause(StrEnum):
    """Why a request to an upstream failed."""

    STATUS = "5xx"
    """It said so itself."""
    RESET = "reset"
    """It closed the connection or reset the stream before it had answered."""
    TIMEOUT = "timeout"
    """Envoy gave up waiting for it."""
    CONNECT = "connect"
    """No connection could be made, or no host was healthy."""


@dataclass(frozen=True, slots=True)
class ProxyLoad:
    """One proxy's part of a cluster's load (requests/s) and requests in flight."""

    load: float
    in_flight: float


HOPELESS = 0.9
"""Fraction of failures from which on an upstream is taken not to answer."""
NORMAL = 0.9
"""Fraction of the capacity up to which a load is nothing out of the ordinary."""
SILENT = 20
"""Requests sent in a window in which nothing came back, from which on it hangs."""


@dataclass(frozen=True, slots=True)
class ClusterObservation:
    """One cluster over one window.

    load: requests/s that reached the upstream (breaker-made rejections are not among them).
    throughput: responses/s that came back from it, whatever their status.
    mean: mean latency in seconds of what completed; None when nothing completed.
    quantiles: q -> seconds, from histogram buckets; empty when nothing completed.
    resolutions: q -> width in seconds of the bucket that the quantile lies in: it is known no
        better than that. Infinite in the last bucket, whose lower edge the quantile then is.
    in_flight: requests outstanding at the end of the window, the `pending` ones (which wait for a
        connection) among them. connections: open to the upstream then.
    upstream_errors: responses/s with the upstream's own 5xx, resets and timeouts.
    errors: what they were, in requests/s; see `Cause`.
    breaker_errors: requests/s that the cluster's own breaker rejected (overflow). They say
        nothing about the upstream and are never counted as its failures.
    retries: requests/s that were sent again; the attempt before is an upstream error.
    """

    load: float
    throughput: float
    mean: float | None
    in_flight: float
    quantiles: Mapping[float, float] = field(default_factory=dict)
    upstream_errors: float = 0.0
    breaker_errors: float = 0.0
    retries: float = 0.0
    resolutions: Mapping[float, float] = field(default_factory=dict)
    connections: float = 0.0
    pending: float = 0.0
    errors: Mapping[Cause, float] = field(default_factory=dict)

    def failing(self, window: float, capacity: float) -> float:
        """Fraction of the responses in so many seconds that were failures; as much of it as is no
        chance (two standard deviations less), and all of them when many are sent and nothing comes
        back.

        Timeouts are a matter of load, and so of the curve, unless hardly anything is answered of a
        load that is well below `capacity` (requests/s, as it is known)."""
        count, hangs = self.throughput * window, self.load < NORMAL * capacity
        if count <= 0:
            return 1.0 if hangs and self.load * window >= SILENT else 0.0
        failed = self.upstream_errors
        if not (hangs and failed >= HOPELESS * self.throughput):
            failed -= self.errors.get(Cause.TIMEOUT, 0.0)
        part = min(1.0, max(0.0, failed / self.throughput))
        return max(0.0, part - 2.0 * math.sqrt(part * (1.0 - part) / count))

    @property
    def success_rate(self) -> float:
        """Fraction of the upstream's own responses that were not errors; 1.0 when idle."""
        if self.throughput <= 0:
            return 1.0
        return min(1.0, max(0.0, 1.0 - self.upstream_errors / self.throughput))


@dataclass(frozen=True, slots=True)
class Observation:
    """The mesh over one window that ended at `time` (unix seconds) and lasted `window` seconds.

    demands: requests/s entering each route. A cluster or route without data is absent from
    the mapping and named in `missing` with the reason: no data is not zero.
    proxies: proxy -> cluster -> its part of the sum, also where the sum is not known. nodes: proxy
    -> id of the Envoy's node, where the source can tell. left_out: proxies that are not in the
    sum, since others have taken over their traffic, and why. queries: what was asked of the
    source; source: which server answered, and why not the ones before it.
    """

    time: float
    window: float
    clusters: Mapping[str, ClusterObservation]
    demands: Mapping[str, float]
    missing: Mapping[str, str] = field(default_factory=dict)
    queries: tuple[str, ...] = ()
    proxies: Mapping[str, Mapping[str, ProxyLoad]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    nodes: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.missing

    @property
    def total_demand(self) -> float:
        return sum(self.demands.values())
