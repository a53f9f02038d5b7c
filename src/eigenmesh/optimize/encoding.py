"""How decisions become qubits: rungs by a Gray code, weights by a tree of rotations.

Wire 0 is the most significant bit of a basis state's index, as in PennyLane.

Rungs. A cluster's rung on a ladder of K = 2^b is written in b qubits by the reflected Gray code,
so one bit flip moves to a neighbouring rung (or across the code's mirror) and the plain X mixer
walks the ladder. Clusters follow each other: cluster 0 owns the first b wires.

Weights. K weights are the probabilities of the first K basis states of ceil(log2 K) qubits,
prepared by a binary tree: at each node a rotation RY(angle) sends sin^2(angle / 2) of the node's
probability to the right child. Nodes are numbered level by level; level l holds 2^l of them.
(M. Moettoenen et al., "Transformation of quantum states using uniformly controlled rotations",
Quantum Inf. Comput. 5, 2005.)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenmesh.mesh.curve import Array

Ints = NDArray[np.int64]


def gray(rung: ArrayLike) -> Ints:
    """Gray code word of a rung."""
    r = np.asarray(rung, dtype=np.int64)
    return r ^ (r >> 1)


def gray_inverse(code: ArrayLike) -> Ints:
    """Rung of a Gray code word (words up to 32 bits)."""
    r = np.asarray(code, dtype=np.int64)
    for shift in (1, 2, 4, 8, 16):
        r = r ^ (r >> shift)
    return r


def bits(levels: int) -> int:
    """Qubits that hold one of `levels` alternatives."""
    return (levels - 1).bit_length()


def rungs_of(states: ArrayLike, clusters: int, levels: int) -> Ints:
    """Basis states (N,) to rungs (N, clusters); levels is a power of two."""
    width = bits(levels)
    shifts = width * np.arange(clusters - 1, -1, -1, dtype=np.int64)
    codes = (np.asarray(states, dtype=np.int64)[..., None] >> shifts) & (levels - 1)
    return gray_inverse(codes)


def state_of(rungs: ArrayLike, levels: int) -> Ints:
    """Rungs (..., clusters) to basis states (...)."""
    codes = gray(rungs)
    width = bits(levels)
    shifts = width * np.arange(codes.shape[-1] - 1, -1, -1, dtype=np.int64)
    out: Ints = (codes << shifts).sum(axis=-1)
    return out


def walsh(diagonal: Array) -> Array:
    """Coefficients c of diagonal = sum over S of c[S] prod_{q in S} Z_q.

    Bit (n - 1 - w) of S stands for wire w. O(2^n n).
    """
    out = np.array(diagonal, dtype=np.float64)
    size = out.size
    step = 1
    while step < size:
        pairs = out.reshape(-1, 2, step)
        out = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1).ravel()
        step *= 2
    return out / size


def tree_angles(weights: ArrayLike) -> Array:
    """Angles (2^q - 1) whose tree has these probabilities (any sum; K >= 1); exact for any K.

    A node without probability splits evenly over its leaves that exist, so that an optimiser
    finds every leaf reachable; a node without leaves on its right never turns.
    """
    p = np.asarray(weights, dtype=np.float64)
    width = bits(p.size)
    mass = np.zeros(2**width)
    mass[: p.size] = p
    leaves = np.zeros(2**width)
    leaves[: p.size] = 1.0
    angles = np.zeros(2**width - 1)
    for level in range(width - 1, -1, -1):
        (left, right), (left_n, right_n) = mass.reshape(-1, 2).T, leaves.reshape(-1, 2).T
        empty = left + right <= 0.0
        turn = 2.0 * np.arctan2(
            np.sqrt(np.where(empty, right_n, right)), np.sqrt(np.where(empty, left_n, left))
        )
        angles[2**level - 1 : 2 ** (level + 1) - 1] = np.where(right_n > 0, turn, 0.0)
        mass, leaves = left + right, left_n + right_n
    return angles


def _tree_levels(angles: ArrayLike) -> list[Array]:
    """Probability of every node, level by level, the leaves last."""
    theta = np.asarray(angles, dtype=np.float64)
    levels = [np.ones(1)]
    for level in range((theta.size + 1).bit_length() - 1):
        half = theta[2**level - 1 : 2 ** (level + 1) - 1] / 2.0
        mass = levels[-1]
        levels.append(np.stack((mass * np.cos(half) ** 2, mass * np.sin(half) ** 2), 1).ravel())
    return levels


def tree_probabilities(angles: ArrayLike, leaves: int) -> Array:
    """Probabilities of the first `leaves` basis states; the inverse of `tree_angles`."""
    return _tree_levels(angles)[-1][:leaves]


def node_probabilities(angles: ArrayLike) -> Array:
    """Probability of reaching each node (2^q - 1): the tree's Fisher metric is diagonal, this."""
    levels = _tree_levels(angles)[:-1]
    return np.concatenate(levels) if levels else np.zeros(0)


@lru_cache(maxsize=16)
def multiplexer(controls: int) -> Array:
    """Matrix M (2^c, 2^c): rotations M @ angles between CNOTs make a multiplexed RY.

    Entry (i, j) is (-1)^(b_j . g_i) / 2^c with g the Gray code (Moettoenen et al., eq. 3).
    """
    n = 2**controls
    dots = np.bitwise_count(gray(np.arange(n))[:, None] & np.arange(n)[None, :])
    out: Array = np.where(dots % 2, -1.0, 1.0) / n
    return out
