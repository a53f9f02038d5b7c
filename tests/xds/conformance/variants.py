"""Marks that say for which variants and types a scenario is."""

from __future__ import annotations

import pytest

from eigenmesh.xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE

from .driver import Variant

ALL = tuple(Variant(delta, aggregated) for delta in (False, True) for aggregated in (True, False))


def _short(value: object) -> str:
    return value.rpartition(".")[2] if isinstance(value, str) else str(value)


def _types(*type_urls: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("type_url", type_urls, ids=_short)


def _only(*variants: Variant) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("variant", variants, ids=str)


every_type = _types(CLUSTER, ENDPOINT, LISTENER, ROUTE)
with_wildcard = _types(CLUSTER, LISTENER)
without_wildcard = _types(ENDPOINT, ROUTE)

only_delta = _only(*(v for v in ALL if v.delta))
only_sotw = _only(*(v for v in ALL if not v.delta))
only_aggregated = _only(*(v for v in ALL if v.aggregated))
only_separate = _only(*(v for v in ALL if not v.aggregated))
