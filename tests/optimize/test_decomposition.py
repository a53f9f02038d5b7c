from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from eigenmesh.optimize.decomposition import partition


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_blocks_cover_every_cluster_once_in_even_sizes(count: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coupling = rng.random((count, count)) * (rng.random((count, count)) < rng.random())
    blocks = partition(csr_array(coupling), size)
    assert sorted(k for block in blocks for k in block) == list(range(count))
    sizes = {len(block) for block in blocks}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_coupled_clusters_stay_together() -> None:
    coupling = np.zeros((6, 6))
    for a, b in ((0, 3), (3, 5), (1, 2), (2, 4)):
        coupling[a, b] = 1.0
    assert sorted(partition(csr_array(coupling), 3)) == [[0, 3, 5], [1, 2, 4]]
