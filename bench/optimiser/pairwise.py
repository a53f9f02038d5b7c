"""Large meshes of rungs with pairwise couplings: the families smooth and glass on sparse graphs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints, gray_inverse

LEVELS = 4
X = np.arange(LEVELS) - (LEVELS - 1) / 2.0
"""What a rung counts for in a coupling."""


class Pairwise:
    """Cost sum_k fields[k, rung] + sum_(j<k) J_jk x_j x_k over rungs; a `decomposition.Walk`.

    fields (clusters, LEVELS); pairs: symmetric (clusters, clusters), nothing on its diagonal.
    """

    levels = LEVELS

    def __init__(self, fields: Array, pairs: csr_array, rungs: Ints) -> None:
        self.fields = fields
        self.pairs = pairs
        self.restart(rungs)

    def restart(self, rungs: Ints) -> None:
        self.rungs = rungs.copy()
        self.pull: Array = self.pairs @ X[rungs]
        """What the others pull each cluster with, per unit of its x."""

    def at(self, rungs: Ints) -> Pairwise:
        return Pairwise(self.fields, self.pairs, rungs)

    def value(self) -> float:
        own = self.fields[np.arange(len(self.rungs)), self.rungs].sum()
        return float(own + 0.5 * X[self.rungs] @ (self.pairs @ X[self.rungs]))

    def coupling(self) -> csr_array:
        return abs(self.pairs)

    def changes(self, block: Sequence[int]) -> Array:
        chosen = list(block)
        inside = self._inside(chosen)
        pull = self.pull[chosen] - inside @ X[self.rungs[chosen]]
        order = gray_inverse(np.arange(LEVELS))
        alone = (self.fields[chosen] + pull[:, None] * X)[:, order]
        x = X[order]
        out = np.zeros((1,) * len(chosen))
        for i in range(len(chosen)):
            out = out + alone[i].reshape([-1 if k == i else 1 for k in range(len(chosen))])
            for j in range(i):
                if inside[j, i]:
                    shape = [LEVELS if k in (i, j) else 1 for k in range(len(chosen))]
                    out = out + (inside[j, i] * np.outer(x, x)).reshape(shape)
        flat = out.ravel()
        here = np.ravel_multi_index(order.argsort()[self.rungs[chosen]], out.shape)
        changes: Array = flat - flat[here]
        return changes

    def move(self, block: Sequence[int], rungs: Ints) -> bool:
        chosen = np.asarray(block)
        moved = X[rungs] - X[self.rungs[chosen]]
        bent = self.pairs[chosen][:, chosen] @ moved
        change = moved @ (self.pull[chosen] + 0.5 * bent)
        change += (self.fields[chosen, rungs] - self.fields[chosen, self.rungs[chosen]]).sum()
        if change >= 0.0:
            return False
        start, end = self.pairs.indptr[chosen], self.pairs.indptr[chosen + 1]
        for step, a, b in zip(moved.tolist(), start.tolist(), end.tolist(), strict=True):
            self.pull[self.pairs.indices[a:b]] += step * self.pairs.data[a:b]
        self.rungs[chosen] = rungs
        return True

    def _inside(self, chosen: list[int]) -> Array:
        place = {k: i for i, k in enumerate(chosen)}
        out = np.zeros((len(chosen),) * 2)
        for i, k in enumerate(chosen):
            a, b = self.pairs.indptr[k], self.pairs.indptr[k + 1]
            for j, value in zip(self.pairs.indices[a:b], self.pairs.data[a:b], strict=True):
                if int(j) in place:
                    out[i, place[int(j)]] = value
        return out


def smooth(rng: np.random.Generator, clusters: int) -> Pairwise:
    """Every cluster gains from a higher rung; sharing a host costs the square of its load. Hosts of
    eight clusters, every cluster on two of them, so that the hosts hang together."""
    rows = np.tile(np.arange(clusters), 2)
    size = max(1, clusters // 8)
    host = np.concatenate((rng.permutation(clusters) % size, rng.permutation(clusters) % size))
    use = coo_array((rng.uniform(0.5, 1.5, 2 * clusters), (rows, host)), (clusters, size)).tocsr()
    joint = 0.3 * (use @ use.T).tocsr()
    own = joint.diagonal()
    joint.setdiag(0.0)
    joint.eliminate_zeros()
    # The square of a host's load in rungs, which begin at 0, written in x.
    rung = np.arange(LEVELS)
    gain = rng.uniform(0.5, 2.0, clusters) * use.sum(axis=1)
    shift = joint.sum(axis=1) * 1.5
    fields = 0.5 * own[:, None] * rung**2 - 1.5 * gain[:, None] * rung + shift[:, None] * X
    return Pairwise(fields, joint.tocsr(), np.zeros(clusters, dtype=np.int64))


def glass(rng: np.random.Generator, clusters: int) -> Pairwise:
    """Fields, and couplings of both signs: six to a cluster, four of them inside its block of ten
    (a team's services), two anywhere."""
    rows, columns = [], []
    for _ in range(2):
        near = (np.arange(clusters) // 10) * 10 + rng.integers(0, 10, clusters)
        rows.append(np.arange(clusters))
        columns.append(np.minimum(near, clusters - 1))
    rows.append(np.arange(clusters))
    columns.append(rng.integers(0, clusters, clusters))
    i, j = np.concatenate(rows), np.concatenate(columns)
    keep = i != j
    half = coo_array((rng.normal(size=keep.sum()), (i[keep], j[keep])), (clusters,) * 2).tocsr()
    fields = rng.normal(size=(clusters, 1)) * X
    return Pairwise(fields, (half + half.T).tocsr(), np.zeros(clusters, dtype=np.int64))
