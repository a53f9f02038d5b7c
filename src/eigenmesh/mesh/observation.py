"""What was measured over one window, whichever source measured it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ClusterObservation:
    """One cluster over one window.

    load: requests/s that reached the upstream (breaker-made rejections are not among them).
    throughput: responses/s that came back from it, whatever their status.
    mean: mean latency in seconds of what completed; None when nothing completed.
    quantiles: q -> seconds, from histogram buckets; empty when nothing completed.
    in_flight: requests outstanding at the end of the window.
    upstream_errors: responses/s with the upstream's own 5xx, resets and timeouts.
    breaker_errors: requests/s that the cluster's own breaker rejected (overflow). They say
        nothing about the upstream and are never counted as its failures.
    """

    load: float
    throughput: float
    mean: float | None
    in_flight: float
    quantiles: Mapping[float, float] = field(default_factory=dict)
    upstream_errors: float = 0.0
    breaker_errors: float = 0.0
    retries: float = 0.0

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
    """

    time: float
    window: float
    clusters: Mapping[str, ClusterObservation]
    demands: Mapping[str, float]
    missing: Mapping[str, str] = field(default_factory=dict)
    queries: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.missing

    @property
    def total_demand(self) -> float:
        return sum(self.demands.values())
