"""Curves of clusters that share hosts or make calls, learned by the estimator of single ones.

What the estimator is fed is what a cluster would have shown alone:

- A caller's time without its calls (`mesh.coupling`): the mean latency less, for each call, the
  ratio times the called route's, and as many fewer requests in flight (Little's law).
- On a shared host, the equivalent load l_k + kappa * sum_j l_j T_j / T_k, and as many requests in
  flight, N_k + kappa * sum_j N_j. Where all slow down alike, latencies are in proportion to the
  work, so that T_j / T_k (averaged over windows) is capacity_k / capacity_j. Learned capacities in
  its place would feed on themselves: the more capacity, the more load. On one shared processor
  this is what is on the whole of it, seen in requests of cluster k.

So a neighbour that gets busier moves a cluster along its curve, which is no change of it. Where the
coupling is not told, one estimator runs for each kappa of a grid; how well it foretold every
window's mean latency, before it learned from it, is the evidence for its kappa. (Counts in flight
are left out of that: they differ with kappa, and so does what chance does to them.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eigenmesh.mesh import ClusterObservation, CurveEstimate, Observation, Topology
from eigenmesh.telemetry.estimator import Estimator, Limits, Tuning
from eigenmesh.telemetry.transient import Candidates
from eigenmesh.telemetry.window import TAILS, Window

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Couplings that are tried."""

_MEMORY = 150.0
"""Windows after which the evidence for a coupling counts 1/e: machines are not changed often."""

_SETTLED = 5
"""Windows after which a curve's predictions count as evidence."""

_RATIO_MEMORY = 25.0
_LEAST_OWN = 0.05
"""Share of a caller's latency below which its own time is lost in the noise of the calls'."""

Seen = Mapping[str, ClusterObservation]
Weights = Mapping[str, Mapping[str, float]]


class CoupledEstimator:
    """One curve per cluster, as if it were alone, and the couplings.

    A caller's curve is that of its own time.
    """

    def __init__(self, topology: Topology, tuning: Tuning | None = None) -> None:
        self._told = topology
        self._apart = Estimator(tuning)
        self._hosts = {
            host: _Host(names, GRID if kappa is None else (kappa,), tuning)
            for (host, names), kappa in zip(
                topology.shared_hosts.items(), topology.couplings.values(), strict=True
            )
        }
        self._on_hosts = {name for host in self._hosts.values() for name in host.names}
        self._ratios = {
            (cluster.name, call.route): [0.0, 0.0]
            for cluster in topology.clusters
            for call in cluster.calls
            if call.ratio is None
        }
        """Sums of what was asked of the route and of what the cluster was asked."""
        self.topology = topology
        """With what was learned so far in place of what was not told."""

    @property
    def estimates(self) -> Mapping[str, CurveEstimate]:
        """Cluster -> what was learned; a cluster that nothing is known of is absent."""
        found = {n: e for n, e in self._apart.estimates.items() if n not in self._on_hosts}
        for host in self._hosts.values():
            found |= host.estimates
        return found

    def update(
        self, observation: Observation, weights: Weights, limits: Limits | None = None
    ) -> Mapping[str, CurveEstimate]:
        """Learns from one window, in which these weights (route -> cluster -> fraction) and limits
        (`Estimator.update`) were in force; observations come in the order of time."""
        if self._ratios:
            self._learn_ratios(observation)
        own, noise = own_time(self.topology, observation, weights)
        rest = {n: seen for n, seen in own.items() if n not in self._on_hosts}
        self._apart.update(replace(observation, clusters=rest), noise, limits)
        for host in self._hosts.values():
            host.update(observation, own, noise)
        self._resolve()
        return self.estimates

    def _learn_ratios(self, observation: Observation) -> None:
        keep = math.exp(-1.0 / _RATIO_MEMORY)
        for (caller, route), sums in self._ratios.items():
            demand, seen = observation.demands.get(route), observation.clusters.get(caller)
            if demand is None or seen is None:
                continue
            told = sum(
                call.ratio * observation.clusters[other.name].load
                for other in self._told.clusters
                for call in other.calls
                if call.route == route and call.ratio and other.name in observation.clusters
            )
            sums[0] = keep * sums[0] + max(0.0, demand - told) * observation.window
            sums[1] = keep * sums[1] + seen.load * observation.window

    def _resolve(self) -> None:
        self.topology = self._told.with_learned(
            {name: host.coupling for name, host in self._hosts.items()},
            {key: asked / load for key, (asked, load) in self._ratios.items() if load > 0.0},
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what `from_dict` resumes from."""
        return {
            **self._apart.to_dict(),
            "hosts": {name: host.to_dict() for name, host in self._hosts.items()},
            "ratios": [[*key, *sums] for key, sums in self._ratios.items()],
        }

    @classmethod
    def from_dict(
        cls, topology: Topology, data: Mapping[str, Any], tuning: Tuning | None = None
    ) -> CoupledEstimator:
        """Goes on where `to_dict` stood; a host whose clusters or told coupling are others begins
        anew. Raises KeyError or TypeError for anything else."""
        coupled = cls(topology, tuning)
        coupled._apart = Estimator.from_dict(data, tuning)
        for name, host in data.get("hosts", {}).items():
            if name in coupled._hosts:
                coupled._hosts[name].resume(host, tuning)
        for cluster, route, asked, load in data.get("ratios", []):
            if (cluster, route) in coupled._ratios:
                coupled._ratios[cluster, route] = [asked, load]
        coupled._resolve()
        return coupled


class _Host:
    """One shared host: an estimator of its clusters for every coupling that it may have."""

    def __init__(
        self, names: Sequence[str], kappas: Sequence[float], tuning: Tuning | None
    ) -> None:
        self.names = tuple(names)
        self.kappas = tuple(kappas)
        self._stories = [Estimator(tuning) for _ in kappas]
        self._evidence = np.zeros(len(kappas))
        self._took: dict[str, float] = {}
        """Mean latency in seconds of each cluster, averaged over the same windows."""

    @property
    def coupling(self) -> float:
        """Of the grid, the one nearest to the mean of what is probable."""
        return self.kappas[self._best()]

    @property
    def estimates(self) -> Mapping[str, CurveEstimate]:
        return self._stories[self._best()].estimates

    def _best(self) -> int:
        probable = np.exp(self._evidence - self._evidence.max())
        mean = float(probable @ np.array(self.kappas) / probable.sum())
        return min(range(len(self.kappas)), key=lambda i: abs(self.kappas[i] - mean))

    def update(self, observation: Observation, own: Seen, noise: Mapping[str, float]) -> None:
        self._evidence *= math.exp(-1.0 / _MEMORY)
        here = {name: own[name] for name in self.names if name in own}
        self._remember(here)
        for i, (kappa, story) in enumerate(zip(self.kappas, self._stories, strict=True)):
            seen = equivalent(here, kappa, self._took)
            few = {n: _few(here[n], seen[n], observation.window, noise.get(n, 0.0)) for n in seen}
            if len(self.kappas) > 1:
                self._evidence[i] += sum(
                    _foretold(story.estimates[n], seen[n], observation.window, few[n])
                    for n in seen
                    if n in story.estimates
                )
            story.update(replace(observation, clusters=seen), few)

    def _remember(self, here: Seen) -> None:
        means = {name: seen.mean for name, seen in here.items() if seen.mean}
        if len(means) < len(self.names):
            return  # not the same windows for all: their ratio would say little
        keep = math.exp(-1.0 / _RATIO_MEMORY) if self._took else 0.0
        for name, mean in means.items():
            # Of logarithms: a window of overload counts no more than another.
            before = math.log(self._took.get(name, mean))
            self._took[name] = math.exp(keep * before + (1.0 - keep) * math.log(mean))

    def to_dict(self) -> dict[str, Any]:
        return {
            "took": self._took,
            "names": list(self.names),
            "kappas": list(self.kappas),
            "evidence": self._evidence.tolist(),
            "stories": [story.to_dict() for story in self._stories],
        }

    def resume(self, data: Mapping[str, Any], tuning: Tuning | None) -> None:
        if (tuple(data["names"]), tuple(data["kappas"])) != (self.names, self.kappas):
            return
        self._took = dict(data["took"])
        self._evidence = np.array(data["evidence"])
        self._stories = [Estimator.from_dict(story, tuning) for story in data["stories"]]


def own_time(
    topology: Topology, observation: Observation, weights: Weights
) -> tuple[dict[str, ClusterObservation], dict[str, float]]:
    """What callers show without their calls, and the relative error that this leaves.

    A caller is left out where a called route's latency is not known, or where nothing is left of
    its own. Quantiles of its own time are not known.
    """
    clusters, noise = dict(observation.clusters), {}
    for name, seen in observation.clusters.items():
        calls = topology.by_name[name].calls if name in topology.by_name else ()
        if not calls or seen.mean is None:
            continue
        latencies = [_latency(observation, weights.get(call.route, {})) for call in calls]
        waits = [
            (call.ratio or 0.0) * latency
            for call, latency in zip(calls, latencies, strict=True)
            if latency is not None
        ]
        own = seen.mean - sum(waits)
        if len(waits) < len(calls) or own < _LEAST_OWN * seen.mean:
            del clusters[name]
            continue
        counted = max(seen.throughput * observation.window, 1.0)
        spread = (seen.mean**2 - own**2 + sum(wait**2 for wait in waits)) / counted
        noise[name] = math.sqrt(max(spread, 0.0)) / own
        share = own / seen.mean
        clusters[name] = replace(
            seen, mean=own, in_flight=share * seen.in_flight, quantiles={}, resolutions={}
        )
    return clusters, noise


def _latency(observation: Observation, split: Mapping[str, float]) -> float | None:
    """Mean latency in seconds of a route with this split; None when nothing is known of it."""
    known = [
        (weight, observation.clusters[name].mean)
        for name, weight in split.items()
        if weight > 0.0 and name in observation.clusters
    ]
    means = [(weight, mean) for weight, mean in known if mean is not None]
    total = sum(weight for weight, _ in means)
    return sum(weight * mean for weight, mean in means) / total if total > 0.0 else None


def equivalent(
    seen: Seen, kappa: float, took: Mapping[str, float]
) -> dict[str, ClusterObservation]:
    """What the clusters of one host would have shown alone, at their equivalent loads.

    took: mean latency in seconds of each cluster over the same time; while one is not known, they
    are taken as they are.
    """
    if kappa == 0.0 or any(name not in took for name in seen):
        return dict(seen)
    alone = {}
    for name, one in seen.items():
        load, throughput, in_flight = one.load, one.throughput, one.in_flight
        # A cluster without traffic shows nothing of itself.
        others = [n for n in seen if n != name] if load > 0.0 or throughput > 0.0 else []
        for other in others:
            share = kappa * took[other] / took[name]
            load += share * seen[other].load
            throughput += share * seen[other].throughput
            in_flight += kappa * seen[other].in_flight
        alone[name] = replace(one, load=load, throughput=throughput, in_flight=in_flight)
    return alone


def _few(own: ClusterObservation, alone: ClusterObservation, window: float, noise: float) -> float:
    """Relative error of the mean: it averages the cluster's own requests, not the host's."""
    if own.throughput <= 0.0:
        return noise
    more = (1.0 / own.throughput - 1.0 / max(alone.throughput, own.throughput)) / window
    return math.sqrt(noise * noise + more)


def _foretold(
    estimate: CurveEstimate, seen: ClusterObservation, seconds: float, noise: float
) -> float:
    """Log probability density of a window's mean latency, but for a constant."""
    if seen.mean is None or estimate.windows < _SETTLED:
        return 0.0
    curve = Candidates(np.array([estimate.curve.t0]), np.array([estimate.curve.capacity]))
    window = Window(seconds, seen.load, seen.throughput, seen.mean, seen.in_flight)
    told = curve.predict(window.start, seen.load, seconds, window.completions, noise)
    mean, spread = float(told.mean[0]), float(told.mean_spread[0])
    z = (math.log(seen.mean) - mean) / spread
    return -0.5 * (TAILS + 1.0) * math.log1p(z * z / TAILS) - math.log(spread)
