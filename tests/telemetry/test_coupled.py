"""Curves of clusters that share a machine or call each other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eigenmesh.mesh import (
    Call,
    Cluster,
    ClusterObservation,
    Host,
    Observation,
    Pools,
    Route,
    Topology,
)
from eigenmesh.telemetry.coupled import CoupledEstimator, equivalent
from eigenmesh.telemetry.estimator import Estimator

from .machines import Machines, Run, Service

BOX = Machines(
    {"box": 4},
    {"a": Service((("box", 0.02),)), "b": Service((("box", 0.04),))},
    {"ra": {"a": 1.0}, "rb": {"b": 1.0}},
)
USUAL = {"ra": 80.0, "rb": 40.0}


def box(coupling: float | None) -> Topology:
    return Topology(
        (Cluster("a", "box"), Cluster("b", "box")),
        (Route("ra", ("a",)), Route("rb", ("b",))),
        (Host("box", coupling),),
    )


FRONT = Machines(
    {"one": 8, "two": 4, "three": 2},
    {
        "front": Service((("one", 0.03),), (("stock", 1.5),)),
        "fast": Service((("two", 0.01),)),
        "slow": Service((("three", 0.02),)),
    },
    {"shop": {"front": 1.0}, "stock": {"fast": 0.8, "slow": 0.2}},
)
CALLING = Topology(
    (Cluster("front", calls=(Call("stock"),)), Cluster("fast"), Cluster("slow")),
    (Route("shop", ("front",)), Route("stock", ("fast", "slow"))),
)


def told(coupled: CoupledEstimator, loads: dict[str, float]) -> dict[str, float]:
    """Latencies in seconds at these loads, by what was learned."""
    names = list(loads)
    curves = {n: e.curve for n, e in coupled.estimates.items()}
    capacity = np.array([curves[n].capacity for n in names])
    felt = Pools(coupled.topology, names).felt(np.array(list(loads.values())) / capacity) * capacity
    return {n: curves[n].latency(x) for n, x in zip(names, felt.tolist(), strict=True)}


@pytest.mark.parametrize(("machines", "demands"), [(BOX, USUAL), (FRONT, {"shop": 120.0})])
def test_the_simulated_machines_have_the_means_of_the_formula(
    machines: Machines, demands: dict[str, float]
) -> None:
    run = Run(machines, 3)
    run.window(demands, 20.0)
    seen = run.window(demands, 400.0)
    _, loads = machines.loads(demands)
    own, total = machines.own_times(demands), 0.0
    for name, one in seen.clusters.items():
        assert one.load == pytest.approx(loads[name], rel=0.05)
        total += loads[name] * own[name]
        if name != "front":
            assert one.mean == pytest.approx(own[name], rel=0.08)
    assert machines.mean(demands) == pytest.approx(total / sum(demands.values()))
    if "front" in seen.clusters:
        assert seen.clusters["front"].mean == pytest.approx(machines.mean(demands), rel=0.05)


def test_one_shared_processor_shows_what_is_on_all_of_it() -> None:
    """Classes of M/G/1-PS: in equivalent terms every class sees the same queue."""
    service, load = {"a": 0.004, "b": 0.01}, {"a": 75.0, "b": 30.0}
    busy = sum(service[n] * load[n] for n in service)
    seen = {
        n: ClusterObservation(load[n], load[n], s / (1.0 - busy), load[n] * s / (1.0 - busy))
        for n, s in service.items()
    }
    for name, alone in equivalent(seen, 1.0, {"a": 0.02, "b": 0.05}).items():
        assert alone.load * service[name] == pytest.approx(busy)
        assert alone.in_flight == pytest.approx(busy / (1.0 - busy))
        assert alone.in_flight == pytest.approx(alone.load * (alone.mean or 0.0))
    assert equivalent(seen, 0.0, {"a": 0.02, "b": 0.05}) == seen
    assert equivalent(seen, 1.0, {}) == seen


def test_what_a_neighbour_does_is_learned_and_is_no_change() -> None:
    run, coupled, apart = Run(BOX, 1), CoupledEstimator(box(None)), CoupledEstimator(box(0.0))
    run.window(USUAL, 10.0)
    for window in range(36):
        demands = {**USUAL, "rb": 40.0 * (0.6, 1.2, 0.9, 1.3)[window // 3 % 4]}
        observation = run.window(demands, 2.0)
        for estimator in (coupled, apart):
            estimator.update(observation, BOX.weights)
    assert coupled.topology.couplings["box"] in (0.5, 0.75, 1.0)
    assert coupled.estimates["a"].changed_at is None
    truth = BOX.own_times({"ra": 80.0, "rb": 20.0})["a"]
    loads = {"a": 80.0, "b": 20.0}
    assert told(coupled, loads)["a"] == pytest.approx(truth, rel=0.15)
    assert told(apart, loads)["a"] > 1.3 * truth


def test_a_neighbour_that_gets_busier_for_good_is_no_change() -> None:
    run, coupled, apart = Run(BOX, 0), CoupledEstimator(box(None)), CoupledEstimator(box(0.0))
    for window in range(30):
        demands = {**USUAL, "rb": 20.0 if window < 20 else 48.0}
        observation = run.window(demands, 2.0)
        for estimator in (coupled, apart):
            estimator.update(observation, BOX.weights)
    assert coupled.estimates["a"].changed_at is None
    assert apart.estimates["a"].changed_at is not None


def test_a_coupling_that_is_told_is_kept() -> None:
    run, coupled = Run(BOX, 2), CoupledEstimator(box(0.9))
    for _ in range(8):
        coupled.update(run.window(USUAL, 2.0), BOX.weights)
    assert coupled.topology.couplings == {"box": 0.9}
    assert set(coupled.estimates) == {"a", "b"}


def test_a_caller_is_known_by_its_own_time() -> None:
    run, coupled = Run(FRONT, 4), CoupledEstimator(CALLING)
    run.window({"shop": 120.0}, 10.0)
    for _ in range(20):
        coupled.update(run.window({"shop": 120.0}, 2.0), FRONT.weights)
    [call] = coupled.topology.by_name["front"].calls
    assert call.ratio == pytest.approx(1.5, rel=0.05)
    front = coupled.estimates["front"]
    own = FRONT.own_times({"shop": 120.0})["front"]
    assert front.curve.latency(120.0) == pytest.approx(own, rel=0.1)
    # What is called gets slower; the caller itself does not.
    slower = {**FRONT.clusters, "fast": Service((("two", 0.016),))}
    run.machines = Machines(FRONT.cores, slower, FRONT.weights)
    for _ in range(10):
        after = coupled.update(run.window({"shop": 120.0}, 2.0), FRONT.weights)
    assert after["fast"].changed_at is not None
    assert after["front"].changed_at is None
    assert after["front"].curve.latency(120.0) == pytest.approx(own, rel=0.12)


def test_a_caller_says_nothing_while_what_it_calls_is_unknown() -> None:
    coupled = CoupledEstimator(CALLING)
    seen = ClusterObservation(load=10.0, throughput=10.0, mean=0.1, in_flight=1.0)
    window = Observation(2.0, 2.0, {"front": seen}, {"shop": 10.0, "stock": 15.0})
    assert coupled.update(window, FRONT.weights) == {}


@pytest.mark.parametrize(
    ("machines", "topology", "demands"),
    [(BOX, box(None), USUAL), (FRONT, CALLING, {"shop": 120.0})],
    ids=["host", "calls"],
)
def test_what_is_journaled_is_resumed(
    machines: Machines, topology: Topology, demands: dict[str, float]
) -> None:
    run, coupled = Run(machines, 5), CoupledEstimator(topology)
    for _ in range(8):
        coupled.update(run.window(demands, 2.0), machines.weights)
    data = json.loads(json.dumps(coupled.to_dict(), allow_nan=False))
    resumed = CoupledEstimator.from_dict(topology, data)
    assert resumed.topology == coupled.topology
    assert resumed.estimates.keys() == coupled.estimates.keys()
    for name, one in coupled.estimates.items():
        assert resumed.estimates[name].curve.capacity == pytest.approx(one.curve.capacity, rel=0.2)


def test_a_host_that_is_told_otherwise_begins_anew() -> None:
    run, coupled = Run(BOX, 6), CoupledEstimator(box(None))
    for _ in range(3):
        coupled.update(run.window(USUAL, 2.0), BOX.weights)
    assert CoupledEstimator.from_dict(box(1.0), coupled.to_dict()).estimates == {}


def test_what_was_learned_before_there_were_couplings_is_kept() -> None:
    run, plain = Run(BOX, 7), Estimator()
    for _ in range(3):
        plain.update(run.window(USUAL, 2.0))
    apart = Topology((Cluster("a"), Cluster("b")), box(None).routes)
    assert CoupledEstimator.from_dict(apart, plain.to_dict()).estimates == plain.estimates
    assert CoupledEstimator.from_dict(box(None), plain.to_dict()).estimates == {}
