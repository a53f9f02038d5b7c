"""The published adaptive rule, as a baseline: a limit that follows the p95 of what it admits.

    alpha <- p alpha + (1 - p) p95 / limit        limit <- target / alpha

once every period of 5 s for every cluster. It takes the p95 for proportional to the limit and
alpha for the factor. Its fixed point is p95 = target; below the target the limit grows by
1 / (p + (1 - p) p95 / target) a period, above it falls likewise. It begins at the loose static
limit, at which it is not handicapped by a long way down from 1024.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from eigenmesh.demo.processes import EnvoyProcess, ProcessError
from eigenmesh.telemetry.exposition import parse_series, samples
from eigenmesh.telemetry.histogram import quantile

PERIOD = 5.0
"""Seconds."""

MOST = 1024
_PAGE = "/stats/prometheus?filter=upstream_rq_time"
_BUCKET = "envoy_cluster_upstream_rq_time_bucket"

Buckets = dict[str, dict[float, float]]
"""cluster -> upper bound (ms) -> how many answers so far"""


@dataclass(frozen=True)
class Rule:
    """The state for one cluster. alpha: seconds per request in flight; target: seconds."""

    alpha: float
    smoothing: float
    target: float

    @classmethod
    def at(cls, limit: float, smoothing: float, target: float) -> Rule:
        return cls(target / limit, smoothing, target)

    @property
    def limit(self) -> float:
        return self.target / self.alpha

    def after(self, p95: float) -> Rule:
        """The state after a period in which the p95 was so many seconds."""
        alpha = self.smoothing * self.alpha + (1.0 - self.smoothing) * p95 / self.limit
        # Envoy's own default bounds it above, one request below.
        alpha = min(max(alpha, self.target / MOST), self.target)
        return Rule(alpha, self.smoothing, self.target)


class RuleController:
    """Moves the limits of one Envoy through its admin endpoint, for ever."""

    def __init__(self, envoy: EnvoyProcess, rules: Mapping[str, Rule]) -> None:
        self._envoy = envoy
        self._rules = dict(rules)
        self._last: Buckets | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            with contextlib.suppress(OSError, ProcessError):
                await asyncio.to_thread(self.step)
            due += PERIOD
            await asyncio.sleep(max(0.0, due - loop.time()))

    def step(self) -> None:
        """One period's end. A cluster that answered nothing keeps its limit."""
        now, before = self._read(), self._last
        self._last = now
        for name, rule in self._rules.items():
            if before is not None:
                grown = {le: n - before[name].get(le, 0.0) for le, n in now[name].items()}
                if found := quantile(grown, 0.95):
                    self._rules[name] = rule.after(found.value)
        query = "&".join(
            f"circuit_breakers.{name}.default.max_requests={max(1, round(rule.limit))}"
            for name, rule in self._rules.items()
        )
        self._envoy.admin(f"/runtime_modify?{query}", method="POST")

    def _read(self) -> Buckets:
        # The first request starts the merge of the histograms, the second one is answered with it.
        self._envoy.admin(_PAGE)
        found: Buckets = {name: {} for name in self._rules}
        for series, value in samples(self._envoy.admin(_PAGE)):
            name, labels = parse_series(series)
            if name == _BUCKET and (cluster := labels["envoy_cluster_name"]) in found:
                found[cluster][float(labels["le"])] = value
        return found
