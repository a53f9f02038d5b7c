from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import block_diag, csr_array

from bench.optimiser.pairwise import LEVELS, Pairwise, glass, smooth
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.decomposition import WHOLE, block_size, lowest, partition, search, sweep
from eigenmesh.optimize.encoding import rungs_of


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


def best_of_all(cost: Pairwise) -> float:
    count = len(cost.rungs)
    every = rungs_of(np.arange(LEVELS**count), count, LEVELS)
    return min(cost.at(rungs).value() for rungs in every)


@pytest.mark.parametrize("family", [smooth, glass])
@pytest.mark.parametrize("seed", range(3))
def test_one_block_is_solved_and_several_come_near(
    family: Callable[[np.random.Generator, int], Pairwise], seed: int
) -> None:
    cost = family(np.random.default_rng(seed), 5)
    whole = cost.at(cost.rungs)
    found = sweep(whole, lowest, 5)
    assert (found.blocks, found.solved, found.evaluations) == (1, 1, LEVELS**5)
    assert whole.value() == pytest.approx(best_of_all(cost))
    parts = cost.at(cost.rungs)
    sweep(parts, lowest, 3)
    assert whole.value() <= parts.value() + 1e-9
    assert parts.value() <= cost.value()


@pytest.mark.parametrize("seed", range(3))
def test_blocks_and_other_partitions_each_help(seed: int) -> None:
    """Couplings of both signs: better than cluster by cluster, and no worse with every sweep."""
    cost = glass(np.random.default_rng(seed), 120)
    values = {}
    for size, most in ((1, 50), (5, 1), (5, 50)):
        walk = cost.at(cost.rungs)
        sweep(walk, lowest, size, most=most)
        values[size, most] = walk.value()
    assert values[5, 50] < values[5, 1] < 0.0
    assert values[5, 50] < values[1, 50]


def test_no_block_of_the_last_partitions_can_be_improved() -> None:
    cost = glass(np.random.default_rng(7), 40)
    sweep(cost, lowest, 4, most=100)
    for k in range(40):
        assert cost.changes([k]).min() >= -1e-9


def test_a_sweep_ends_in_time() -> None:
    cost = glass(np.random.default_rng(1), 60)
    calls = iter(range(1000))
    found = sweep(cost, lowest, 3, in_time=lambda: next(calls) < 8)
    assert found.solved <= 8


def test_a_solver_that_finds_nothing_better_moves_nothing() -> None:
    cost = glass(np.random.default_rng(1), 30)

    def worst(changes: Array, here: int) -> int:
        return int(changes.argmax())

    sweep(cost, worst, 3)
    assert not cost.rungs.any()


@pytest.mark.parametrize("seed", range(4))
def test_kicks_lead_out_of_local_minima(seed: int) -> None:
    cost = glass(np.random.default_rng(seed), 6)
    walk = cost.at(cost.rungs)
    found = search(walk, lowest, 2, kicks=30, seed=seed)
    assert walk.value() == pytest.approx(best_of_all(cost))
    once = sweep(cost, lowest, 2)
    assert found.sweeps > once.sweeps
    assert walk.value() <= cost.value() + 1e-9


def test_meshes_that_can_be_are_decided_whole() -> None:
    assert block_size(10, LEVELS, 5) == 10
    assert LEVELS**10 == WHOLE
    assert block_size(11, LEVELS, 5) == 5
    assert block_size(3, 64, 1) == 3
    cost = glass(np.random.default_rng(5), 8)
    found = search(cost, lowest, block_size(8, LEVELS, 5), kicks=9)
    assert (found.blocks, found.solved) == (1, 1)
    assert cost.changes(range(8)).min() == 0.0


def test_parts_that_do_not_touch_are_kept_one_by_one() -> None:
    """Twelve meshes of six clusters in one: every kick gains somewhere and loses elsewhere."""
    parts = [glass(np.random.default_rng(seed), 6) for seed in range(12)]
    pairs = block_diag([part.pairs for part in parts], format="csr")
    fields = np.concatenate([part.fields for part in parts])
    cost = Pairwise(fields, csr_array(pairs), np.zeros(72, dtype=np.int64))
    search(cost, lowest, 2, kicks=80, seed=3)
    assert cost.value() == pytest.approx(sum(map(best_of_all, parts)))


@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_kicks_never_make_it_worse(count: int, seed: int) -> None:
    cost = glass(np.random.default_rng(seed), count)
    once = cost.at(cost.rungs)
    sweep(once, lowest, 2)
    search(cost, lowest, 2, kicks=3, seed=seed)
    assert cost.value() <= once.value() + 1e-9
    assert cost.value() == pytest.approx(cost.at(cost.rungs).value())


def test_a_sweep_begins_where_it_is_told() -> None:
    """Two meshes that are not coupled: the second is left alone."""
    halves = [glass(np.random.default_rng(seed), 20) for seed in (1, 2)]
    pairs = csr_array(block_diag([half.pairs for half in halves], format="csr"))
    fields = np.concatenate([half.fields for half in halves])
    cost = Pairwise(fields, pairs, np.zeros(40, dtype=np.int64))
    sweep(cost, lowest, 3, near=np.arange(20))
    assert cost.rungs[:20].any()
    assert not cost.rungs[20:].any()
