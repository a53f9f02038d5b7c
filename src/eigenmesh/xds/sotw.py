"""State of the world: a request names all that is wanted, a response carries what is.

Listeners and clusters are sent whole, since what is left out is removed; of other types only what
changed ("Grouping Resources into Responses"). A resource that does not exist cannot be told of.
"""

from __future__ import annotations

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from eigenmesh.xds.request import check_length, check_names, parse_request
from eigenmesh.xds.snapshot import TypeSet
from eigenmesh.xds.stream import (
    ABSENT,
    WHOLE,
    Ack,
    Admit,
    Lane,
    Nack,
    Response,
    Stream,
)


class SotwStream(Stream):
    """A stream of DiscoveryRequest and DiscoveryResponse."""

    def __init__(self, only: str | None = None, admit: Admit | None = None) -> None:
        super().__init__(only, admit)
        self._claims: dict[str, str] = {}
        self._returning: set[str] = set()

    def receive_bytes(self, data: bytes) -> tuple[Ack | Nack, ...]:
        """`receive` of a serialised request. Raises ProtocolError."""
        return self.receive(parse_request(DiscoveryRequest, data))

    def receive(self, request: DiscoveryRequest) -> tuple[Ack | Nack, ...]:
        """Raises ProtocolError."""
        self._identify(request)
        check_names("resource_names", request.resource_names)
        check_length("version_info", [request.version_info])
        lane, first = self._lane(request.type_url)
        nonce = request.response_nonce
        if nonce and lane.nonce and nonce != lane.nonce:
            # Stale: a newer response is on its way, and its answer will name everything
            # ("Resource updates").
            return ()
        answers = lane.answer(nonce, request, whole=lane.type_url in WHOLE)
        if answers and lane.type_url in self._returning:
            self._returning.discard(lane.type_url)
            if isinstance(answers[0], Nack):
                # It came back with a version and goes on with that. What is in it cannot be
                # known: routes must not wait for clusters that it may well have.
                lane.unproven.clear()
        lane.apply(lane.subscription.state(request.resource_names))
        self._check_names()
        if first and request.version_info:
            self._returning.add(lane.type_url)
        if first and lane.subscription.wildcard and not lane.subscription.names:
            # Only with a wildcard does the version prove that the client has everything: a name
            # may be new to it ("ACK/NACK and resource type instance version").
            self._claims[lane.type_url] = request.version_info
            if self._snapshot is not None:
                resources = self._snapshot.of(lane.type_url)
                if request.version_info == resources.version:
                    has = {n: r.version for n, r in resources.resources.items()}
                    answers += self._resumed(lane.type_url, has)
        return answers

    def _respond(self, lane: Lane, resources: TypeSet, due: set[str]) -> Response | None:
        if self._claims.pop(lane.type_url, None) == resources.version:
            lane.sent = {n: r.version for n, r in resources.resources.items()}
            lane.greeted = True
            lane.accepted = resources.resources
            lane.in_step(resources)
            return None
        if lane.type_url in WHOLE:
            have = lane.accepted or {}
            gone = self._in_use(lane, have.keys() - resources.resources.keys())
            if held := {name: have[name] for name in gone}:
                # What is left out is removed, so what must stay a while is sent on. It is other
                # content than the snapshot's, and has a version of its own.
                resources = resources.replace(held, ())
                due = due - held.keys()
                if not due:
                    return None
        absent = due - resources.resources.keys()
        lane.note(dict.fromkeys(absent, ABSENT))
        for name in absent:
            lane.refused.pop(name, None)
        if lane.type_url in WHOLE:
            return self._whole(lane, resources, due)
        waiting = {n for n in due if self._waits(resources.resources.get(n))}
        changed = sorted(due & resources.resources.keys() - waiting)
        lane.compared(resources, waiting)
        if not changed:
            return None
        told = {name: resources.resources[name].version for name in changed}
        body = resources.sotw_body_of(resources.resources[name] for name in changed)
        return self._launch(lane, resources, told, body)

    def _whole(self, lane: Lane, resources: TypeSet, due: set[str]) -> Response | None:
        if any(self._waits(resources.resources.get(name)) for name in due):
            return None
        scope = [r for n, r in resources.resources.items() if lane.subscription.covers(n)]
        lane.compared(resources)
        told = {r.name: r.version for r in scope}
        all_of_it = len(scope) == len(resources.resources)
        body = resources.sotw_body if all_of_it else resources.sotw_body_of(scope)
        return self._launch(lane, resources, told, body)
