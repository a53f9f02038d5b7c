"""One xDS stream without I/O: requests and snapshots go in, responses are taken out.

    stream.update(snapshot)          the content changed
    stream.receive(request)          the client spoke -> what it accepted or refused
    stream.next() -> Response        what to send now, or None

`next` is asked only when the transport can take a response, so a slow client holds up nothing
but itself: what it is sent then is the latest content, however often that changed meanwhile.

Every type on a stream has a lane. A lane keeps apart what the client asked for (`subscription`)
and what it was sent (`sent`: name -> version; ABSENT where it was told that there is none), and
goes through three states:

    idle       in_flight is None, nothing differs: `next` sends nothing
    due        something differs from `sent`, or a name is owed an answer
    in flight  one response is unanswered; more may become due, and is sent after the answer

An answer is an ACK, or a NACK if it has error_detail ("ACK and NACK semantics summary"). A NACK
changes `refused` and not `sent`: the same content is not due again, so it is parked until it
changes. Only a response of several resources is tried again, once, in halves: a client may drop
all of it for one bad resource. Versions are hashes of content and mean the same in every process.

Order between lanes ("Eventual consistency considerations"): clusters, endpoints, listeners,
routes; and a resource waits while something that it needs is unsent, unanswered or refused.
Envoy withholds its answer to new clusters until they are warm, so routes come after that.
Removals go the other way: a resource is withdrawn once nothing that the client has can refer to
it any more, that is, when the types that may refer to it are up to date and accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message

from eigenmesh.xds import request as limits
from eigenmesh.xds import wire
from eigenmesh.xds.node import Node
from eigenmesh.xds.request import ProtocolError
from eigenmesh.xds.resource import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LISTENER,
    ROUTE,
    RUNTIME,
    SECRET,
    Key,
    Resource,
)
from eigenmesh.xds.snapshot import Snapshot, TypeSet
from eigenmesh.xds.subscription import Change, Subscription

ORDER = (CLUSTER, ENDPOINT, SECRET, LISTENER, ROUTE, EXTENSION_CONFIG, RUNTIME)
WHOLE = frozenset({CLUSTER, LISTENER})
"""Types with a wildcard, which SotW sends whole: a resource left out is a resource removed."""

_REFERRERS: Mapping[str, tuple[str, ...]] = {
    CLUSTER: (LISTENER, ROUTE, EXTENSION_CONFIG),
    ENDPOINT: (CLUSTER,),
    SECRET: (CLUSTER, LISTENER),
    ROUTE: (LISTENER,),
    EXTENSION_CONFIG: (LISTENER, ROUTE),
}
"""The types whose resources may refer to a resource of this one."""

Admit = Callable[[Node], Snapshot | None]
"""Called once, when the client has said who it is: the content for this node, as in `update`.
Raises NodeRefusedError."""

ABSENT = ""
"""The version of a resource that does not exist."""


class NodeRefusedError(ProtocolError):
    """The client speaks correctly, but is nobody who is served here."""


@dataclass(frozen=True, slots=True)
class Response:
    """body: the serialised DiscoveryResponse or DeltaDiscoveryResponse, nonce included.

    names: what it answers, removed resources included. version: of the whole type.
    """

    type_url: str
    version: str
    nonce: str
    names: frozenset[str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """The client has taken these names, in the versions that `resources` has.

    resumed: it said so in its first request; nothing was sent.
    """

    type_url: str
    version: str
    names: frozenset[str]
    resources: TypeSet = field(repr=False, compare=False)
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Nack:
    """text: the client's own words (error_detail.message)."""

    type_url: str
    version: str
    names: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True)
class _Flight:
    """A response that is unanswered."""

    nonce: str
    resources: TypeSet
    names: frozenset[str]


class Lane:
    """One type on one stream; see the module's text.

    sent_version: of the type as a whole, when the client was last brought up to date with it.
    acked_version: the same for what the client has accepted without refusing anything.
    refused: name -> the client's words, for what it refused and was not sent anew since.
    unproven: names that the client has had in no version that it accepted.
    accepted: what the client has of a type that is sent whole; None until it accepted something.
    """

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.subscription = Subscription(by_default=type_url in WHOLE)
        self.sent: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.nacks = 0
        self.sent_version = ""
        self.acked_version = ""
        self.unproven: set[str] = set()
        self.accepted: Mapping[str, Resource] | None = None
        self.nonce = ""
        self.in_flight: _Flight | None = None
        self.greeted = True
        self._owed: set[str] = set()
        self._put_off: set[str] = set()
        self._owed_everything = False
        self._doubted: list[frozenset[str]] = []
        self._seen: TypeSet | None = None

    def apply(self, change: Change, *, resend: bool = True) -> None:
        """Takes note of a changed subscription. resend: named resources are owed in any case."""
        if resend:
            self._owed |= change.named
            self._owed_everything |= change.everything
        if change.widened or (change.named and not resend):
            self._seen = None
        if change.widened and not self.sent:
            # The first answer to a wildcard is awaited even if there is nothing to tell.
            self.greeted = False
        if change.narrowed:
            # "Sent" must not outlive the subscription: a name that comes back is sent again.
            covers = self.subscription.covers
            self.sent = {n: v for n, v in self.sent.items() if covers(n)}
            self.refused = {n: t for n, t in self.refused.items() if covers(n)}
            self.unproven = {n for n in self.unproven if covers(n)}
            self._owed = {n for n in self._owed if covers(n)}
            self._put_off = {n for n in self._put_off if covers(n)}
            if self.accepted is not None:
                self.accepted = {n: r for n, r in self.accepted.items() if covers(n)}

    def owe(self, name: str) -> None:
        """The client is to get `name` again if it follows it."""
        if self.subscription.covers(name):
            self._owed.add(name)

    def in_scope(self, resources: TypeSet) -> Iterable[str]:
        if self.subscription.wildcard:
            return self.subscription.names | resources.resources.keys()
        return self.subscription.names

    def at_rest(self, resources: TypeSet) -> bool:
        """Nothing is owed, and this is what the client is known to be up to date with."""
        return (
            self._seen is resources
            and self.acked_version == resources.version
            and self.greeted
            and not (self._owed or self._put_off or self._owed_everything or self._doubted)
        )

    def due(self, resources: TypeSet) -> set[str]:
        """Names that the client has to be told about."""
        due = self._owed | {n for n in self._put_off if self._differs(n, resources)}
        if self._owed_everything:
            due.update(resources.resources)
        if self._seen is None:
            due.update(n for n in self.in_scope(resources) if self._differs(n, resources))
            due.update(n for n in self.sent if self._differs(n, resources))
        elif self._seen.version != resources.version:
            covers = self.subscription.covers
            changed = resources.changed_since(self._seen)
            due.update(n for n in changed if covers(n) and self._differs(n, resources))
        return due

    def doubted(self) -> set[str]:
        """Part of a refused response that may be good by itself; each part is given out once."""
        while self._doubted:
            if group := set(self._doubted.pop() & self.refused.keys()):
                return group
        return set()

    def _differs(self, name: str, resources: TypeSet) -> bool:
        resource = resources.resources.get(name)
        return self.sent.get(name) != (resource.version if resource is not None else ABSENT)

    def compared(self, resources: TypeSet, later: Iterable[str] = ()) -> None:
        """All that was due is in the next response, but for `later`."""
        self._seen = resources
        self._put_off = set(later)
        self._owed = self._put_off.copy() if self._owed_everything else self._owed & self._put_off
        self._owed_everything = False

    def in_step(self, resources: TypeSet) -> None:
        """Nothing is due or in flight: the client has this version, but for what it refused."""
        self._seen = resources
        self.sent_version = resources.version
        if not self.refused:
            self.acked_version = resources.version

    def note(self, told: Mapping[str, str]) -> None:
        """The client is told these versions."""
        for name, version in told.items():
            if version != ABSENT or name in self.subscription.names:
                self.sent[name] = version
            else:
                self.sent.pop(name, None)

    def has(self, name: str) -> bool:
        """The client has accepted this resource, in some version."""
        if self.accepted is not None:
            return name in self.accepted
        return bool(self.sent.get(name)) and name not in self.unproven

    def answer(self, nonce: str, request: Message, *, whole: bool) -> tuple[Ack | Nack, ...]:
        """What the request says about the response in flight, if anything.

        whole: the response cannot be sent in parts.
        """
        flight = self.in_flight
        if flight is None or nonce != flight.nonce:
            return ()
        self.in_flight = None
        if request.HasField("error_detail"):
            message: str = request.error_detail.message  # type: ignore[attr-defined]
            text = message[: limits.TEXT_LENGTH] or "no reason given"
            self.nacks += 1
            # What it does not follow any more, it cannot refuse.
            refused = filter(self.subscription.covers, flight.names)
            self.refused.update(dict.fromkeys(refused, text))
            if not whole:
                # Groups have no name in common: a client may refuse the same for ever.
                apart = flight.names.isdisjoint
                left = (g if apart(g) else g - flight.names for g in self._doubted)
                self._doubted = [group for group in left if group]
                if len(flight.names) > 1:
                    names = sorted(flight.names)
                    half = len(names) // 2
                    self._doubted += [frozenset(names[:half]), frozenset(names[half:])]
            return (Nack(self.type_url, flight.resources.version, flight.names, text),)
        self.unproven -= flight.names
        if whole:
            there = flight.resources.resources
            everything = len(flight.names) == len(there)
            self.accepted = there if everything else {n: there[n] for n in flight.names}
        for name in [n for n in self.refused if n in flight.names]:
            del self.refused[name]
        version = flight.resources.version
        if not (self.refused or self._owed or self._put_off):
            self.acked_version = version
        return (Ack(self.type_url, version, flight.names, flight.resources),)


class Stream:
    """What SotW and delta have in common.

    only: the one type of a stream that is not ADS. admit: see `Admit`.
    """

    def __init__(self, only: str | None = None, admit: Admit | None = None) -> None:
        self.node: Node | None = None
        self._only = only
        self._admit = admit
        self._lanes: dict[str, Lane] = {}
        self._snapshot: Snapshot | None = None
        self._nonces = 0
        self._known = 0
        self._withheld = False

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """In the order in which they are sent."""
        return tuple(self._lanes.values())

    @property
    def waiting(self) -> bool:
        """Something that was sent is unanswered."""
        return any(lane.in_flight is not None for lane in self._lanes.values())

    def update(self, snapshot: Snapshot | None) -> None:
        """From now on this is the content. None: nothing is known yet, nothing is sent."""
        self._snapshot = snapshot

    def next(self) -> Response | None:
        """The response to send now; call again after sending it."""
        response = self._next()
        if response is None and self._withheld:
            # A later lane may have had nothing to say about what it found changed.
            response = self._next()
        return response

    def _next(self) -> Response | None:
        self._withheld = False
        if self._snapshot is None:
            return None
        for lane in self._lanes.values():
            if lane.in_flight is None:
                resources = self._snapshot.of(lane.type_url)
                if lane.at_rest(resources):
                    continue
                due = lane.due(resources)
                if due or not lane.greeted:
                    if (r := self._respond(lane, resources, due)) is not None:
                        return r
                    # What there was no way to say is said; what is due now waits.
                    due = lane.due(resources)
                while doubted := lane.doubted():
                    if (r := self._respond(lane, resources, due | doubted)) is not None:
                        return r
                if not due and lane.greeted:
                    lane.in_step(resources)
        return None

    def _respond(self, lane: Lane, resources: TypeSet, due: set[str]) -> Response | None:
        """The response that tells the client about `due`; None if nothing can be told now."""
        raise NotImplementedError

    def _lane(self, type_url: str) -> tuple[Lane, bool]:
        """The lane of a request, and whether the request is its first."""
        type_url = type_url or self._only or ""
        if (lane := self._lanes.get(type_url)) is not None:
            return lane, False
        limits.check_length("type_url", [type_url])
        if not type_url:
            raise ProtocolError("type_url is empty: an aggregated stream needs it in every request")
        if self._only is not None and type_url != self._only:
            raise ProtocolError(f"type_url {type_url} on a stream of {self._only}")
        limits.check_count("type_url", len(self._lanes) + 1, limits.TYPES)
        lane = self._lanes[type_url] = Lane(type_url)
        self._lanes = dict(sorted(self._lanes.items(), key=lambda item: _rank(item[0])))
        return lane, True

    def _identify(self, request: Message) -> None:
        """Only the first request is sure to carry the node ("Basic Protocol Overview").

        Raises ProtocolError."""
        if self.node is None:
            message = request.node  # type: ignore[attr-defined]
            limits.check_node(message)
            try:
                # Before it is admitted, so that a refusal can say whose it is.
                self.node = Node.of(message)
            except ValueError as error:  # a number that JSON does not have
                raise ProtocolError(f"node.metadata: {error}") from error
            if self._admit is not None:
                self._snapshot = self._admit(self.node)

    def _check_names(self) -> None:
        """Raises ProtocolError if the client follows, or says that it has, too many."""
        followed = sum(len(lane.subscription.names) for lane in self._lanes.values())
        limits.check_count("resource names", followed, limits.NAMES)
        limits.check_count("initial_resource_versions", self._known, limits.NAMES)

    def _waits(self, resource: Resource | None) -> bool:
        """Something that the resource needs is not in force at this client yet."""
        if resource is None or all(map(self._up_to_date, resource.needed_types)):
            # As a rule, and a table may need thousands of clusters.
            return False
        return any(self._lacks(key) for key in resource.needs)

    def _up_to_date(self, type_url: str) -> bool:
        """The client has accepted what it follows of the type, as the snapshot has it."""
        lane = self._lanes.get(type_url)
        assert self._snapshot is not None
        return lane is None or lane.acked_version == self._snapshot.of(type_url).version

    def _lacks(self, key: Key) -> bool:
        type_url, name = key
        lane = self._lanes.get(type_url)
        # What the client does not fetch here it has from elsewhere, or does not want.
        return lane is not None and lane.subscription.covers(name) and not lane.has(name)

    def _resumed(self, type_url: str, has: Mapping[str, str]) -> tuple[Ack, ...]:
        """Of what a returning client has (name -> version), what the snapshot has too."""
        if self._snapshot is None:
            return ()
        resources = self._snapshot.of(type_url)
        there = resources.resources
        same = frozenset(n for n, v in has.items() if n in there and there[n].version == v)
        return (Ack(type_url, resources.version, same, resources, resumed=True),) if same else ()

    def _in_use(self, lane: Lane, names: Iterable[str]) -> set[str]:
        """Those of the `names`, which are gone from the snapshot, that the client has and that
        something else that it has may still refer to."""
        had = {name for name in names if lane.has(name)}
        # gRPC names the clusters of its routes. It accepts new routes before it has moved to their
        # clusters, and stops naming the old ones when it has.
        named = lane.type_url == CLUSTER and not lane.subscription.wildcard and ROUTE in self._lanes
        if had and (named or not all(map(self._settled, _REFERRERS.get(lane.type_url, ())))):
            self._withheld = True
            return had
        return set()

    def _settled(self, type_url: str) -> bool:
        """The client has accepted everything of the type that the snapshot has for it."""
        lane = self._lanes.get(type_url)
        if lane is None:
            return True
        assert self._snapshot is not None
        return not (lane.in_flight or lane.refused or lane.due(self._snapshot.of(type_url)))

    def _launch(
        self, lane: Lane, resources: TypeSet, told: dict[str, str], body: bytes
    ) -> Response:
        """The response that tells the client these versions; notes that it was told.

        body: the response without its nonce.
        """
        changed = [n for n, version in told.items() if lane.sent.get(n) != version]
        # Envoy takes no endpoints over to a cluster that changed, and waits for them ("Resource
        # warming", the note): send them again.
        for name in changed:
            if (resource := resources.resources.get(name)) is not None:
                for type_url, child in resource.warms:
                    if type_url in self._lanes:
                        self._lanes[type_url].owe(child)
        self._nonces += 1
        lane.nonce = str(self._nonces)
        lane.unproven.update(n for n in changed if told[n] and not lane.sent.get(n))
        lane.note(told)
        lane.greeted = True
        lane.sent_version = resources.version
        names = frozenset(told)
        lane.in_flight = _Flight(lane.nonce, resources, names)
        # `nonce` is field 5 of both kinds of response.
        body += wire.field(5, lane.nonce)
        return Response(lane.type_url, resources.version, lane.nonce, names, body)


def _rank(type_url: str) -> int:
    return ORDER.index(type_url) if type_url in ORDER else len(ORDER)
