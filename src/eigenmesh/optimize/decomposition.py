"""Splitting clusters into blocks that one circuit holds."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scipy.sparse import csr_array


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
