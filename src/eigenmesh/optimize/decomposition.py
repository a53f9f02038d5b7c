"""Splitting clusters into blocks that one circuit holds."""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array


def partition(coupling: Array, size: int) -> list[list[int]]:
    """Blocks of at most `size` clusters, of even sizes, strongly coupled clusters together.

    coupling: (n, n), of any unit; both directions count. Greedy: a block starts at the cluster
    with the most coupling to what is left and takes the one most coupled to it until it is full.
    """
    count = len(coupling)
    strength = coupling + coupling.T
    np.fill_diagonal(strength, 0.0)
    free = np.ones(count, dtype=bool)
    blocks = []
    parts = -(-count // size)
    for part in range(parts):
        left = int(free.sum())
        wanted = -(-left // (parts - part))
        first = int(np.where(free, strength @ free, -np.inf).argmax())
        block, pull = [first], strength[first].copy()
        free[first] = False
        while len(block) < wanted:
            nearest = int(np.where(free, pull, -np.inf).argmax())
            free[nearest] = False
            block.append(nearest)
            pull += strength[nearest]
        blocks.append(sorted(block))
    return blocks
