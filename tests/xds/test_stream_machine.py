"""Model clients against the stream core, with requests, content and losses in any order.

The client holds what it has accepted, refuses what is "bad", forgets what it unsubscribes from,
and may lose its connection. Whenever everything has been sent and answered, it must hold exactly
what it asked for, and an idle stream must send nothing. Nothing is told twice, unless the client
asked again, or refused it together with something else.
"""

from __future__ import annotations

from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eigenmesh.xds.delta import DeltaStream
from eigenmesh.xds.resource import CLUSTER, ROUTE, Resource
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.sotw import SotwStream
from eigenmesh.xds.stream import Nack

from .support import Told, ask_delta, ask_sotw, read, resource

BAD = 3
NAMES = ("a", "b", "c", "d")
Content = dict[tuple[str, str], int]

types = st.sampled_from([CLUSTER, ROUTE])
names = st.frozensets(st.sampled_from(NAMES), max_size=3)
contents = st.dictionaries(
    st.tuples(types, st.sampled_from(NAMES)), st.integers(0, BAD), max_size=2 * len(NAMES)
)


def build(content: Content) -> Snapshot:
    """Every route needs the cluster of its name, if there is one."""
    return Snapshot(
        resource(t, n, c, needs=[(CLUSTER, n)] if t == ROUTE and (CLUSTER, n) in content else [])
        for (t, n), c in content.items()
    )


BAD_VERSIONS = {resource(CLUSTER, n, BAD).version for n in NAMES}


class Side:
    """What the client has of one type. wildcard, names: what it asks for.

    disputed: what it still has because it refused the response that removed it. told: what was
    said on this stream last of each name (None: nothing yet, of a type that is sent whole).
    awaited: names that the client asked for and was not told since. retried: what may be told
    once more, since it was refused in company.
    """

    def __init__(self) -> None:
        self.asked = False
        self.wildcard = False
        self.names: frozenset[str] = frozenset()
        self.held: dict[str, str] = {}
        self.disputed: set[str] = set()
        self.version = ""
        self.nonce = ""
        self.told: dict[str, str] | None = None
        self.awaited: set[str] = set()
        self.retried: set[str] = set()

    def begin(self, known: dict[str, str] | None) -> None:
        """A stream begins, on which the server is to take it that the client has these."""
        self.told = known
        self.awaited = set(self.names - (known or {}).keys())
        self.retried = set()

    def ask(self, more: frozenset[str], less: frozenset[str]) -> None:
        self.told = {n: v for n, v in (self.told or {}).items() if n not in less}
        self.awaited = (self.awaited | more) - less
        self.retried -= less

    def tell(self, told: Told, *, whole: bool) -> None:
        """Nothing may be told without a reason."""
        says = {**told.versions, **dict.fromkeys(told.removed, "")}
        if whole:
            assert says != self.told or self.awaited, "the same again"
            self.told, self.awaited = says, set()
            return
        before = self.told or {}
        again = {name for name, version in says.items() if before.get(name) == version}
        assert again <= self.awaited | self.retried, "the same again"
        self.told = before | says
        self.awaited -= says.keys()
        self.retried -= says.keys()

    def refuse(self, told: Told) -> None:
        names = {*told.names, *told.removed}
        self.retried -= names
        if len(names) > 1:
            self.retried |= names

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names


class Machine(RuleBasedStateMachine):
    """Common rules; the subclasses speak the two variants."""

    stream: DeltaStream | SotwStream

    def __init__(self) -> None:
        super().__init__()
        self.content: Content = {}
        self.served: Snapshot | None = None
        self.sides = {CLUSTER: Side(), ROUTE: Side()}
        self.inbox: list[Told] = []
        self.connect()

    def new_stream(self) -> DeltaStream | SotwStream:
        raise NotImplementedError

    def first(self, type_url: str) -> None:
        """The first request of a type on a stream."""
        raise NotImplementedError

    def answer(self, told: Told) -> bool:
        """The client's answer; whether it accepted."""
        raise NotImplementedError

    def ask(self, type_url: str, more: frozenset[str], less: frozenset[str]) -> None:
        raise NotImplementedError

    def connect(self) -> None:
        self.stream = self.new_stream()
        self.stream.update(self.served)
        self.inbox.clear()
        for type_url, side in self.sides.items():
            side.nonce = ""
            # Saying nothing at first would ask for everything.
            side.asked = side.asked and (side.wildcard or bool(side.names))
            if side.asked:
                self.first(type_url)
            else:
                # Whoever follows nothing has nothing, and no version of it.
                side.held, side.version = {}, ""

    @rule(content=contents)
    def publish(self, content: Content) -> None:
        self.content = content
        self.served = build(content)
        self.stream.update(self.served)

    @rule(type_url=types, wildcard=st.booleans(), wanted=names)
    def begin(self, type_url: str, wildcard: bool, wanted: frozenset[str]) -> None:
        side = self.sides[type_url]
        if side.asked:
            return
        side.asked = True
        side.wildcard = wildcard and type_url == CLUSTER
        side.names = frozenset() if side.wildcard else wanted | {"a"}
        self.first(type_url)

    @rule(type_url=types, more=names, less=names)
    def resubscribe(self, type_url: str, more: frozenset[str], less: frozenset[str]) -> None:
        side = self.sides[type_url]
        if not side.asked or side.wildcard:
            return
        side.names = (side.names | more) - less
        # The client forgets what it gives up, and what it asks for anew.
        side.held = {n: v for n, v in side.held.items() if n in side.names and n not in more}
        side.ask(more - less, less)
        self.ask(type_url, more - less, less)

    @rule()
    def pump(self) -> None:
        for type_url, side in self.sides.items():
            if isinstance(self, SotwMachine) and not self.is_whole(type_url) and side.told:
                # There is no way to say that a name is gone: when it is back, it is said again.
                there = self.served.of(type_url).resources if self.served else {}
                side.told = {n: v for n, v in side.told.items() if n in there}
        while (response := self.stream.next()) is not None:
            told = read(self.stream, response)
            whole = self.is_whole(told.type_url)
            self.sides[told.type_url].tell(told, whole=whole)
            self.must_have_its_cluster(told)
            self.must_not_lose_its_cluster(told)
            self.inbox.append(told)

    def is_whole(self, type_url: str) -> bool:
        """What a response of the type leaves out is removed."""
        return isinstance(self, SotwMachine) and type_url == CLUSTER

    @rule()
    def receive_one(self) -> None:
        if self.inbox:
            self.answer(self.inbox.pop(0))

    @rule()
    def lose_connection(self) -> None:
        self.connect()

    @invariant()
    def one_response_in_flight_per_type(self) -> None:
        kinds = [told.type_url for told in self.inbox]
        assert len(kinds) == len(set(kinds))

    @rule()
    def settle(self) -> None:
        """Everything is sent and answered: the client holds what it asked for."""
        for _ in range(200):
            self.pump()
            if not self.inbox:
                break
            self.answer(self.inbox.pop(0))
        else:
            raise AssertionError("the stream does not come to rest")
        for type_url, side in self.sides.items():
            if side.asked and self.served is not None:
                self.check(type_url, side, dict(self.served.of(type_url).resources))
                self.must_be_in_step(type_url)
        self.stream.update(build(self.content) if self.served is not None else None)
        assert self.stream.next() is None, "equal content is no change"

    def must_be_in_step(self, type_url: str) -> None:
        """Unless something is refused or waits, the server knows that the client has it all."""
        assert self.served is not None
        waits = self.stream._withheld or self.outdated_routes()
        if not waits and not any(lane.refused for lane in self.stream.lanes):
            [lane] = [lane for lane in self.stream.lanes if lane.type_url == type_url]
            assert lane.acked_version == self.served.of(type_url).version

    def check(self, type_url: str, side: Side, resources: dict[str, Resource]) -> None:
        raise NotImplementedError

    def is_held_back(self, type_url: str, name: str) -> bool:
        """A route whose cluster the client refuses may wait for it."""
        cluster = self.content.get((CLUSTER, name))
        clusters = self.sides[CLUSTER]
        return (
            type_url == ROUTE
            and cluster is not None
            and clusters.covers(name)
            and (name not in clusters.held or name in clusters.disputed)
        )

    def outdated_routes(self) -> set[str]:
        """Routes that the client is to have in another version than it has."""
        routes = self.sides[ROUTE]
        assert self.served is not None
        wanted = self.served.of(ROUTE).resources
        return {
            name
            for name in NAMES
            if routes.asked and routes.covers(name)
            if name in wanted
            if routes.held.get(name) != wanted[name].version
        }

    def keeps_clusters(self) -> bool:
        """It may use clusters that are gone, or it names them for routes until it does not."""
        named = not self.sides[CLUSTER].wildcard and self.sides[ROUTE].asked
        return named or bool(self.outdated_routes())

    def must_not_lose_its_cluster(self, told: Told) -> None:
        """No cluster is withdrawn while the client may have a route to it."""
        withdrawn = self.withdrawn(told) if told.type_url == CLUSTER else set()
        assert not (withdrawn and self.keeps_clusters()), withdrawn

    def withdrawn(self, told: Told) -> set[str]:
        """Clusters that the client has and that the response takes away."""
        raise NotImplementedError

    def must_have_its_cluster(self, told: Told) -> None:
        """A route that needs a cluster is not told before the client has that."""
        clusters = self.sides[CLUSTER]
        if any(lane.type_url == CLUSTER and lane.refused for lane in self.stream.lanes):
            # After a SotW reconnect the server cannot know what a refusing client still has.
            return
        for name in told.names if told.type_url == ROUTE else ():
            if clusters.asked and (CLUSTER, name) in self.content and clusters.covers(name):
                told_of = [n for t in self.inbox if t.type_url == CLUSTER for n in t.names]
                assert name in clusters.held or name in told_of


def error_for(bad: Iterable[str]) -> str:
    return f"bad: {', '.join(bad)}" if bad else ""


class DeltaMachine(Machine):
    stream: DeltaStream

    def new_stream(self) -> DeltaStream:
        return DeltaStream()

    def first(self, type_url: str) -> None:
        side = self.sides[type_url]
        known = {n: v for n, v in side.held.items() if side.covers(n)}
        side.begin(known)
        self.stream.receive(ask_delta(type_url, *side.names, known=known))

    def ask(self, type_url: str, more: frozenset[str], less: frozenset[str]) -> None:
        # A spontaneous request; were both empty on a new type it would be a wildcard.
        self.stream.receive(ask_delta(type_url, *more, unsubscribe=less))

    @rule(type_url=types, name=st.sampled_from(NAMES))
    def answer_something_stale(self, type_url: str, name: str) -> None:
        if self.sides[type_url].asked:
            request = ask_delta(type_url, nonce="long ago", error="of no matter")
            assert self.stream.receive(request) == ()

    def answer(self, told: Told) -> bool:
        side = self.sides[told.type_url]
        bad = [n for n, v in told.versions.items() if v in BAD_VERSIONS]
        answers = self.stream.receive(
            ask_delta(told.type_url, nonce=told.nonce, error=error_for(bad))
        )
        assert [isinstance(a, Nack) for a in answers] == [bool(bad)]
        if not bad:
            side.held |= {n: v for n, v in told.versions.items() if side.covers(n)}
            side.disputed -= told.versions.keys()
            for name in told.removed:
                side.held.pop(name, None)
        else:
            side.disputed |= set(told.removed)
            side.refuse(told)
        return not bad

    def withdrawn(self, told: Told) -> set[str]:
        return set(told.removed) & self.sides[told.type_url].held.keys()

    def check(self, type_url: str, side: Side, resources: dict[str, Resource]) -> None:
        [lane] = [lane for lane in self.stream.lanes if lane.type_url == type_url]
        for name in NAMES:
            if not side.covers(name) or self.is_held_back(type_url, name):
                continue
            there = resources.get(name)
            if there is None:
                assert name not in side.held or (type_url == CLUSTER and self.keeps_clusters())
            elif there.version in BAD_VERSIONS:
                assert side.held.get(name) != there.version
                assert name in lane.refused
            else:
                assert side.held.get(name) == there.version
                assert name not in lane.refused


class SotwMachine(Machine):
    stream: SotwStream

    def new_stream(self) -> SotwStream:
        return SotwStream()

    def first(self, type_url: str) -> None:
        side = self.sides[type_url]
        side.begin(None)
        self.stream.receive(ask_sotw(type_url, *side.names, version=side.version))

    def ask(self, type_url: str, more: frozenset[str], less: frozenset[str]) -> None:
        side = self.sides[type_url]
        if not (more or less):
            return
        # The client says anew what it wants; one that forgot a name leaves it out once.
        without = side.names - more
        for wanted in (without, side.names):
            self.stream.receive(ask_sotw(type_url, *wanted, nonce=side.nonce, version=side.version))

    @rule(type_url=types, wanted=names)
    def ask_with_a_stale_nonce(self, type_url: str, wanted: frozenset[str]) -> None:
        side = self.sides[type_url]
        if not side.nonce:
            return
        self.pump()
        waiting = len(self.inbox)
        assert self.stream.receive(ask_sotw(type_url, *wanted, nonce="long ago")) == ()
        self.pump()
        assert len(self.inbox) == waiting, "a stale nonce is met with silence"

    def answer(self, told: Told) -> bool:
        side = self.sides[told.type_url]
        side.nonce = told.nonce
        bad = [n for n, v in told.versions.items() if v in BAD_VERSIONS]
        if not bad:
            side.version = told.version
            new = {n: v for n, v in told.versions.items() if side.covers(n)}
            side.held = new if told.type_url == CLUSTER else side.held | new
        elif told.type_url != CLUSTER:
            side.refuse(told)
        self.stream.receive(
            ask_sotw(
                told.type_url,
                *side.names,
                nonce=told.nonce,
                version=side.version,
                error=error_for(bad),
            )
        )
        return not bad

    def withdrawn(self, told: Told) -> set[str]:
        [lane] = [lane for lane in self.stream.lanes if lane.type_url == CLUSTER]
        if lane.acked_version == "":
            # After a reconnect the server cannot know what the client has beyond the snapshot.
            return set()
        return {n for n in self.sides[CLUSTER].held if n not in told.names}

    def check(self, type_url: str, side: Side, resources: dict[str, Resource]) -> None:
        [lane] = [lane for lane in self.stream.lanes if lane.type_url == type_url]
        scope = {n: r for n, r in resources.items() if side.covers(n)}
        bad = {n for n, r in scope.items() if r.version in BAD_VERSIONS}
        bad -= {n for n in bad if self.is_held_back(type_url, n)}
        assert bad <= lane.refused.keys()
        if type_url == CLUSTER:
            # Sent whole, so one bad resource keeps all of it out.
            if not bad:
                kept = {n: v for n, v in side.held.items() if n in scope}
                assert kept == {n: r.version for n, r in scope.items()}
                assert side.held == kept or self.keeps_clusters()
            return
        for name, there in scope.items():
            if name not in bad and not self.is_held_back(type_url, name):
                assert side.held.get(name) == there.version


SETTINGS = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDelta = DeltaMachine.TestCase
TestDelta.settings = SETTINGS
TestSotw = SotwMachine.TestCase
TestSotw.settings = SETTINGS
