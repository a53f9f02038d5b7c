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

Task = tuple[Array, int]
"""Costs of all basis states of a block, and the state it is in."""
BlockSolver = Callable[[Array, int], int]
"""From a task to a state, if possible a better one."""

WHOLE = 2**20
"""Combinations up to which a mesh is one block, every one of them tried: a third of a second."""
PATIENCE = 2
"""Partitions in a row in which a cluster and its neighbours must rest to be left alone."""
KICKED, AROUND = 20, 4
"""A kick puts one cluster in so many on a random rung, and so many of its neighbours with it (from
12 to 1,000 clusters of random couplings better than as many clusters apart)."""
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
    near: Ints | None = None,
    together: Callable[[list[Task]], list[int]] | None = None,
    at_once: int = 1,
) -> Swept:
    """Moves the walk to rungs that no block of at most `size` clusters improves, in the last
    PATIENCE partitions; stops before that after `most` sweeps, or when it is no longer in time.

    near: the clusters to begin with, and those coupled to them; None: all. together: solves up to
    `at_once` blocks in place of `solve`, each as if the others stayed; whether they move is judged
    one after the other.
    """
    if together is None:

        def together(tasks: list[Task]) -> list[int]:
            return [solve(changes, here) for changes, here in tasks]

    coupling = walk.coupling()
    ends, others = coupling.indptr, coupling.indices
    turns = np.full(len(ends) - 1, PATIENCE if near is None else 0)

    def wake(clusters: Sequence[int] | Ints) -> None:
        turns[clusters] = PATIENCE
        for k in clusters:
            turns[others[ends[k] : ends[k + 1]]] = PATIENCE

    if near is not None:
        wake(near)
    sweeps = count = solved = evaluations = 0
    while sweeps < most and turns.any() and in_time():
        awake = np.flatnonzero(turns)
        among = coupling if len(awake) == len(turns) else coupling[awake][:, awake]
        blocks = [awake[block].tolist() for block in partition(among, size)]
        count = max(count, len(blocks))
        for start in range(0, len(blocks), at_once):
            if not in_time():
                break
            tasks: list[Task] = []
            asked: list[list[int]] = []
            for block in blocks[start : start + at_once]:
                changes = walk.changes(block)
                evaluations += changes.size
                turns[block] -= 1
                if np.ptp(changes) > 0.0:  # otherwise every rung is as good
                    tasks.append((changes, int(state_of(walk.rungs[block], walk.levels))))
                    asked.append(block)
            solved += len(tasks)
            for block, (changes, here), state in zip(asked, tasks, together(tasks), strict=True):
                if changes[state] >= changes[here]:
                    continue
                if walk.move(block, rungs_of(state, len(block), walk.levels)):
                    kept = turns[block]  # the block itself is at its best
                    wake(block)
                    turns[block] = kept
        sweeps += 1
        if len(awake) <= size:
            break
        owner = np.full(len(turns), -1)
        for number, block in enumerate(blocks):
            owner[block] = number
        rows = np.repeat(np.arange(len(turns)), np.diff(ends))
        inside = (owner[rows] >= 0) & (owner[rows] == owner[others])
        coupling.data[inside] *= _WORN
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
    """`sweep`, then `kicks`: neighbours here and there go on random rungs, and the mesh around them
    is swept anew; until it is no longer in time.

    What then differs from the best rungs so far falls into parts that are not coupled. Each is
    judged by itself and kept if it is better, so that a large mesh gains from many kicks at once.
    (An iterated local search, H. Lourenco et al., Handbook of Metaheuristics, 2003, with the
    partition crossover of D. Whitley et al., GECCO 2009.)
    """
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(seed)
    found = sweep(walk, solve, size, most=most, in_time=in_time)
    coupling = walk.coupling()
    best = walk.rungs.copy()
    if size >= len(best):
        return found
    for _ in range(kicks):
        if not in_time():
            break
        kicked = best.copy()
        chosen = _places(coupling, rng)
        kicked[chosen] = rng.integers(0, walk.levels, len(chosen))
        walk.restart(kicked)
        more = sweep(walk, solve, size, most=most, in_time=in_time, near=chosen)
        other = walk.rungs.copy()
        walk.restart(best)
        moved = np.flatnonzero(other != best)
        count, part = connected_components(coupling[moved][:, moved], directed=False)
        for number in range(count):
            block = moved[part == number].tolist()
            walk.move(block, other[block])
        best = walk.rungs.copy()
        found = Swept(
            found.sweeps + more.sweeps,
            found.blocks,
            found.solved + more.solved,
            found.evaluations + more.evaluations,
        )
    return found


def block_size(clusters: int, levels: int, size: int) -> int:
    """`size`, or all clusters where every combination of them can be tried."""
    return clusters if levels**clusters <= WHOLE else min(clusters, size)


def _places(coupling: csr_array, rng: np.random.Generator) -> Ints:
    """Clusters at random, and some of the neighbours of each."""
    ends, others, count = coupling.indptr, coupling.indices, coupling.shape[0]
    found = [rng.choice(count, -(-count // KICKED), replace=False)]
    for k in found[0]:
        near = others[ends[k] : ends[k + 1]]
        found.append(rng.choice(near, min(len(near), AROUND), replace=False))
    return np.unique(np.concatenate(found))


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
