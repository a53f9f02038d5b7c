"""Shared hosts and calls, against the formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh import (
    Call,
    Calls,
    Cluster,
    Host,
    LatencyCurve,
    MeshError,
    Pools,
    Route,
    Topology,
)

KAPPAS = {"east": 0.4, "west": 1.0}
SHARED = Topology(
    (
        Cluster("a", "east"),
        Cluster("b", "west"),
        Cluster("c", "east"),
        Cluster("d"),
        Cluster("e", "west"),
        Cluster("f", "east"),
        Cluster("g", "alone"),
    ),
    (Route("r", tuple("abcdefg")),),
    tuple(Host(name, kappa) for name, kappa in KAPPAS.items()),
)
uses = st.lists(st.floats(0.0, 2.0), min_size=7, max_size=7).map(np.array)


@given(uses)
def test_neighbours_count_by_the_coupling(used: np.ndarray) -> None:
    names = SHARED.cluster_names
    felt = Pools(SHARED, names).felt(used)
    for k, name in enumerate(names):
        host = SHARED.by_name[name].host
        others = [
            used[j]
            for j, other in enumerate(names)
            if j != k and host is not None and SHARED.by_name[other].host == host
        ]
        assert felt[k] == pytest.approx(used[k] + KAPPAS.get(host or "", 0.0) * sum(others))


@given(uses, uses)
def test_what_is_felt_is_symmetric(one: np.ndarray, other: np.ndarray) -> None:
    pools = Pools(SHARED, SHARED.cluster_names)
    assert pools.felt(one) @ other == pytest.approx(one @ pools.felt(other))
    batch = pools.felt(np.stack([one, other])[:, None])
    assert np.array_equal(batch[:, 0], np.stack([pools.felt(one), pools.felt(other)]))


def test_one_processor_for_all_is_exact() -> None:
    """Classes of an M/G/1-PS queue: s_k / (1 - total utilisation)."""
    service, load = np.array([0.004, 0.010]), np.array([100.0, 30.0])
    topology = Topology(
        (Cluster("a", "h"), Cluster("b", "h")), (Route("r", ("a", "b")),), (Host("h", 1.0),)
    )
    felt = Pools(topology, ("a", "b")).felt(load * service)
    for k in range(2):
        seen = LatencyCurve(service[k], 1.0 / service[k]).latency(felt[k] / service[k])
        assert seen == pytest.approx(service[k] / (1.0 - load @ service))


def test_a_coupling_that_nobody_told_is_none_until_it_is_learned() -> None:
    topology = Topology((Cluster("a", "h"), Cluster("b", "h")), (Route("r", ("a", "b")),))
    assert topology.couplings == {"h": None}
    assert Pools(topology, ("a", "b")).none
    assert topology.strengths == {}
    learned = topology.with_learned({"h": 0.5}, {})
    assert learned.strengths == {"host h": 0.5}
    assert Pools(learned, ("a", "b")).felt(np.array([0.1, 0.2])).tolist() == [0.2, 0.25]


CALLING = Topology(
    (
        Cluster("front-1", calls=(Call("users", 2.0), Call("stock", 0.5))),
        Cluster("front-2", calls=(Call("users"),)),
        Cluster("users", calls=(Call("stock", 1.0),)),
        Cluster("stock"),
    ),
    (
        Route("shop", ("front-1", "front-2")),
        Route("users", ("users",)),
        Route("stock", ("stock",)),
    ),
)


def test_calls_make_demand_and_pass_prices_on() -> None:
    topology = CALLING.with_learned({}, {("front-2", "users"): 3.0, ("front-1", "users"): 9.0})
    assert topology.strengths["front-1 calls users"] == 2.0, "what was told stays"
    assert topology.strengths["front-2 calls users"] == 3.0
    calls = Calls(topology, topology.cluster_names)
    assert calls.depth == 2
    made = calls.made(np.array([10.0, 1.0, 4.0, 7.0]))
    assert made.tolist() == [0.0, 2.0 * 10.0 + 3.0, 0.5 * 10.0 + 4.0]
    assert calls.passed_on(np.array([5.0, 1.0, 10.0])).tolist() == [7.0, 3.0, 10.0, 0.0]
    assert Calls(SHARED, SHARED.cluster_names).depth == 0


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ((Call("r"),), "r -> r.*circle"),
        ((Call("s"),), "circle"),
        ((Call("nowhere", 1.0),), "use one of: r, s"),
        ((Call("s", -1.0),), "0 or more"),
        ((Call("s", 1.0), Call("s", 2.0)), "used twice"),
    ],
)
def test_calls_that_cannot_be_are_refused(calls: tuple[Call, ...], words: str) -> None:
    with pytest.raises(MeshError, match=words):
        Topology(
            (Cluster("a", calls=calls), Cluster("b", calls=(Call("r", 1.0),))),
            (Route("r", ("a",)), Route("s", ("b",))),
        )


@pytest.mark.parametrize("coupling", [-0.1, 1.1, float("nan")])
def test_a_coupling_is_a_fraction(coupling: float) -> None:
    with pytest.raises(MeshError, match="0 to 1"):
        Host("h", coupling)
