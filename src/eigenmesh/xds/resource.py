"""A resource as it goes over the wire: named, versioned by its content, already serialised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from google.protobuf.message import Message

from eigenmesh.xds import wire

TYPE_PREFIX = "type.googleapis.com/"

LISTENER = TYPE_PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = TYPE_PREFIX + "envoy.config.route.v3.RouteConfiguration"
CLUSTER = TYPE_PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = TYPE_PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
RUNTIME = TYPE_PREFIX + "envoy.service.runtime.v3.Runtime"
SECRET = TYPE_PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION_CONFIG = TYPE_PREFIX + "envoy.config.core.v3.TypedExtensionConfig"

Key = tuple[str, str]
"""(type URL, name)"""


@dataclass(frozen=True)
class Resource:
    """One resource.

    version: hash of `packed`, so that equal content has an equal version in every process.
    packed: the serialised google.protobuf.Any.
    warms: what must be sent again after this resource was, since the client drops it
        (a changed EDS cluster and its endpoints).
    needs: what the client must have accepted before this resource is sent
        (a route and its clusters).
    """

    type_url: str
    name: str
    version: str
    packed: bytes
    warms: frozenset[Key] = frozenset()
    needs: frozenset[Key] = frozenset()

    @classmethod
    def of(
        cls,
        message: Message,
        name: str,
        *,
        warms: frozenset[Key] = frozenset(),
        needs: frozenset[Key] = frozenset(),
    ) -> Resource:
        """Serialises `message`. Its Any fields must be canonical (see `protos.walk`)."""
        type_url = TYPE_PREFIX + message.DESCRIPTOR.full_name
        # Maps have no order of their own; without it the version would differ by process.
        value = message.SerializeToString(deterministic=True)
        packed = wire.field(1, type_url) + wire.field(2, value)
        return cls(type_url, name, digest(packed), packed, warms, needs)

    @cached_property
    def needed_types(self) -> frozenset[str]:
        """The type URLs in `needs`."""
        return frozenset(type_url for type_url, _ in self.needs)

    @cached_property
    def sotw_entry(self) -> bytes:
        """Its place in DiscoveryResponse.resources."""
        return wire.field(2, self.packed)

    @cached_property
    def delta_entry(self) -> bytes:
        """Its place in DeltaDiscoveryResponse.resources."""
        parts = wire.field(1, self.version) + wire.field(2, self.packed) + wire.field(3, self.name)
        return wire.field(2, parts)


def digest(data: bytes) -> str:
    """16 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()
