"""Incremental xDS: the client is told of names, one by one ("Incremental xDS")."""

from __future__ import annotations

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from eigenmesh.xds import wire
from eigenmesh.xds.request import check_length, check_names, parse_request
from eigenmesh.xds.snapshot import TypeSet
from eigenmesh.xds.stream import ABSENT, Ack, Lane, Nack, Response, Stream


class DeltaStream(Stream):
    """A stream of DeltaDiscoveryRequest and DeltaDiscoveryResponse."""

    def receive_bytes(self, data: bytes) -> tuple[Ack | Nack, ...]:
        """`receive` of a serialised request. Raises ProtocolError."""
        return self.receive(parse_request(DeltaDiscoveryRequest, data))

    def receive(self, request: DeltaDiscoveryRequest) -> tuple[Ack | Nack, ...]:
        """Raises ProtocolError."""
        self._identify(request)
        lane, first = self._lane(request.type_url)
        # The nonce pairs an answer with its response and nothing else: a request with a stale one
        # still subscribes ("Incremental xDS").
        answers = lane.answer(request.response_nonce, request, whole=False)
        subscribe, unsubscribe = (
            request.resource_names_subscribe,
            request.resource_names_unsubscribe,
        )
        if not (first or subscribe or unsubscribe):
            return answers  # an ACK or a NACK, as most requests are
        check_names("resource_names_subscribe", subscribe)
        change = lane.subscription.delta(subscribe, unsubscribe)
        if first:
            # On reconnect: what the client has is compared, not sent again.
            covers = lane.subscription.covers
            known = request.initial_resource_versions
            check_names("initial_resource_versions", known)
            check_length("initial_resource_versions", known.values())
            self._known += len(known)
            lane.sent = {name: known[name] for name in known if covers(name)}
            answers += self._resumed(lane.type_url, lane.sent)
        lane.apply(change, resend=not first)
        self._check_names()
        return answers

    def _respond(self, lane: Lane, resources: TypeSet, due: set[str]) -> Response | None:
        told: dict[str, str] = {}
        entries: list[bytes] = []
        waiting = self._in_use(lane, due - resources.resources.keys())
        for name in sorted(due - waiting):
            resource = resources.resources.get(name)
            if self._waits(resource):
                waiting.add(name)
            elif resource is not None:
                told[name] = resource.version
                entries.append(resource.delta_entry)
            else:
                # "Knowing When a Requested Resource Does Not Exist", and "Deleting Resources".
                told[name] = ABSENT
                entries.append(wire.field(6, name))
        lane.compared(resources, waiting)
        if not told and lane.greeted:
            return None
        return self._launch(lane, resources, told, resources.delta_head + b"".join(entries))
