"""Where two messages differ, as plain data (see `envoy_types.Plain`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .envoy_types import Plain

Pardon = Callable[[Plain, Plain], tuple[Plain, Plain]]
"""Takes two messages in the same place; gives both without what may differ between them."""


def _nothing(before: Plain, after: Plain) -> tuple[Plain, Plain]:
    return before, after


def differences(before: Any, after: Any, path: str, pardon: Pardon = _nothing) -> Iterator[str]:
    """A line for every place where `after` is not `before`."""
    if isinstance(before, dict) and isinstance(after, dict):
        before, after = pardon(before, after)
        for key in sorted(before.keys() | after.keys()):
            at = f"{path}.{key}"
            if key not in after:
                yield f"{at}: {_short(before[key])} was lost"
            elif key not in before:
                yield f"{at}: {_short(after[key])} appeared"
            else:
                yield from differences(before[key], after[key], at, pardon)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, two) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, two, f"{path}[{index}]", pardon)
    elif before != after:
        yield f"{path}: {_short(before)} became {_short(after)}"


def losses(before: Any, after: Any, path: str) -> Iterator[str]:
    """A line for everything in `before` that `after` does not have too; it may have more. The
    items of a list must be among the other's, in their order."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{path}.{key}: {_short(value)} was lost"
            else:
                yield from losses(value, after[key], f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list):
        rest = iter(after)
        for index, item in enumerate(before):
            if not any(other == item for other in rest):
                yield f"{path}[{index}]: {_short(item)} was lost, or lost its place"
    elif before != after:
        yield f"{path}: {_short(before)} became {_short(after)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:100]}..."
