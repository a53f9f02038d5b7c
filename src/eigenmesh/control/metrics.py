"""Eigenmesh's own metrics. One registry per process part, so that tests do not share them.

`docs/metrics.md` lists them all, with the alerts (`deploy/prometheus/alerts.yml`) and dashboards
(`deploy/grafana`) that rest on them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from eigenmesh import __version__
from eigenmesh.control.families import MOST_SERIES, Bounded, Families
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import (
    Action,
    Candidate,
    Check,
    Decision,
    Observation,
    Plan,
    Topology,
    Verdict,
)
from eigenmesh.xds.resource import CLUSTER, LISTENER, ROUTE, RUNTIME
from eigenmesh.xds.status import NodeStatus

MOST_GRANTS = 500
"""Series of single proxies' limits; a larger fleet has none, since nodes are not ours to bound."""


class Metrics:
    """Labels are bounded by the operator's own routes and clusters, solvers and xDS types, and by
    `most` label sets of each metric whatever those are."""

    def __init__(self, mesh: str = "", most: int = MOST_SERIES) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.families = make = Families(self.registry, most)
        make.info("eigenmesh_build", "Version of Eigenmesh", version=__version__)
        make.info("eigenmesh_mesh", "Name of the mesh, as the settings have it", name=mesh)

        # The loop.
        self.decisions = make.counters(
            "eigenmesh_decisions", "Decisions made, by what was done", "action"
        )
        self.tick_seconds = make.histogram(
            "eigenmesh_tick_seconds",
            "Time from observing to pushing; the exemplar is the decision's number",
        )
        self.interval = make.gauge(
            "eigenmesh_interval_seconds", "Time from one decision to the next, by the settings"
        )
        self.last_decision = make.gauge(
            "eigenmesh_last_decision_timestamp_seconds", "When the latest decision was made"
        )
        self.loop_lag = make.histogram(
            "eigenmesh_event_loop_lag_seconds",
            "How late the event loop ran a timer; a solve must not show here",
        )
        self.loop_busy = make.histogram(
            "eigenmesh_event_loop_busy_seconds",
            "CPU time that the event loop's thread used between two timers 20 ms apart",
        )
        self.journal_failures = make.counter(
            "eigenmesh_journal_failures", "Writes that the journal refused"
        )
        self.settings_reloads = make.counters(
            "eigenmesh_settings_reloads",
            "How often the settings file was read anew, by outcome (applied, refused)",
            "outcome",
        )
        self.settings_refused = make.gauge(
            "eigenmesh_settings_refused",
            "1 while the settings file, as it was last read, is not what is in force",
        )
        self.settings_since = make.gauge(
            "eigenmesh_settings_applied_timestamp_seconds",
            "When the settings in force came to be (unix time)",
        )

        # What people asked.
        self.mode = make.gauges("eigenmesh_mode", "1 for the mode of the whole mesh", "mode")
        self.paused = make.gauge("eigenmesh_paused", "1 while somebody has paused the steering")
        self.held = make.gauge(
            "eigenmesh_held", "1 while the steering has ended by itself, until it is resumed"
        )
        self.frozen_until = make.gauge(
            "eigenmesh_frozen_until_timestamp_seconds",
            "Until when somebody has frozen the mesh; 0 if nobody has",
        )
        self.pins = make.gauge("eigenmesh_pinned_weights", "Weights that somebody has pinned")
        self.overrides = make.gauge(
            "eigenmesh_overridden_settings", "Settings of the guard that were changed live"
        )
        self.awaiting = make.gauge(
            "eigenmesh_plan_awaiting_approval", "1 while a plan waits for a yes"
        )

        # What was seen.
        self.missing = make.gauge(
            "eigenmesh_observation_missing", "Clusters and routes without data in the last window"
        )
        self.left_out = make.gauge(
            "eigenmesh_observation_left_out_proxies",
            "Proxies without data that are not in the sum, since others carry their traffic",
        )
        self.demand = make.gauges(
            "eigenmesh_route_demand_requests_per_second",
            "Requests/s that entered the route in the last window",
            "route",
        )
        self.load = make.gauges(
            "eigenmesh_cluster_load_requests_per_second",
            "Requests/s that reached the cluster in the last window",
            "cluster",
        )
        self.latency = make.gauges(
            "eigenmesh_cluster_latency_seconds",
            "Mean latency of the cluster in the last window",
            "cluster",
        )
        self.quantile = make.gauges(
            "eigenmesh_cluster_latency_quantile_seconds",
            "Quantiles of the cluster's latency in the last window",
            "cluster",
            "quantile",
        )
        self.in_flight = make.gauges(
            "eigenmesh_cluster_in_flight_requests",
            "Requests outstanding at the cluster at the end of the last window, over all proxies",
            "cluster",
        )
        self.failed = make.gauges(
            "eigenmesh_cluster_failed_requests_per_second",
            "Requests/s that the cluster itself failed in the last window",
            "cluster",
        )
        self.rejected = make.gauges(
            "eigenmesh_cluster_rejected_requests_per_second",
            "Requests/s that the cluster's breaker turned away in the last window",
            "cluster",
        )
        self.retried = make.gauges(
            "eigenmesh_cluster_retried_requests_per_second",
            "Requests/s that were sent to the cluster again in the last window",
            "cluster",
        )

        # What was learned.
        self.capacity = make.gauges(
            "eigenmesh_cluster_capacity_requests_per_second",
            "Learned load at which the cluster's latency diverges",
            "cluster",
        )
        self.capacity_error = make.gauges(
            "eigenmesh_cluster_capacity_error_ratio",
            "Stated error of the learned capacity, as a fraction of it",
            "cluster",
        )
        self.t0 = make.gauges(
            "eigenmesh_cluster_unloaded_latency_seconds",
            "Learned latency of the cluster at no load",
            "cluster",
        )

        # What was decided, and what came of it.
        self.weight = make.gauges(
            "eigenmesh_route_weight_ratio",
            "Weight in force (fraction of the route's traffic)",
            "route",
            "cluster",
        )
        self.limit = make.gauges(
            "eigenmesh_breaker_max_requests",
            "Circuit-breaker limit in force, over all proxies together (requests in flight)",
            "cluster",
        )
        self.grant = make.gauges(
            "eigenmesh_proxy_max_requests",
            "One proxy's part of a cluster's limit (requests in flight); absent in large fleets",
            "node",
            "cluster",
        )
        self.objective = make.gauges(
            "eigenmesh_objective_seconds",
            "Objective of the plan and of the incumbent at the last decision (seconds/request)",
            "plan",
        )
        self.predicted = make.gauge(
            "eigenmesh_predicted_latency_seconds",
            "Mean latency that the last decision with a prediction expects of its plan",
        )
        self.realised = make.gauge(
            "eigenmesh_realised_latency_seconds",
            "Mean latency of what the mesh answered in the last window",
        )
        self.cuts = make.counters(
            "eigenmesh_guard_cuts", "What the guard changed or stopped, by its rule", "rule"
        )
        self.checks = make.counters(
            "eigenmesh_checks", "Windows in which the plan in force was verified", "verdict"
        )
        self.change = make.gauge(
            "eigenmesh_check_change_ratio",
            "Change of the latency against the last good plan's (0.1: a tenth worse)",
        )
        self.change_error = make.gauge(
            "eigenmesh_check_change_error_ratio", "Standard error of that change"
        )
        self.failed_checks = make.gauge(
            "eigenmesh_checks_failed_in_a_row", "Windows in a row in which the plan looked worse"
        )
        self.rollbacks = make.counter(
            "eigenmesh_rollbacks", "Plans that were found worse and are taken back step by step"
        )
        self.plans_refused = make.counter(
            "eigenmesh_plans_refused",
            "Plans that were taken back because Envoys kept refusing them",
        )

        # Between decisions.
        self.storm = make.gauges(
            "eigenmesh_retry_storm",
            "1 while a retry storm is seen and damped on the cluster (in observe: seen)",
            "cluster",
        )
        self.fast_limit = make.gauges(
            "eigenmesh_fast_guard_max_requests",
            "Limit that the fast guard has in force in place of the plan's (requests in flight); "
            "absent where it has none",
            "cluster",
        )
        self.fast_cuts = make.counters(
            "eigenmesh_fast_guard_cuts",
            "How often the fast guard lowered the cluster's limit between two decisions",
            "cluster",
        )

        # The solvers.
        self.solver_seconds = make.histograms(
            "eigenmesh_solver_seconds",
            "Time that one solver took for its part of a plan",
            "part",
            "solver",
        )
        self.solver_wins = make.counters(
            "eigenmesh_solver_wins",
            "How often a solver's part of the plan was the better one",
            "part",
            "solver",
        )
        self.solver_objective = make.gauges(
            "eigenmesh_solver_objective_seconds",
            "Objective of the solver's latest answer (seconds/request)",
            "part",
            "solver",
        )
        self.solver_gap = make.gauges(
            "eigenmesh_solver_gap_ratio",
            "How much worse the solver's latest answer is than the best one (0: as good)",
            "part",
            "solver",
        )
        self.solver_errors = make.counters(
            "eigenmesh_solver_errors",
            "Parts of a plan for which this solver had no answer, and another one's was taken",
            "part",
            "solver",
        )
        self.solver_failures = make.counter(
            "eigenmesh_solver_failures",
            "Ticks on which the solver worker failed and nothing was moved",
        )
        self.approximation = make.gauges(
            "eigenmesh_circuit_approximation_ratio",
            "Approximation ratio of the latest circuits' best samples (1: the optimum)",
            "part",
        )
        self.circuits = make.counters(
            "eigenmesh_circuits", "Circuits that were run", "part", "device"
        )
        self.qubits = make.gauges(
            "eigenmesh_circuit_qubits", "Qubits of the largest of the latest circuits", "part"
        )
        self.devices = make.gauges(
            "eigenmesh_circuit_devices", "Devices in the pool that ran the latest circuits", "part"
        )

        # xDS.
        self.xds_events = make.counters(
            "eigenmesh_xds_events",
            "xDS events by kind (connect, disconnect, refused, reset, subscribe, sent, ack, nack, "
            "fallback) and resource type",
            "kind",
            "type",
        )
        self.xds_nodes = make.gauge("eigenmesh_xds_nodes", "Envoys connected now")
        self.xds_streams = make.gauge("eigenmesh_xds_streams", "xDS streams that are open now")
        self.xds_refusing = make.gauge(
            "eigenmesh_xds_refusing_nodes", "Envoys that refuse something of what they are served"
        )
        self.xds_convergence = make.histograms(
            "eigenmesh_xds_convergence_seconds", "Time from a push to one Envoy's ACK of it", "type"
        )
        self.xds_merged = make.counter(
            "eigenmesh_xds_merged_pushes",
            "Pushes that a busy stream never saw, since a later one took their place",
        )
        self.certificate_stale = make.gauge(
            "eigenmesh_xds_certificate_stale",
            "1 while the xDS port's files cannot be used and its last good certificate serves",
        )

        # The API.
        self.api_calls = make.counters(
            "eigenmesh_api_calls",
            "Calls of the gRPC API by method and status code; UNAUTHENTICATED and "
            "PERMISSION_DENIED are those that were not let in",
            "method",
            "code",
        )
        self._of_names: tuple[Bounded[Gauge], ...] = (
            *(self.demand, self.load, self.latency, self.quantile, self.in_flight, self.failed),
            *(self.rejected, self.retried, self.capacity, self.capacity_error, self.t0),
            *(self.weight, self.limit, self.storm),
        )
        self._begin()

    def _begin(self) -> None:
        """What is counted begins at 0: the first of its kind would be no increase otherwise."""
        for action in Action:
            self.decisions.labels(action.value)
        for verdict in Verdict:
            self.checks.labels(verdict.value)
        for type_url in (LISTENER, CLUSTER, ROUTE, RUNTIME):
            self.xds_events.labels("nack", type_url.rpartition(".")[2])

    def called(self, method: str, code: str) -> None:
        """A call of the API is over."""
        self.api_calls.labels(method, code).inc()

    def watch_certificates(self, problem: Callable[[], str]) -> None:
        """problem: asked at every scrape; empty if there is none."""
        self.certificate_stale.set_function(lambda: float(bool(problem())))

    def watch_nodes(self, nodes: Callable[[], Sequence[NodeStatus]]) -> None:
        """nodes: the Envoys that are connected, asked at every scrape."""
        latest: Sequence[NodeStatus] = ()

        def count() -> float:
            nonlocal latest
            latest = nodes()
            return len(latest)

        # Families are collected in their order: the second need not ask again.
        self.xds_nodes.set_function(count)
        self.xds_refusing.set_function(
            lambda: sum(any(one.nack for one in node.types) for node in latest)
        )

    def watch_controls(
        self, controls: Callable[[], Controls], pending: Callable[[], Decision | None]
    ) -> None:
        """controls, pending: what people asked and are asked for, asked at every scrape."""
        self.awaiting.set_function(lambda: float(pending() is not None))
        for mode in Mode:
            self.mode.labels(mode.value).set_function(partial(_is_mode, controls, mode))
        self.paused.set_function(lambda: float(bool(controls().paused)))
        self.held.set_function(lambda: float(bool(controls().held)))
        self.frozen_until.set_function(lambda: controls().frozen_until)
        self.pins.set_function(lambda: sum(map(len, controls().pins.values())))
        self.overrides.set_function(lambda: len(controls().overrides))

    def forget_names(self) -> None:
        """Routes and clusters may be gone; those that are not show again with the next decision."""
        for family in self._of_names:
            family.clear()

    def show_plan(self, plan: Plan) -> None:
        for route, split in plan.weights.items():
            for cluster, weight in split.items():
                self.weight.labels(route, cluster).set(weight)
        for cluster, limits in plan.limits.items():
            self.limit.labels(cluster).set(limits.max_requests)

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
        """What was found of the plan in force after a window."""
        self.checks.labels(check.verdict.value).inc()
        self.failed_checks.set(check.failed)
        if check.change is not None and check.error is not None:
            self.change.set(check.change)
            self.change_error.set(check.error)

    def show_decision(self, decision: Decision) -> None:
        self.decisions.labels(decision.action.value).inc()
        self.tick_seconds.observe(decision.seconds, {"decision": str(decision.number)})
        self.last_decision.set(decision.time)
        self.show_plan(decision.plan)
        if decision.observation is not None:
            self._show_observation(decision.observation)
        for name, estimate in decision.curves.items():
            self.capacity.labels(name).set(estimate.curve.capacity)
            self.capacity_error.labels(name).set(estimate.capacity_error)
            self.t0.labels(name).set(estimate.curve.t0)
        self._show_candidates(decision.candidates)
        for cut in decision.cuts:
            self.cuts.labels(cut.rule).inc()
        if decision.predicted is not None and decision.incumbent_predicted is not None:
            self.objective.labels("proposed").set(decision.predicted)
            self.objective.labels("incumbent").set(decision.incumbent_predicted)
        if decision.predicted_latency is not None:
            self.predicted.set(decision.predicted_latency)

    def _show_observation(self, seen: Observation) -> None:
        self.missing.set(len(seen.missing))
        self.left_out.set(len(seen.left_out))
        for route, demand in seen.demands.items():
            self.demand.labels(route).set(demand)
        answered = spent = 0.0
        for name, one in seen.clusters.items():
            self.load.labels(name).set(one.load)
            self.in_flight.labels(name).set(one.in_flight)
            self.failed.labels(name).set(one.upstream_errors)
            self.rejected.labels(name).set(one.breaker_errors)
            self.retried.labels(name).set(one.retries)
            if one.mean is not None:
                self.latency.labels(name).set(one.mean)
                answered, spent = answered + one.throughput, spent + one.throughput * one.mean
            for q, seconds in one.quantiles.items():
                self.quantile.labels(name, f"{q:g}").set(seconds)
        if answered > 0:
            self.realised.set(spent / answered)

    def _show_candidates(self, candidates: Sequence[Candidate]) -> None:
        best: dict[tuple[str, object], float] = {}
        for one in candidates:
            # Answers of one round are to the same question.
            key = (one.part, one.detail.get("round"))
            best[key] = min(one.objective, best.get(key, one.objective))
        for one in candidates:
            part, names, detail = one.part, (one.part, one.solver), one.detail
            least = best[part, detail.get("round")]
            self.solver_seconds.labels(*names).observe(one.seconds)
            self.solver_errors.labels(*names).inc(float("error" in detail))
            if "error" in detail:
                continue
            if one.won:
                self.solver_wins.labels(*names).inc()
            self.solver_objective.labels(*names).set(one.objective)
            if least > 0:
                self.solver_gap.labels(*names).set(one.objective / least - 1.0)
            if (ratio := detail.get("approximation_ratio")) is not None:
                self.approximation.labels(part).set(float(ratio))
            if (device := detail.get("device")) is not None:
                self.circuits.labels(part, str(device)).inc(float(detail.get("circuits", 1)))
                self.qubits.labels(part).set(float(detail["qubits"]))
                self.devices.labels(part).set(float(detail.get("devices", 1)))


def _is_mode(controls: Callable[[], Controls], mode: Mode) -> float:
    return float(controls().mode is mode)
