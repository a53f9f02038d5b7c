"""The smallest limit that leaves a normal demand alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh import MeshError, blocked_fraction, least_limit


@given(st.floats(0.05, 0.95), st.floats(0.005, 0.5), st.floats(0.5, 40.0), st.floats(1e-4, 0.2))
def test_the_least_limit_is_the_least(rho: float, t0: float, slots: float, part: float) -> None:
    capacity = slots / t0
    load = rho * capacity
    limit = least_limit(load, t0, capacity, part)
    assert blocked_fraction(load, t0, capacity, limit) <= part
    assert limit == 1 or blocked_fraction(load, t0, capacity, limit - 1) > part


def test_beyond_the_capacity_every_limit_turns_away() -> None:
    with pytest.raises(MeshError, match="below the capacity of 100"):
        least_limit(100.0, 0.02, 100.0, 0.01)
