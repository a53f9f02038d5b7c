"""Pages repeat nothing and hide nothing, whatever comes and goes between them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.api import pages
from eigenmesh.api.client import MESH, MeshClient
from eigenmesh.mesh import MeshError
from eigenmesh.v1 import mesh_service_pb2 as api

from .stage import Stage


@dataclass
class Request:
    page_size: int = 0
    page_token: str = ""


names = st.sets(st.text(max_size=3), max_size=30)


@given(names, names, names, st.integers(1, 7))
def test_what_stays_is_listed_once(
    stays: set[str], leaves: set[str], comes: set[str], size: int
) -> None:
    seen: list[str] = []
    items = stays | leaves
    request = Request(size)
    while True:
        found, request.page_token = pages.page(request, "things", items, lambda one: [one])
        assert len(found) <= size
        seen += found
        items = stays | comes
        if not request.page_token:
            break
    assert len(seen) == len(set(seen))
    assert stays <= set(seen)


@given(st.text())
def test_a_token_of_nobodys_is_refused(token: str) -> None:
    if token:
        with pytest.raises(MeshError):
            pages.page(Request(page_token=token), "things", ["a"], lambda one: [one])
        with pytest.raises(MeshError):
            pages.number_in(Request(page_token=token), "things")


def test_a_token_is_of_one_list() -> None:
    token = pages.token_for("nodes", ["a"])
    with pytest.raises(MeshError):
        pages.page(Request(page_token=token), "routes", ["a"], lambda one: [one])
    for key in ("a", ["a", 1], None, -1, 1.5, 2**63):
        with pytest.raises(MeshError):
            pages.number_in(Request(page_token=pages.token_for("audit", key)), "audit")


def test_sizes() -> None:
    assert pages.size_of(Request(0)) == 50
    assert pages.size_of(Request(7)) == 7
    assert pages.size_of(Request(10**6)) == 1000
    with pytest.raises(MeshError):
        pages.size_of(Request(-1))


async def test_new_decisions_and_entries_do_not_shift_the_next_page(
    stage: Stage, client: MeshClient
) -> None:
    request = api.ListDecisionsRequest(parent=MESH, page_size=3)
    first = await client._reads.ListDecisions(request)
    await stage.simulation.tick()
    request.page_token = first.next_page_token
    second = await client._reads.ListDecisions(request)
    assert [d.number for d in (*first.decisions, *second.decisions)] == [4, 3, 2, 1]
    assert not second.next_page_token

    for n in range(3):
        await client.pause(f"reason {n}")
    asked = api.ListAuditEntriesRequest(parent=MESH, page_size=2)
    page = await client._reads.ListAuditEntries(asked)
    await client.resume()
    asked.page_token = page.next_page_token
    rest = await client._reads.ListAuditEntries(asked)
    assert [e.number for e in (*page.audit_entries, *rest.audit_entries)] == [3, 2, 1]
