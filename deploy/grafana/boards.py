"""What the dashboards show. `@` in a query is the matcher of the mesh that is looked at, `$step`
how finely annotations are looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Panel:
    """queries: (PromQL, legend). unit: Grafana's name of it."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    says: str = ""
    kind: Literal["lines", "signed", "stacked", "number", "name"] = "lines"


@dataclass(frozen=True)
class Mark:
    """An annotation where `query` is above 0; `text` may have its labels in double braces."""

    name: str
    query: str
    color: str
    text: str = ""


Rows = Sequence[tuple[str, Sequence[Panel]]]

# The predicted latency before and after are values; `count_values` makes labels of them.
PUSHES = Mark(
    "Pushed",
    "sum by (mesh) (increase(eigenmesh_decisions_total{@,action='push'}[$step]))"
    " * on (mesh) group_left (before) count_values by (mesh) ('before',"
    " round(1000 * eigenmesh_realised_latency_seconds{@}, 0.1))"
    " * on (mesh) group_left (after) count_values by (mesh) ('after',"
    " round(1000 * eigenmesh_predicted_latency_seconds{@}, 0.1))",
    "blue",
    "mean was {{before}} ms, predicted {{after}} ms",
)
ROLLBACKS = Mark(
    "Rolled back",
    "increase(eigenmesh_rollbacks_total{@}[$step])",
    "orange",
    "a plan was worse than promised",
)
REFUSALS = Mark(
    "Refused",
    "sum by (type) (increase(eigenmesh_xds_events_total{@,kind='nack'}[$step]))",
    "red",
    "an Envoy refused {{type}}",
)

MESH: Rows = [
    (
        "Now",
        [
            Panel("Mode", "none", [("eigenmesh_mode{@} == 1", "{{mode}}")], kind="name"),
            Panel(
                "Mean latency",
                "s",
                [("eigenmesh_realised_latency_seconds{@}", "now")],
                kind="number",
            ),
            Panel(
                "Demand",
                "reqps",
                [("sum(eigenmesh_route_demand_requests_per_second{@})", "all routes")],
                kind="number",
            ),
            Panel(
                "Turned away",
                "percentunit",
                [
                    (
                        "sum(eigenmesh_cluster_rejected_requests_per_second{@})"
                        " / (sum(eigenmesh_cluster_rejected_requests_per_second{@})"
                        " + sum(eigenmesh_cluster_load_requests_per_second{@}) > 0)",
                        "by breakers",
                    )
                ],
                kind="number",
            ),
            Panel(
                "Stopped",
                "none",
                [
                    ("eigenmesh_held{@}", "held"),
                    ("eigenmesh_paused{@}", "paused"),
                    ("eigenmesh_frozen_until_timestamp_seconds{@} > bool time()", "frozen"),
                ],
                "1: nothing is pushed",
                kind="number",
            ),
            Panel("No data", "none", [("eigenmesh_observation_missing{@}", "")], kind="number"),
        ],
    ),
    (
        "Latency and load",
        [
            Panel(
                "Mean latency by cluster",
                "s",
                [("eigenmesh_cluster_latency_seconds{@}", "{{cluster}}")],
            ),
            Panel(
                "99th percentile by cluster",
                "s",
                [
                    (
                        "mesh_cluster:envoy_upstream_latency_seconds:p99_1m{@}",
                        "{{envoy_cluster_name}}",
                    )
                ],
                "By Envoy's histograms, over a minute",
            ),
            Panel(
                "Load by cluster",
                "reqps",
                [("eigenmesh_cluster_load_requests_per_second{@}", "{{cluster}}")],
                kind="stacked",
            ),
            Panel(
                "Load against learned capacity",
                "percentunit",
                [
                    (
                        "eigenmesh_cluster_load_requests_per_second{@}"
                        " / eigenmesh_cluster_capacity_requests_per_second{@}",
                        "{{cluster}}",
                    )
                ],
            ),
        ],
    ),
    (
        "Weights",
        [
            Panel(
                "Weights in force",
                "percentunit",
                [("eigenmesh_route_weight_ratio{@}", "{{route}} → {{cluster}}")],
            ),
            Panel(
                "Demand by route",
                "reqps",
                [("eigenmesh_route_demand_requests_per_second{@}", "{{route}}")],
                kind="stacked",
            ),
        ],
    ),
    (
        "Circuit breakers",
        [
            Panel(
                "Limit in force and requests in flight",
                "none",
                [
                    (
                        "eigenmesh_fast_guard_max_requests{@} or eigenmesh_breaker_max_requests{@}",
                        "{{cluster}}: limit",
                    ),
                    ("eigenmesh_cluster_in_flight_requests{@}", "{{cluster}}: in flight"),
                ],
                "Over all proxies; the fast guard's limit where it has lowered one",
            ),
            Panel(
                "Turned away by breakers",
                "percentunit",
                [("mesh_cluster:envoy_breaker_rejected:ratio_rate1m{@}", "{{envoy_cluster_name}}")],
            ),
            Panel(
                "Open breakers",
                "none",
                [
                    (
                        "sum by (envoy_cluster_name)"
                        " (envoy_cluster_circuit_breakers_default_rq_open{@})",
                        "{{envoy_cluster_name}}",
                    )
                ],
                "Envoys in which the breaker is open now",
            ),
            Panel(
                "Failed and retried",
                "reqps",
                [
                    ("eigenmesh_cluster_failed_requests_per_second{@}", "{{cluster}}: failed"),
                    ("eigenmesh_cluster_retried_requests_per_second{@}", "{{cluster}}: retried"),
                ],
            ),
        ],
    ),
]

DECISION: Rows = [
    (
        "Predicted and realised",
        [
            Panel(
                "Mean latency",
                "s",
                [
                    ("eigenmesh_predicted_latency_seconds{@}", "predicted"),
                    ("eigenmesh_realised_latency_seconds{@}", "realised"),
                ],
            ),
            Panel(
                "Change against the last good plan",
                "percentunit",
                [
                    ("eigenmesh_check_change_ratio{@}", "change"),
                    (
                        "eigenmesh_check_change_ratio{@}"
                        " + 2 * eigenmesh_check_change_error_ratio{@}",
                        "two standard errors above",
                    ),
                    (
                        "eigenmesh_check_change_ratio{@}"
                        " - 2 * eigenmesh_check_change_error_ratio{@}",
                        "two standard errors below",
                    ),
                ],
                "While a plan is on trial; above 0 it is worse",
                kind="signed",
            ),
            Panel(
                "Objective",
                "s",
                [("eigenmesh_objective_seconds{@}", "{{plan}}")],
                "Of what was proposed and of what was in force, by the model",
            ),
            Panel(
                "Verdicts",
                "none",
                [("sum by (verdict) (increase(eigenmesh_checks_total{@}[1m]))", "{{verdict}}")],
                "Windows in the last minute",
                kind="stacked",
            ),
        ],
    ),
    (
        "What became of plans",
        [
            Panel(
                "Decisions",
                "none",
                [("sum by (action) (increase(eigenmesh_decisions_total{@}[1m]))", "{{action}}")],
                "In the last minute",
                kind="stacked",
            ),
            Panel(
                "Cuts by the guard",
                "none",
                [("sum by (rule) (increase(eigenmesh_guard_cuts_total{@}[1m]))", "{{rule}}")],
                "In the last minute",
                kind="stacked",
            ),
            Panel(
                "Rollbacks and refusals",
                "none",
                [
                    ("eigenmesh_rollbacks_total{@}", "rolled back"),
                    ("eigenmesh_plans_refused_total{@}", "refused by Envoys"),
                    ("eigenmesh_checks_failed_in_a_row{@}", "failed checks in a row"),
                ],
            ),
            Panel(
                "Asked by people",
                "none",
                [
                    ("eigenmesh_pinned_weights{@}", "pinned weights"),
                    ("eigenmesh_overridden_settings{@}", "overridden settings"),
                    ("eigenmesh_plan_awaiting_approval{@}", "plan waits for a yes"),
                ],
            ),
        ],
    ),
    (
        "Who won",
        [
            Panel(
                "Wins",
                "none",
                [
                    (
                        "sum by (part, solver) (increase(eigenmesh_solver_wins_total{@}[1m]))",
                        "{{part}}: {{solver}}",
                    )
                ],
                "In the last minute; a tie is nobody's",
            ),
            Panel(
                "Worse than the best answer",
                "percentunit",
                [("eigenmesh_solver_gap_ratio{@}", "{{part}}: {{solver}}")],
            ),
        ],
    ),
    (
        "The model",
        [
            Panel(
                "Learned capacity",
                "reqps",
                [("eigenmesh_cluster_capacity_requests_per_second{@}", "{{cluster}}")],
            ),
            Panel(
                "Stated error of the capacity",
                "percentunit",
                [("eigenmesh_cluster_capacity_error_ratio{@}", "{{cluster}}")],
            ),
        ],
    ),
]

CONTROL: Rows = [
    (
        "xDS",
        [
            Panel(
                "Envoys and streams",
                "none",
                [
                    ("eigenmesh_xds_nodes{@}", "Envoys"),
                    ("eigenmesh_xds_streams{@}", "streams"),
                    ("eigenmesh_xds_refusing_nodes{@}", "refusing"),
                ],
            ),
            Panel(
                "Refusals (NACK)",
                "none",
                [
                    (
                        "sum by (type) (increase(eigenmesh_xds_events_total{@,kind='nack'}[1m]))",
                        "{{type}}",
                    )
                ],
                "In the last minute",
            ),
            Panel(
                "From push to ACK, 99th percentile",
                "s",
                [("mesh_type:eigenmesh_xds_convergence_seconds:p99_5m{@}", "{{type}}")],
            ),
            Panel(
                "Events",
                "ops",
                [
                    (
                        "sum by (kind) (rate(eigenmesh_xds_events_total{@}[$__rate_interval]))",
                        "{{kind}}",
                    ),
                    (
                        "rate(eigenmesh_xds_merged_pushes_total{@}[$__rate_interval])",
                        "pushes merged away",
                    ),
                ],
            ),
        ],
    ),
    (
        "The loop",
        [
            Panel(
                "Since the latest decision",
                "s",
                [
                    ("time() - eigenmesh_last_decision_timestamp_seconds{@}", "age"),
                    ("eigenmesh_interval_seconds{@}", "interval"),
                ],
            ),
            Panel(
                "Tick",
                "s",
                [
                    ("mesh:eigenmesh_tick_seconds:p99_5m{@}", "99th percentile"),
                    (
                        "sum(rate(eigenmesh_tick_seconds_sum{@}[1m]))"
                        " / sum(rate(eigenmesh_tick_seconds_count{@}[1m]))",
                        "mean",
                    ),
                ],
            ),
            Panel(
                "Event loop: busy between two timers",
                "s",
                [("mesh:eigenmesh_event_loop_busy_seconds:p99_5m{@}", "99th percentile")],
                "While it computes, no Envoy is answered",
            ),
            Panel(
                "Event loop: late by",
                "s",
                [
                    (
                        "histogram_quantile(0.99, sum by (le)"
                        " (rate(eigenmesh_event_loop_lag_seconds_bucket{@}[$__rate_interval])))",
                        "99th percentile",
                    )
                ],
            ),
        ],
    ),
    (
        "Process",
        [
            Panel(
                "Memory",
                "bytes",
                [
                    (
                        "process_resident_memory_bytes{@}"
                        " and on (job, instance) eigenmesh_build_info{@}",
                        "{{instance}}",
                    )
                ],
            ),
            Panel(
                "CPU",
                "percentunit",
                [
                    (
                        "rate(process_cpu_seconds_total{@}[$__rate_interval])"
                        " and on (job, instance) eigenmesh_build_info{@}",
                        "{{instance}}",
                    )
                ],
                "Of one core, without the solver process",
            ),
            Panel(
                "Trouble",
                "none",
                [
                    ("eigenmesh_journal_failures_total{@}", "journal failures"),
                    ("eigenmesh_xds_certificate_stale{@}", "stale certificate"),
                    ("eigenmesh_observation_left_out_proxies{@}", "proxies left out"),
                ],
            ),
            Panel("Version", "none", [("eigenmesh_build_info{@}", "{{version}}")], kind="name"),
        ],
    ),
]

SOLVER: Rows = [
    (
        "Circuits",
        [
            Panel(
                "Circuit time",
                "s",
                [
                    (
                        "sum by (part, solver) (rate(eigenmesh_solver_seconds_sum{@,"
                        "solver=~'born-machine|qaoa|vqe'}[1m])) / sum by (part, solver)"
                        " (rate(eigenmesh_solver_seconds_count{@,"
                        "solver=~'born-machine|qaoa|vqe'}[1m]))",
                        "{{part}}: {{solver}}",
                    )
                ],
                "Mean over a minute; simulated unless a plugin's device is set",
            ),
            Panel(
                "Approximation ratio",
                "percentunit",
                [("eigenmesh_circuit_approximation_ratio{@}", "{{part}}")],
                "Of the best samples; 1 is the optimum",
            ),
            Panel(
                "Device pool",
                "none",
                [
                    ("eigenmesh_circuit_devices{@}", "{{part}}: devices"),
                    ("eigenmesh_circuit_qubits{@}", "{{part}}: qubits"),
                ],
            ),
            Panel(
                "Circuits run",
                "ops",
                [
                    (
                        "sum by (part, device) (rate(eigenmesh_circuits_total{@}[1m]))",
                        "{{part}} on {{device}}",
                    )
                ],
            ),
        ],
    ),
    (
        "Against classical solvers",
        [
            Panel(
                "Time by solver",
                "s",
                [
                    (
                        "sum by (part, solver) (rate(eigenmesh_solver_seconds_sum{@}[1m]))"
                        " / sum by (part, solver) (rate(eigenmesh_solver_seconds_count{@}[1m]))",
                        "{{part}}: {{solver}}",
                    )
                ],
            ),
            Panel(
                "Objective of the latest answers",
                "s",
                [("eigenmesh_solver_objective_seconds{@}", "{{part}}: {{solver}}")],
            ),
            Panel(
                "No answer",
                "none",
                [
                    (
                        "sum by (part, solver) (increase(eigenmesh_solver_errors_total{@}[1m]))",
                        "{{part}}: {{solver}}",
                    ),
                    ("increase(eigenmesh_solver_failures_total{@}[1m])", "no solver at all"),
                ],
                "In the last minute",
            ),
            Panel(
                "Wins so far",
                "none",
                [
                    (
                        "sum by (part, solver) (eigenmesh_solver_wins_total{@})",
                        "{{part}}: {{solver}}",
                    )
                ],
            ),
        ],
    ),
]

BOARDS: dict[str, tuple[str, Rows, Sequence[Mark]]] = {
    "mesh": ("Mesh overview", MESH, (PUSHES, ROLLBACKS)),
    "decision": ("Decision", DECISION, (PUSHES, ROLLBACKS)),
    "control-plane": ("Control plane", CONTROL, (REFUSALS,)),
    "solver": ("Solver", SOLVER, ()),
}
