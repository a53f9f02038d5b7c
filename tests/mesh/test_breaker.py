"""The closed forms against exact chains, and their shape."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh import (
    Burstiness,
    MeshError,
    admitted_latency,
    blocked_fraction,
    goodput,
)
from tests.mesh.chain import Chain

LOADS = (0.5, 0.8, 1.0, 1.2, 1.5)
T0 = 0.02

rhos = st.floats(0.05, 2.0)
limits = st.integers(2, 300)
slots = st.sampled_from([1.0, 3.0, 8.0, 40.0])
bursts = st.builds(Burstiness, st.floats(0.0, 0.8), st.floats(0.01, 10.0))


@pytest.mark.parametrize("c", [4, 8, 32])
@pytest.mark.parametrize("swing", [0.0, 0.3, 0.5])
def test_blocked_fraction_is_within_three_points_of_the_exact_chain(c: int, swing: float) -> None:
    for rho, m, lasts in product(LOADS, (c + 2, 2 * c, 4 * c), (0.02, 0.1, 0.5, 2.0)):
        exact = Chain(rho * c / T0, c, T0, m, swing, lasts).blocked
        told = blocked_fraction(rho * c / T0, T0, c / T0, m, Burstiness(swing, lasts))
        assert told == pytest.approx(exact, abs=0.03), (rho, m, lasts)


@pytest.mark.parametrize("swing", [0.0, 0.5])
def test_goodput_and_latency_follow_the_exact_chain(swing: float) -> None:
    c, slo = 8, 0.1
    for rho, m, lasts in product(LOADS, (10, 16, 32), (0.1, 1.0)):
        chain = Chain(rho * c / T0, c, T0, m, swing, lasts)
        bursty = Burstiness(swing, lasts)
        told = goodput(rho * c / T0, T0, c / T0, m, slo, bursty)
        assert told == pytest.approx(chain.goodput(slo), abs=0.06), (rho, m, lasts)
        latency = admitted_latency(rho * c / T0, T0, c / T0, m, burstiness=bursty)
        assert latency == pytest.approx(chain.latency, rel=0.15), (rho, m, lasts)


def test_burstiness_costs_what_poisson_would_not() -> None:
    calm = blocked_fraction(320, T0, 400, 24)
    assert blocked_fraction(320, T0, 400, 24, Burstiness(0.5, 1.0)) > calm + 0.05
    # What is over before the queue has noticed costs nothing.
    assert blocked_fraction(320, T0, 400, 24, Burstiness(0.5, 1e-6)) == pytest.approx(
        calm, rel=0.01
    )


@given(rhos, slots, limits, bursts)
def test_more_room_blocks_less_and_more_load_blocks_more(
    rho: float, c: float, limit: int, bursty: Burstiness
) -> None:
    here = blocked_fraction(rho * c / T0, T0, c / T0, limit, bursty)
    assert 0.0 <= here <= 1.0
    assert blocked_fraction(rho * c / T0, T0, c / T0, limit + 1, bursty) <= here + 1e-9
    assert blocked_fraction(1.1 * rho * c / T0, T0, c / T0, limit, bursty) >= here - 1e-9


@given(rhos, slots, limits, bursts)
def test_what_is_rejected_is_convex_in_the_load(
    rho: float, c: float, limit: int, bursty: Burstiness
) -> None:
    loads = np.array([0.95, 1.0, 1.05]) * rho * c / T0
    lost = loads * blocked_fraction(loads, T0, c / T0, limit, bursty)
    assert lost[0] + lost[2] - 2.0 * lost[1] >= -1e-4 * lost[2] - 1e-9


@given(rhos, slots, limits, bursts, st.floats(0.01, 1.0))
def test_goodput_is_at_most_what_is_admitted(
    rho: float, c: float, limit: int, bursty: Burstiness, slo: float
) -> None:
    load = rho * c / T0
    good = goodput(load, T0, c / T0, limit, slo, bursty)
    assert 0.0 <= good <= 1.0 - blocked_fraction(load, T0, c / T0, limit, bursty) + 1e-9
    assert goodput(load, T0, c / T0, limit, 1.5 * slo, bursty) >= good - 1e-9


@pytest.mark.parametrize(("swing", "lasts"), [(-0.1, 1.0), (1.1, 1.0), (0.3, 0.0)])
def test_nonsense_is_refused(swing: float, lasts: float) -> None:
    with pytest.raises(MeshError, match="burstiness"):
        Burstiness(swing, lasts)
