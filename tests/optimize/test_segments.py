from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.optimize.segments import Segments


@given(st.integers(1, 80), st.integers(1, 60), st.booleans(), st.integers(0, 2**32 - 1))
def test_sums_and_rows_are_those_of_the_groups(
    edges: int, groups: int, ordered: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    index = np.concatenate((np.arange(groups), rng.integers(0, groups, edges)))
    index = np.sort(index) if ordered else rng.permutation(index)
    segments = Segments(index)
    values = rng.normal(size=(2, 3, index.size))
    expected = [values[..., index == group].sum(axis=-1) for group in range(groups)]
    np.testing.assert_allclose(segments.sum(values), np.stack(expected, axis=-1), atol=1e-12)
    assert segments.sum(values[0, 0]).shape == (groups,)
    assert np.array_equal(segments.spread(np.arange(float(groups))), index)
    parts = segments.rows()
    assert len({part.shape[1].bit_length() for part in parts}) >= len(parts) - 1
    rows = [row[row < index.size] for part in parts for row in part]
    assert sorted(index[row[0]] for row in rows) == list(range(groups))
    for row in rows:
        assert np.array_equal(row, np.flatnonzero(index == index[row[0]]))
