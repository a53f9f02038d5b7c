"""Meshes larger than a circuit: blocks of strongly coupled clusters, solved one after the other.

A block is solved with the rest held; a sweep goes over all blocks of a partition. What holds one
partition in a local minimum are the couplings that it cuts, so the next partition prefers those:
couplings inside the blocks count for less once they have had their turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints, rungs_of, state_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BlockSolver = Callable[[Array, int], int]
"""(costs of all basis states of a block, the state it is in) to a state, if possible a better."""

PATIENCE = 3
"""Partitions in a row in which a cluster and its neighbours must rest to be left alone."""
KICKED = 10
"""One cluster in so many is put on a random rung by a kick."""
_WORN = 0.3
"""What a coupling counts for after each turn inside a block."""


class Walk(Protocol):
    """A cost of the rungs of many clusters, and where it stands (`walk.RungWalk`).

    changes: how much the cost changes with every basis state of a block; a state's index is its
    clusters' Gray codes, the first cluster's in front. move: the block to these rungs, if that
    lowers the cost; says whether it did. restart: stand at other rungs.
    """

    @property
    def levels(self) -> int: ...

    @property
    def rungs(self) -> Ints: ...

    def coupling(self) -> csr_array: ...

    def value(self) -> float: ...

    def restart(self, rungs: Ints) -> None: ...

    def changes(self, block: Sequence[int]) -> Array: ...

    def move(self, block: Sequence[int], rungs: Ints) -> bool: ...


@dataclass(frozen=True)
class Swept:
    """What a search over blocks took. evaluations: entries of the blocks' tables."""

    sweeps: int
    blocks: int
    solved: int
    evaluations: int


def lowest(changes: Array, here: int) -> int:
    """The exhaustive block solver."""
    return int(changes.argmin())


def sweep(
    walk: Walk,
    solve: BlockSolver,
    size: int,
    *,
    most: int = 20,
    in_time: Callable[[], bool] = lambda: True,
) -> Swept:
    """Moves the walk to rungs that no block of at most `size` clusters improves, in the last
    PATIENCE partitions; stops before that after `most` sweeps, or when it is no longer in time."""
    coupling = walk.coupling()
    ends, others = coupling.indptr, coupling.indices
    rows = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    owner = np.empty(len(ends) - 1, dtype=np.int64)
    turns = np.full(len(ends) - 1, PATIENCE)
    sweeps = count = solved = evaluations = 0
    while sweeps < most and turns.any() and in_time():
        blocks = partition(coupling, size)
        count = len(blocks)
        for number, block in enumerate(blocks):
            owner[block] = number
            if not turns[block].any():
                continue
            if not in_time():
                break
            changes = walk.changes(block)
            evaluations += changes.size
            turns[block] = np.maximum(turns[block] - 1, 0)
            if np.ptp(changes) == 0.0:
                continue  # every rung is as good
            here = int(state_of(walk.rungs[block], walk.levels))
            state = solve(changes, here)
            solved += 1
            if changes[state] >= changes[here]:
                continue
            if walk.move(block, rungs_of(state, len(block), walk.levels)):
                for k in block:
                    turns[others[ends[k] : ends[k + 1]]] = PATIENCE
        sweeps += 1
        if count == 1:
            break
        coupling.data[owner[rows] == owner[others]] *= _WORN
    return Swept(sweeps, count, solved, evaluations)


def search(
    walk: Walk,
    solve: BlockSolver,
    size: int,
    *,
    kicks: int,
    seed: int = 0,
    most: int = 20,
    in_time: Callable[[], bool] = lambda: True,
) -> Swept:
    """`sweep`, and again from the best rungs with a tenth of the clusters on random ones: `kicks`
    times, or until it is no longer in time. (An iterated local search: H. Lourenco et al., Handbook
    of Metaheuristics, 2003.)"""
    rng = np.random.default_rng(seed)
    found = sweep(walk, solve, size, most=most, in_time=in_time)
    best, value = walk.rungs.copy(), walk.value()
    for _ in range(kicks):
        if not in_time():
            break
        kicked = best.copy()
        chosen = rng.choice(len(best), -(-len(best) // KICKED), replace=False)
        kicked[chosen] = rng.integers(0, walk.levels, len(chosen))
        walk.restart(kicked)
        more = sweep(walk, solve, size, most=most, in_time=in_time)
        found = Swept(
            found.sweeps + more.sweeps,
            found.blocks,
            found.solved + more.solved,
            found.evaluations + more.evaluations,
        )
        if walk.value() < value:
            best, value = walk.rungs.copy(), walk.value()
    walk.restart(best)
    return found


def partition(coupling: csr_array, size: int) -> list[list[int]]:
    """Blocks of at most `size` clusters, of even sizes, strongly coupled clusters together.

    coupling: sparse (n, n), 0 or more, of any unit; both directions count. Greedy: a block starts
    at the cluster with the most coupling to what is left and takes the one most coupled to it
    until it is full. O(p log n) for p couplings.
    """
    strength = (coupling + coupling.T).tocsr()
    count = strength.shape[0]
    ends, others, pulls = strength.indptr, strength.indices.tolist(), strength.data.tolist()
    left = strength.sum(axis=1).tolist()
    free = [True] * count
    # Coupling to what is left only falls: an entry that is out of date is too high, and is found.
    firsts = [(-pull, k) for k, pull in enumerate(left)]
    heapq.heapify(firsts)

    def strongest() -> int:
        while True:
            pull, k = heapq.heappop(firsts)
            if not free[k]:
                continue
            if -pull <= left[k]:
                return k
            heapq.heappush(firsts, (-left[k], k))

    blocks: list[list[int]] = []
    parts = -(-count // size)
    remaining = count
    for part in range(parts):
        wanted = -(-remaining // (parts - part))
        remaining -= wanted
        block: list[int] = []
        near: dict[int, float] = {}
        while len(block) < wanted:
            chosen = max(near, key=near.__getitem__) if near else strongest()
            near.pop(chosen, None)
            free[chosen] = False
            block.append(chosen)
            for i in range(ends[chosen], ends[chosen + 1]):
                k = others[i]
                left[k] -= pulls[i]
                if free[k]:
                    near[k] = near.get(k, 0.0) + pulls[i]
        blocks.append(sorted(block))
    return blocks
