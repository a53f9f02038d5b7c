"""Errors of the domain: each names the field, the value and the remedy."""

from __future__ import annotations


class MeshError(ValueError):
    """A domain object that must not exist was about to be built."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}: {value!r}: {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[MeshError], tuple[str, object, str]]:
        # It crosses the process boundary of the solver worker.
        return type(self), (self.field, self.value, self.remedy)
