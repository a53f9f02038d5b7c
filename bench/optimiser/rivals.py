"""What else finds a good state of a cost table: each gets the table and an incumbent, gives a
state.

Annealing and tabu search are those of `dwave-samplers`. They take quadratic models only: a rung is
written in plain binary, which makes the families smooth and glass exact, and of the others the
quadratic part is fitted by least squares; their answers are judged by the true cost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from dwave.samplers import SimulatedAnnealingSampler, TabuSampler

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints, rungs_of, state_of

LEVELS = 4
RESTARTS = 10
READS = 20

Rival = Callable[[Array, int, int], int]
"""(costs, incumbent's basis state, seed) to a basis state."""


def one_pass(costs: Array, state: int) -> int:
    """Every cluster once moves to its best rung, the others held."""
    clusters = (costs.size.bit_length() - 1) // 2
    shifts = 2 * np.arange(clusters - 1, -1, -1)
    for shift in shifts.tolist():
        moves = (state & ~(3 << shift)) | (np.arange(LEVELS) << shift)
        best = int(moves[costs[moves].argmin()])
        state = best if costs[best] < costs[state] else state
    return state


def greedy(costs: Array, start: int, seed: int = 0) -> int:
    """Passes until none improves."""
    while True:
        after = one_pass(costs, start)
        if after == start:
            return start
        start = after


def greedy_restarts(costs: Array, start: int, seed: int = 0) -> int:
    rng = np.random.default_rng(seed)
    starts = [start, *rng.integers(0, costs.size, RESTARTS - 1).tolist()]
    return min((greedy(costs, s) for s in starts), key=lambda s: float(costs[s]))


def minimum(costs: Array, start: int, seed: int = 0) -> int:
    return int(costs.argmin())


def uniform_samples(costs: Array, start: int, seed: int = 0, shots: int = 1024) -> int:
    drawn = np.random.default_rng(seed).integers(0, costs.size, shots)
    return int(drawn[costs[drawn].argmin()])


def _binary(clusters: int) -> Array:
    """(states, 2 clusters): the rungs of every state in plain binary."""
    rungs = rungs_of(np.arange(LEVELS**clusters), clusters, LEVELS)
    return np.stack((rungs >> 1, rungs & 1), axis=-1).reshape(len(rungs), -1).astype(np.float64)


@lru_cache(maxsize=4)
def _features(clusters: int, rows: int) -> tuple[Ints, Array]:
    """Some states, and constant, bits and products of bits of each."""
    states = np.arange(LEVELS**clusters)
    if states.size > rows:
        states = np.sort(np.random.default_rng(0).choice(states, rows, replace=False))
    bits = _binary(clusters)[states]
    i, j = np.triu_indices(bits.shape[1], 1)
    return states, np.column_stack((np.ones(len(states)), bits, bits[:, i] * bits[:, j]))


Model = tuple[dict[int, float], dict[tuple[int, int], float]]
"""Coefficients of bits and of pairs of bits."""


def quadratic(costs: Array) -> Model:
    """The least-squares quadratic model in the bits: exact where the cost is one."""
    clusters = (costs.size.bit_length() - 1) // 2
    states, features = _features(clusters, 20_000)
    found = np.linalg.lstsq(features, costs[states], rcond=None)[0]
    n = 2 * clusters
    i, j = np.triu_indices(n, 1)
    linear = {k: float(found[1 + k]) for k in range(n)}
    pairs = zip(i.tolist(), j.tolist(), found[1 + n :].tolist(), strict=True)
    return linear, {(a, b): c for a, b, c in pairs}


def _sampled(sampler: Any, costs: Array, model: Model, **options: Any) -> int:
    linear, pairs = model
    answer = sampler.sample_qubo({(k, k): v for k, v in linear.items()} | pairs, **options)
    bits = answer.record.sample[:, np.argsort(list(answer.variables))].astype(np.int64)
    rungs = 2 * bits[:, ::2] + bits[:, 1::2]
    states = state_of(rungs, LEVELS)
    return int(states[costs[states].argmin()])


def annealing(costs: Array, model: Model, seed: int) -> int:
    sampler = SimulatedAnnealingSampler()
    return _sampled(sampler, costs, model, num_reads=READS, num_sweeps=200, seed=seed)


def tabu(costs: Array, model: Model, seed: int) -> int:
    return _sampled(TabuSampler(), costs, model, num_reads=4, timeout=5, seed=seed)
