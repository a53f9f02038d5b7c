"""Eigenmesh's own metrics: what they say, that they stay few, that their table is up to date."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from docs.list_metrics import PAGE, page
from eigenmesh.control.metrics import Metrics
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import (
    Action,
    Candidate,
    Check,
    ClusterObservation,
    Cut,
    Decision,
    Observation,
    Plan,
    Verdict,
)
from eigenmesh.web import HttpServer
from eigenmesh.web.exposition import AT_ONCE, expose


def decision(**changed: object) -> Decision:
    """One over the clusters a and b, of which b answers thrice as much."""
    seen = Observation(
        10.0,
        2.0,
        {
            "a": ClusterObservation(10.0, 10.0, 0.010, 2.0, {0.99: 0.05}, breaker_errors=1.5),
            "b": ClusterObservation(30.0, 30.0, 0.030, 3.0),
        },
        {"shop": 40.0},
        missing={"c": "no data"},
    )
    parts: dict[str, object] = {
        "number": 7,
        "time": 11.0,
        "action": Action.PUSH,
        "why": "",
        "plan": Plan({"shop": {"a": 0.25, "b": 0.75}}, {}),
        "observation": seen,
        "predicted_latency": 0.024,
        "seconds": 0.02,
    }
    return Decision(**(parts | changed))  # type: ignore[arg-type]


def test_a_decision_is_shown_with_what_it_rests_on() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    metrics.show_decision(decision(cuts=(Cut("max_step", "shop", 0.4, 0.1),)))
    assert value("eigenmesh_realised_latency_seconds") == pytest.approx(0.025)
    assert value("eigenmesh_predicted_latency_seconds") == 0.024
    assert value("eigenmesh_route_demand_requests_per_second", {"route": "shop"}) == 40.0
    assert value("eigenmesh_cluster_rejected_requests_per_second", {"cluster": "a"}) == 1.5
    labels = {"cluster": "a", "quantile": "0.99"}
    assert value("eigenmesh_cluster_latency_quantile_seconds", labels) == 0.05
    assert value("eigenmesh_observation_missing") == 1
    assert value("eigenmesh_guard_cuts_total", {"rule": "max_step"}) == 1
    assert value("eigenmesh_last_decision_timestamp_seconds") == 11.0


def test_solvers_are_compared_within_a_round_and_errors_have_no_gap() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    circuit: dict[str, float | str] = {
        "round": 1,
        "device": "lightning.qubit",
        "qubits": 6,
        "circuits": 2,
        "devices": 2,
    }
    metrics.show_decision(
        decision(
            candidates=(
                Candidate("limits", "qaoa", 0.022, 0.1, detail=circuit),
                Candidate("limits", "exhaustive", 0.020, 0.01, True, {"round": 1}),
                Candidate("weights", "born-machine", 0.9, 0.01, detail={"error": "hung"}),
                Candidate("weights", "newton", 0.5, 0.01, True, {"round": 1}),
                Candidate("weights", "newton", 0.4, 0.01, True, {"round": 2}),
            )
        )
    )
    gap = "eigenmesh_solver_gap_ratio"
    assert value(gap, {"part": "limits", "solver": "qaoa"}) == pytest.approx(0.1)
    assert value(gap, {"part": "limits", "solver": "exhaustive"}) == 0.0
    assert value(gap, {"part": "weights", "solver": "newton"}) == 0.0
    assert value(gap, {"part": "weights", "solver": "born-machine"}) is None
    lost = {"part": "weights", "solver": "born-machine"}
    assert value("eigenmesh_solver_errors_total", lost) == 1
    ran = {"part": "limits", "device": "lightning.qubit"}
    assert value("eigenmesh_circuits_total", ran) == 2
    assert value("eigenmesh_circuit_devices", {"part": "limits"}) == 2


def test_controls_and_checks_are_shown() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    controls = Controls(Mode.APPROVE, held="3 rollbacks", pins={"shop": {"a": 0.5}})
    waiting = None
    metrics.watch_controls(lambda: controls, lambda: waiting)
    assert value("eigenmesh_plan_awaiting_approval") == 0
    waiting = decision(action=Action.AWAIT)
    assert value("eigenmesh_plan_awaiting_approval") == 1
    modes = {m.value: value("eigenmesh_mode", {"mode": m.value}) for m in Mode}
    assert modes == {"observe": 0, "approve": 1, "auto": 0}
    assert (value("eigenmesh_held"), value("eigenmesh_paused")) == (1, 0)
    assert value("eigenmesh_pinned_weights") == 1
    controls = Controls(Mode.AUTO)
    assert value("eigenmesh_mode", {"mode": "auto"}) == 1
    assert value("eigenmesh_held") == 0
    metrics.show_check(Check(Verdict.WORSE, 5, 0.2, 0.03, failed=4))
    assert value("eigenmesh_checks_total", {"verdict": "worse"}) == 1
    assert value("eigenmesh_check_change_ratio") == 0.2
    assert value("eigenmesh_checks_failed_in_a_row") == 4


def test_a_metric_has_a_bounded_number_of_series_and_the_rest_is_counted() -> None:
    metrics = Metrics(most=10)
    value = metrics.registry.get_sample_value
    for n in range(50):
        metrics.load.labels(f"cluster-{n}").set(1.0)
        metrics.cuts.labels(f"rule-{n}").inc()
    text = generate_latest(metrics.registry).decode()
    assert text.count("\neigenmesh_cluster_load_requests_per_second{") == 10
    assert text.count("\neigenmesh_guard_cuts_total{") == 11
    assert value("eigenmesh_guard_cuts_total", {"rule": "other"}) == 40
    dropped = "eigenmesh_metrics_dropped_total"
    name = "eigenmesh_cluster_load_requests_per_second"
    assert value(dropped, {"metric": name}) == 40
    # One that is known is still followed, and a cleared family has room again.
    metrics.load.labels("cluster-3").set(5.0)
    assert value(name, {"cluster": "cluster-3"}) == 5.0
    metrics.load.clear()
    metrics.load.labels("cluster-30").set(6.0)
    assert value(name, {"cluster": "cluster-30"}) == 6.0


def test_names_that_may_be_gone_are_forgotten() -> None:
    metrics = Metrics()
    metrics.show_decision(decision())
    metrics.forget_names()
    text = generate_latest(metrics.registry).decode()
    assert 'cluster="a"' not in text
    assert 'route="shop"' not in text


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_text_that_is_written_in_turns_is_the_same(accept: str) -> None:
    metrics = Metrics()
    metrics.show_decision(decision())
    for n in range(2 * AT_ONCE + 1):
        metrics.load.labels(f"cluster-{n}").set(n)
    whole, content_type = choose_encoder(accept)
    # Two moments differ in what the process itself has used.
    text, said = await expose(metrics.registry, accept)
    kept = [line for line in text.decode().splitlines() if "process_" not in line]
    expected = [x for x in whole(metrics.registry).decode().splitlines() if "process_" not in x]
    assert kept == expected
    assert said == content_type


async def test_prometheus_text_or_openmetrics_is_served_by_what_is_accepted() -> None:
    metrics = Metrics("edge")
    metrics.show_decision(decision())
    server = HttpServer("127.0.0.1:0", metrics.registry, lambda: None)
    port = await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/metrics"
            async with session.get(url) as plain:
                assert plain.headers["Content-Type"].startswith("text/plain")
                assert "# EOF" not in await plain.text()
            accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
            async with session.get(url, headers=accept) as answer:
                assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
                text = await answer.text()
    finally:
        await server.stop()
    parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    families = {f.name: f for f in parsed}
    assert families["eigenmesh_tick_seconds"].unit == "seconds"
    exemplars = [s.exemplar for s in families["eigenmesh_tick_seconds"].samples if s.exemplar]
    assert [e.labels for e in exemplars] == [{"decision": "7"}]
    [info] = families["eigenmesh_mesh"].samples
    assert info.labels == {"name": "edge"}


def test_names_and_help_follow_the_conventions() -> None:
    families = Metrics().families.all
    assert len({f.name for f in families}) == len(families)
    for family in families:
        assert family.name.startswith("eigenmesh_")
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.help == family.help.strip() != "", family.name
        assert not family.help.endswith(".")
        assert not any(f"_{unit}" in family.name for unit in ("ms", "millis", "percent"))


def test_the_table_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make metrics-table`"
