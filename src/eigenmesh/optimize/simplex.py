"""The set of allowed weights: every route's row sums to 1 and stays within its bounds."""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array


def project(weights: Array, low: Array, high: Array) -> Array:
    """Nearest allowed weights (Euclidean), row by row; needs sum(low) <= 1 <= sum(high).

    A row's answer is clip(w + t, low, high) for the t that makes it sum to 1.
    """
    ones = np.ones(np.broadcast_shapes(weights.shape, low.shape))
    corners = np.concatenate((low - weights, high - weights), axis=-1)
    t = _level(corners, np.concatenate((ones, -ones), axis=-1), low.sum(axis=-1, keepdims=True))
    out: Array = np.clip(weights + t, low, high)
    return out


def fill(
    aim: Array, curvature: Array, price: Array, corner: Array, low: Array, high: Array
) -> Array:
    """Water-filling: the allowed w of least sum(curvature (w - aim)^2 / 2 + price |w - corner|),
    row by row; curvature above 0, price 0 or more.

    At a marginal cost of t an entry takes what costs no more: a line that rises with t from `low`
    to `high` and rests at the corner while t is within `price` of it. One t makes the row sum to 1.
    """
    corner = np.clip(corner, low, high)
    at_low, at_corner, at_high = (curvature * (x - aim) for x in (low, corner, high))
    corners = (at_low - price, at_corner - price, at_corner + price, at_high + price)
    rise = np.broadcast_to(1.0 / curvature, at_low.shape)
    t = _level(
        np.concatenate(corners, axis=-1),
        np.concatenate((rise, -rise, rise, -rise), axis=-1),
        low.sum(axis=-1, keepdims=True),
    )
    below = np.clip(aim + (t + price) / curvature, low, corner)
    above = np.clip(aim + (t - price) / curvature, corner, high)
    out: Array = below + above - corner
    return out


def _level(corners: Array, turns: Array, base: Array) -> Array:
    """The t (..., 1) at which base + sum(turns * max(t - corners, 0)), which never falls, is 1.

    It is linear between the corners, so sorting them gives t exactly: O(K log K).
    """
    order = np.argsort(corners, axis=-1)
    corners = np.take_along_axis(corners, order, axis=-1)
    slope = np.cumsum(np.take_along_axis(turns, order, axis=-1), axis=-1)
    gain = np.cumsum(slope[..., :-1] * np.diff(corners, axis=-1), axis=-1)
    sums = base + np.concatenate((np.zeros_like(corners[..., :1]), gain), axis=-1)
    # The last corner whose sum is below 1; from there the line leads to 1.
    last = np.maximum((sums < 1.0).sum(axis=-1, keepdims=True) - 1, 0)
    at, total, rise = (np.take_along_axis(x, last, axis=-1) for x in (corners, sums, slope))
    flat = rise <= 1e-12 * np.abs(turns).max(axis=-1, keepdims=True)
    out: Array = at + np.where(flat, 0.0, (1.0 - total) / np.where(flat, 1.0, rise))
    return out
