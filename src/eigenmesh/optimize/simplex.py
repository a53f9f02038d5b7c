"""The set of allowed weights: every route's row sums to 1 and stays within its bounds."""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array


def project(weights: Array, low: Array, high: Array) -> Array:
    """Nearest allowed weights (Euclidean), row by row; needs sum(low) <= 1 <= sum(high).

    A row's answer is clip(w - t, low, high) for the t that makes it sum to 1. The sum falls
    piecewise linearly in t, with a corner where an entry leaves `high` or reaches `low`, so
    sorting the corners gives t exactly: O(K log K).
    """
    corners = np.concatenate((weights - high, weights - low), axis=-1)
    order = np.argsort(corners, axis=-1)
    corners = np.take_along_axis(corners, order, axis=-1)
    turn = np.where(order < weights.shape[-1], -1.0, 1.0)
    # Sum at each corner, starting from sum(high) left of all of them.
    slope = np.cumsum(turn, axis=-1)
    drop = np.cumsum(slope[..., :-1] * np.diff(corners, axis=-1), axis=-1)
    sums = high.sum(axis=-1, keepdims=True) + np.concatenate(
        (np.zeros_like(corners[..., :1]), drop), axis=-1
    )
    # The last corner whose sum is still 1 or more; from there the line leads to 1.
    last = np.maximum((sums >= 1.0).sum(axis=-1, keepdims=True) - 1, 0)
    at, total, fall = (np.take_along_axis(x, last, axis=-1) for x in (corners, sums, slope))
    t = at + np.where(fall < 0, (total - 1.0) / np.maximum(-fall, 1.0), 0.0)
    out: Array = np.clip(weights - t, low, high)
    return out
