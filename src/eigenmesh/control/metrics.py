"""Eigenmesh's own metrics. One registry per process part, so that tests do not share them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from eigenmesh import __version__
from eigenmesh.mesh import Check, Decision, Plan, Topology

MOST_GRANTS = 500
"""Series of single proxies' limits; a larger fleet has none, since nodes are not ours to bound."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Labels are bounded by the operator's own routes and clusters, solvers and xDS types."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        Info("eigenmesh_build", "Version of Eigenmesh", registry=registry).info(
            {"version": __version__}
        )
        self.decisions = Counter(
            "eigenmesh_decisions", "Decisions made, by what was done", ["action"], registry=registry
        )
        self.tick_seconds = Histogram(
            "eigenmesh_tick_seconds",
            "Time from observing to pushing",
            buckets=_SECONDS,
            registry=registry,
        )
        self.solver_seconds = Histogram(
            "eigenmesh_solver_seconds",
            "Time that one solver took for its part of a plan",
            ["part", "solver"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.solver_wins = Counter(
            "eigenmesh_solver_wins",
            "How often a solver's part of the plan was the better one",
            ["part", "solver"],
            registry=registry,
        )
        self.solver_errors = Counter(
            "eigenmesh_solver_errors",
            "Parts of a plan for which this solver had no answer, and another one's was taken",
            ["part", "solver"],
            registry=registry,
        )
        self.solver_failures = Counter(
            "eigenmesh_solver_failures",
            "Ticks on which the solver worker failed and nothing was moved",
            registry=registry,
        )
        self.missing = Gauge(
            "eigenmesh_observation_missing",
            "Clusters and routes without data in the last window",
            registry=registry,
        )
        self.load = Gauge(
            "eigenmesh_cluster_load_requests_per_second",
            "Requests/s that reached the cluster in the last window",
            ["cluster"],
            registry=registry,
        )
        self.latency = Gauge(
            "eigenmesh_cluster_latency_seconds",
            "Mean latency of the cluster in the last window",
            ["cluster"],
            registry=registry,
        )
        self.capacity = Gauge(
            "eigenmesh_cluster_capacity_requests_per_second",
            "Learned load at which the cluster's latency diverges",
            ["cluster"],
            registry=registry,
        )
        self.t0 = Gauge(
            "eigenmesh_cluster_unloaded_latency_seconds",
            "Learned latency of the cluster at no load",
            ["cluster"],
            registry=registry,
        )
        self.weight = Gauge(
            "eigenmesh_route_weight",
            "Weight in force (fraction of the route's traffic)",
            ["route", "cluster"],
            registry=registry,
        )
        self.limit = Gauge(
            "eigenmesh_breaker_max_requests",
            "Circuit-breaker limit in force, over all proxies together (requests in flight)",
            ["cluster"],
            registry=registry,
        )
        self.grant = Gauge(
            "eigenmesh_proxy_max_requests",
            "One proxy's part of a cluster's limit (requests in flight); absent in large fleets",
            ["node", "cluster"],
            registry=registry,
        )
        self.storm = Gauge(
            "eigenmesh_retry_storm",
            "1 while a retry storm is seen and damped on the cluster (in observe: seen)",
            ["cluster"],
            registry=registry,
        )
        self.fast_limit = Gauge(
            "eigenmesh_fast_guard_max_requests",
            "Limit that the fast guard has in force in place of the plan's (requests in flight); "
            "absent where it has none",
            ["cluster"],
            registry=registry,
        )
        self.fast_cuts = Counter(
            "eigenmesh_fast_guard_cuts",
            "How often the fast guard lowered the cluster's limit between two decisions",
            ["cluster"],
            registry=registry,
        )
        self.rollbacks = Counter(
            "eigenmesh_rollbacks",
            "Plans that did not keep their promise and were rolled back",
            registry=registry,
        )
        self.objective = Gauge(
            "eigenmesh_objective_seconds",
            "Objective of the plan and of the incumbent at the last decision",
            ["plan"],
            registry=registry,
        )
        self.xds_events = Counter(
            "eigenmesh_xds_events",
            "xDS events by kind (connect, disconnect, refused, reset, sent, ack, nack, fallback) "
            "and resource type",
            ["kind", "type"],
            registry=registry,
        )
        self.xds_nodes = Gauge("eigenmesh_xds_nodes", "Envoys connected now", registry=registry)
        self.xds_streams = Gauge(
            "eigenmesh_xds_streams", "xDS streams that are open now", registry=registry
        )
        self.xds_convergence = Histogram(
            "eigenmesh_xds_convergence_seconds",
            "Time from a push to one Envoy's ACK of it",
            ["type"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.xds_merged = Counter(
            "eigenmesh_xds_merged_pushes",
            "Pushes that a busy stream never saw, since a later one took their place",
            registry=registry,
        )
        self.plans_refused = Counter(
            "eigenmesh_plans_refused",
            "Plans that were taken back because Envoys kept refusing them",
            registry=registry,
        )
        self.loop_lag = Histogram(
            "eigenmesh_event_loop_lag_seconds",
            "How late the event loop ran a timer; a solve must not show here",
            buckets=_SECONDS,
            registry=registry,
        )
        self.loop_busy = Histogram(
            "eigenmesh_event_loop_busy_seconds",
            "CPU time that the event loop's thread used between two timers 20 ms apart",
            buckets=_SECONDS,
            registry=registry,
        )
        self.journal_failures = Counter(
            "eigenmesh_journal_failures", "Writes that the journal refused", registry=registry
        )
        self.settings_reloads = Counter(
            "eigenmesh_settings_reloads",
            "How often the settings file was read anew, by outcome (applied, refused)",
            ["outcome"],
            registry=registry,
        )
        self.settings_refused = Gauge(
            "eigenmesh_settings_refused",
            "1 while the settings file, as it was last read, is not what is in force",
            registry=registry,
        )
        self.settings_since = Gauge(
            "eigenmesh_settings_applied_timestamp_seconds",
            "When the settings in force came to be (unix time)",
            registry=registry,
        )

    def watch_certificates(self, problem: Callable[[], str]) -> None:
        """problem: asked at every scrape; empty if there is none."""
        Gauge(
            "eigenmesh_xds_certificate_stale",
            "1 while the xDS port's files cannot be used and its last good certificate serves",
            registry=self.registry,
        ).set_function(lambda: float(bool(problem())))

    def show_plan(self, plan: Plan) -> None:
        for route, split in plan.weights.items():
            for cluster, weight in split.items():
                self.weight.labels(route, cluster).set(weight)
        for cluster, limits in plan.limits.items():
            self.limit.labels(cluster).set(limits.max_requests)

    def forget_names(self) -> None:
        """Routes and clusters may be gone; those that are not show again with the next decision."""
        by_cluster = (self.load, self.latency, self.capacity, self.t0, self.limit, self.storm)
        for gauge in (self.weight, *by_cluster):
            gauge.clear()

    def show_grants(self, grants: Mapping[str, Mapping[str, int]]) -> None:
        self.grant.clear()
        if sum(map(len, grants.values())) <= MOST_GRANTS:
            for node, limits in grants.items():
                for cluster, limit in limits.items():
                    self.grant.labels(node, cluster).set(limit)

    def show_storms(self, topology: Topology, stormy: Container[str]) -> None:
        for cluster in topology.steered_clusters:
            self.storm.labels(cluster).set(float(cluster in stormy))

    def show_check(self, check: Check) -> None:
        """What the last window says of the plan in force."""

    def show_decision(self, decision: Decision) -> None:
        self.decisions.labels(decision.action.value).inc()
        self.tick_seconds.observe(decision.seconds)
        self.show_plan(decision.plan)
        if decision.observation is not None:
            self.missing.set(len(decision.observation.missing))
            for name, seen in decision.observation.clusters.items():
                self.load.labels(name).set(seen.load)
                if seen.mean is not None:
                    self.latency.labels(name).set(seen.mean)
        for name, estimate in decision.curves.items():
            self.capacity.labels(name).set(estimate.curve.capacity)
            self.t0.labels(name).set(estimate.curve.t0)
        for candidate in decision.candidates:
            self.solver_seconds.labels(candidate.part, candidate.solver).observe(candidate.seconds)
            if "error" in candidate.detail:
                self.solver_errors.labels(candidate.part, candidate.solver).inc()
            if candidate.won:
                self.solver_wins.labels(candidate.part, candidate.solver).inc()
        if decision.predicted is not None and decision.incumbent_predicted is not None:
            self.objective.labels("proposed").set(decision.predicted)
            self.objective.labels("incumbent").set(decision.incumbent_predicted)
