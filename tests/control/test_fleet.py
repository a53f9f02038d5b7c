"""Whatever the order of answers, arrivals and departures, proxies never admit more than is safe."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eigenmesh.control.fleet import MOST_UNTAKEN, Fleet
from eigenmesh.mesh.division import shares

CLUSTER = "up"
NODES = "abcd"


def settle(fleet: Fleet, limit: int, fractions: dict[str, float]) -> dict[str, int]:
    """Aim, and let every proxy answer at once until nothing changes."""
    changed = fleet.aim({CLUSTER: limit}, {CLUSTER: fractions})
    for number in range(10):
        for node in changed:
            fleet.told(node, f"{number}")
        for node in changed:
            fleet.took(node, f"{number}")
        if not changed:
            break
        changed = fleet.regrant()
    return {node: fleet.grants(node)[CLUSTER] for node in fractions}


def fleet_of(*nodes: str) -> Fleet:
    fleet = Fleet()
    for node in nodes:
        fleet.join(node, [CLUSTER])
    return fleet


def test_a_lone_proxy_has_the_whole_limit_at_once() -> None:
    fleet = fleet_of("a")
    assert fleet.aim({CLUSTER: 40}, {CLUSTER: {"a": 1.0}}) == {"a"}
    assert fleet.grants("a") == {CLUSTER: 40}


def test_parts_follow_the_shares() -> None:
    fleet = fleet_of(*"abc")
    assert settle(fleet, 100, {"a": 0.7, "b": 0.2, "c": 0.1}) == {"a": 70, "b": 20, "c": 10}
    assert settle(fleet, 100, {"a": 0.1, "b": 0.2, "c": 0.7}) == {"a": 10, "b": 20, "c": 70}


def test_a_part_that_is_near_enough_stays() -> None:
    fleet = fleet_of(*"ab")
    settle(fleet, 100, {"a": 0.5, "b": 0.5})
    assert fleet.aim({CLUSTER: 100}, {CLUSTER: {"a": 0.55, "b": 0.45}}) == frozenset()
    assert fleet.aim({CLUSTER: 100}, {CLUSTER: {"a": 0.65, "b": 0.35}}) == {"b"}


def test_who_comes_gets_what_the_others_have_given_back() -> None:
    fleet = fleet_of("a")
    settle(fleet, 40, {"a": 1.0})
    fleet.join("b", [CLUSTER])
    assert fleet.aim({CLUSTER: 40}, {CLUSTER: {"a": 0.5, "b": 0.5}}) == {"a", "b"}
    assert (fleet.grants("a"), fleet.grants("b")) == ({CLUSTER: 20}, {CLUSTER: 0})
    fleet.told("a", "v2")
    fleet.told("b", "v1")
    assert fleet.regrant() == frozenset()
    assert fleet.took("a", "v2")
    assert fleet.regrant() == {"b"}
    assert fleet.grants("b") == {CLUSTER: 20}


def test_who_waits_in_vain_is_not_shut_out_for_good() -> None:
    fleet = fleet_of("a")
    settle(fleet, 40, {"a": 1.0})
    fleet.join("b", [CLUSTER])
    fleet.aim({CLUSTER: 40}, {CLUSTER: {"a": 0.5, "b": 0.5}})
    assert fleet.regrant(least=1) == {"b"}
    assert fleet.grants("b") == {CLUSTER: 1}


def test_who_is_away_keeps_its_part_until_it_is_known_to_be_gone() -> None:
    fleet = fleet_of(*"ab")
    settle(fleet, 40, {"a": 0.5, "b": 0.5})
    fleet.leave("b")
    assert fleet.away() == ["b"]
    assert fleet.aim({CLUSTER: 40}, {CLUSTER: {"a": 1.0, "b": 0.01}}) == {"b"}
    assert fleet.grants("a") == {CLUSTER: 20}
    fleet.release("b")
    fleet.aim({CLUSTER: 40}, {CLUSTER: {"a": 1.0}})
    assert fleet.grants("a") == {CLUSTER: 40}


def test_who_is_connected_is_not_released() -> None:
    fleet = fleet_of("a")
    fleet.release("a")
    assert fleet.members == {"a"}


def test_a_restart_resumes_with_what_may_be_in_force() -> None:
    fleet = fleet_of(*"ab")
    settle(fleet, 40, {"a": 0.75, "b": 0.25})
    again = Fleet(fleet.to_dict())
    assert again.most(CLUSTER) == 40
    again.join("a", [CLUSTER])
    again.join("b", [CLUSTER])
    assert again.aim({CLUSTER: 40}, {CLUSTER: {"a": 0.75, "b": 0.25}}) == frozenset()


def test_who_never_answers_is_counted_with_the_most_that_it_was_told() -> None:
    fleet = fleet_of("a")
    for number, limit in enumerate([90, *[40, 30] * 100]):
        fleet.aim({CLUSTER: limit}, {CLUSTER: {"a": 1.0}})
        fleet.told("a", str(number))
    assert fleet.most(CLUSTER) == 90
    assert len(fleet._members["a"].untaken) <= MOST_UNTAKEN
    assert fleet.took("a", "200")
    assert fleet.most(CLUSTER) == 30


def test_a_limit_that_is_the_operators_again_is_not_granted_any_more() -> None:
    fleet = fleet_of("a")
    settle(fleet, 40, {"a": 1.0})
    fleet.aim({}, {})
    assert fleet.grants("a") == {}


class Fleets(RuleBasedStateMachine):
    """Proxies that answer when they like; `has` is what each has in force."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.limit = 50
        self.has: dict[str, int] = {}
        self.mail: dict[str, list[tuple[str, int]]] = {}
        self.count = 0
        self.allowed = self.limit

    def tell(self, nodes: frozenset[str]) -> None:
        for node in sorted(nodes):
            if node in self.mail:
                self.count += 1
                self.fleet.told(node, str(self.count))
                self.mail[node].append((str(self.count), self.fleet.grants(node)[CLUSTER]))

    @rule(data=st.data(), limit=st.integers(4, 100))
    def decide(self, data: st.DataObject, limit: int) -> None:
        # What is in force of a larger limit goes as fast as proxies answer, and never grows.
        self.allowed = max(limit, self.fleet.most(CLUSTER))
        self.limit = limit
        self.aim({n: data.draw(st.floats(0.0, 1000.0)) for n in self.fleet.senders(CLUSTER)})

    def aim(self, requests: dict[str, float]) -> None:
        senders = self.fleet.senders(CLUSTER)
        fractions = {CLUSTER: shares(requests, senders)} if senders else {}
        self.tell(self.fleet.aim({CLUSTER: self.limit}, fractions))

    @rule(node=st.sampled_from(NODES))
    def connect(self, node: str) -> None:
        if node not in self.mail:
            self.mail[node] = []
            self.fleet.join(node, [CLUSTER])
            self.aim({})
            # A stream begins with what is current.
            if not self.mail[node]:
                self.tell(frozenset({node}))

    @precondition(lambda self: any(self.mail.values()))
    @rule(data=st.data(), skip=st.integers(0, 3))
    def answer(self, data: st.DataObject, skip: int) -> None:
        node = data.draw(st.sampled_from(sorted(n for n, mail in self.mail.items() if mail)))
        # A busy stream is spared all but the latest.
        number = min(skip, len(self.mail[node]) - 1)
        version, self.has[node] = self.mail[node][number]
        del self.mail[node][: number + 1]
        self.fleet.took(node, version)
        self.tell(self.fleet.regrant())

    @precondition(lambda self: self.mail)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(sorted(self.mail)))
        del self.mail[node]
        self.fleet.leave(node)

    @precondition(lambda self: self.fleet.away())
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(self.fleet.away()))
        self.has.pop(node, None)
        self.fleet.release(node)
        self.aim({})

    def total(self) -> int:
        return sum(self.has.values())

    @invariant()
    def never_more_than_the_limit(self) -> None:
        assert self.total() <= self.fleet.most(CLUSTER) <= self.allowed
        self.allowed = max(self.limit, self.fleet.most(CLUSTER))


TestFleets = Fleets.TestCase
TestFleets.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_proxies_that_answer_reach_their_parts() -> None:
    fleet = fleet_of(*"abcd")
    parts = settle(fleet, 41, shares({"a": 900, "b": 50, "c": 50, "d": 0}, "abcd"))
    assert sum(parts.values()) == 41
    assert parts["a"] == pytest.approx(41 * (0.9 * 0.887 + 0.025), abs=1.5)
