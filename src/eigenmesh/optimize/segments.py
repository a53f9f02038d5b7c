"""Sums over groups of a long axis: edges by route, edges by cluster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints

_DENSE = 1024
"""Entries of a 0/1 matrix up to which a product with it is faster than adding up in order."""


class Segments:
    """Edges in groups: edge e belongs to group `index[e]`, and no group is empty.

    A sum costs its edges, not edges times groups; on a mesh of a few clusters it is one product
    with a small matrix instead, which is what numpy is quickest at there.
    """

    def __init__(self, index: Sequence[int] | Ints) -> None:
        self.index: Ints = np.asarray(index, dtype=np.int64)
        self.count = int(self.index.max()) + 1
        sizes = np.bincount(self.index, minlength=self.count)
        self.starts: Ints = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        """First edge of each group, once the edges are in order of their groups."""
        self.order: Ints | None = None
        if (np.diff(self.index) < 0).any():
            self.order = np.argsort(self.index, kind="stable")
        self._matrix: Array | None = None
        if self.index.size * self.count <= _DENSE:
            self._matrix = (self.index[:, None] == np.arange(self.count)).astype(np.float64)

    def sum(self, values: Array) -> Array:
        """(..., edges) to (..., groups)."""
        if self._matrix is not None:
            flat = values.reshape(-1, values.shape[-1]) @ self._matrix
            return flat.reshape(*values.shape[:-1], self.count)
        ordered = values if self.order is None else values.take(self.order, axis=-1)
        out: Array = np.add.reduceat(ordered, self.starts, axis=-1)
        return out

    def spread(self, values: Array) -> Array:
        """(..., groups) to (..., edges): every edge gets its group's value."""
        return values.take(self.index, axis=-1)

    def members(self, group: int) -> Ints:
        """The edges of a group."""
        end = self.starts[group + 1] if group + 1 < self.count else self.index.size
        if self.order is None:
            return np.arange(self.starts[group], end)
        return self.order[self.starts[group] : end]

    def rows(self) -> list[Ints]:
        """The edges of every group as rows (groups, width), in a few arrays: groups of a width from
        one power of two to the next share one, and rows that are too short end in edges that do not
        exist (their number is that of all edges)."""
        order = np.arange(self.index.size) if self.order is None else self.order
        sizes = np.diff(np.append(self.starts, self.index.size))
        kinds = np.frexp(sizes - 0.5)[1]
        found = []
        for kind in np.unique(kinds):
            starts, own = self.starts[kinds == kind, None], sizes[kinds == kind, None]
            place = np.arange(own.max())
            edges = order[np.minimum(starts + place, self.index.size - 1)]
            found.append(np.where(place < own, edges, self.index.size))
        return found
