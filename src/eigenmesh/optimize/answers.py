"""What a solver hands back to the portfolio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """A value, and how it was found."""

    value: T
    detail: Mapping[str, float | str] = field(default_factory=dict)


Weights = Answer[Array]
"""w (edges), within the bounds."""

Rungs = Answer[Ints]
"""Rungs (clusters,)."""
