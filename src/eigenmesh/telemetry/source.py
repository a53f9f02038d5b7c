"""Where observations come from."""

from __future__ import annotations

from typing import Protocol

from eigenmesh.mesh import Observation


class Source(Protocol):
    """Something that can tell what the mesh did since it was last asked."""

    async def observe(self, now: float) -> Observation:
        """The window that ends about now (unix seconds).

        Never raises for what the source answers or fails to answer: whatever could not be
        measured is named in `missing` with the reason.
        """
        ...

    async def close(self) -> None: ...
