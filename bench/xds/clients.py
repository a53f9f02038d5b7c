"""A process full of Envoys, as far as a control plane can tell: delta ADS streams.

Each has a channel, so a TCP connection, of its own; subscribes to RTDS, CDS, LDS and RDS, each
when the one before is there, as Envoy does; and ACKs every response. Times are of the monotonic
clock, which the processes of a machine share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from envoy.config.core.v3.base_pb2 import Extension, Node
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
)
from grpc.aio import EOF  # type: ignore[attr-defined]

from bench.xds import scene
from bench.xds.child import allow_connections, obey

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SUBSCRIPTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (scene.RUNTIME, (scene.RUNTIME_LAYER,)),
    (scene.CLUSTER, ()),
    (scene.LISTENER, ()),
    (scene.ROUTE, (scene.ROUTE_TABLE,)),
)
"""In Envoy's order; without names: everything."""

EXTENSIONS = 516
"""Envoy 1.40 lists so many extensions in its node, some 61 kB of them."""

_OWN_CONNECTION = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
)
_NO_WINDOW = (("grpc.http2.lookahead_bytes", 5), ("grpc.http2.bdp_probe", 0))
"""HTTP/2 flow control lets the server send five bytes to a client that does not read."""


def _node() -> bytes:
    """A request that has nothing but a node as big as Envoy's, without an id."""
    kind = "envoy.extensions.filters.http.number_{0}.v3.ConfigurationOfNumber{0}"
    extensions = [
        Extension(
            name=f"envoy.filters.http.number_{i}",
            category="envoy.filters.http",
            type_urls=[kind.format(i)],
        )
        for i in range(EXTENSIONS)
    ]
    node = Node(cluster="edge", user_agent_name="envoy", extensions=extensions)
    return bytes(DeltaDiscoveryRequest(node=node).SerializeToString())


_NODE = _node()


class Envoy:
    """One stream. `subscribed` is set once every subscription was answered."""

    def __init__(self, address: str, name: str, *, node_always: bool, stalled: bool = False):
        self.subscribed = asyncio.Event()
        self.arrived = asyncio.Event()
        self.error = ""
        self.received = self.acked = 0.0
        self.version = ""
        self.size = 0
        self._name = name
        self._node_always = node_always
        self._stalled = stalled
        options = [*_OWN_CONNECTION, *(_NO_WINDOW if stalled else ())]
        self._channel: Any = grpc.aio.insecure_channel(address, options=options)
        self._task = asyncio.create_task(self._run())

    def expect(self) -> None:
        """`arrived` is set by the next route table."""
        self.arrived.clear()
        self.version, self.size = "", 0

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def _run(self) -> None:
        try:
            call = self._channel.stream_stream(METHOD)()
            if self._stalled:
                await self._only_ask(call)
            else:
                await self._follow(call)
        except grpc.aio.AioRpcError as error:
            self.error = f"{error.code().name}: {error.details()}"
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    async def _only_ask(self, call: Any) -> None:
        for type_url, names in SUBSCRIPTIONS:
            await call.write(self._subscription(type_url, names))
        self.subscribed.set()
        # Waits for the end of the stream.
        self.error = f"{(await call.code()).name}: {await call.details()}"

    async def _follow(self, call: Any) -> None:
        pending = list(SUBSCRIPTIONS)
        await call.write(self._subscription(*pending[0]))
        while (body := await call.read()) is not EOF:
            now = time.monotonic()
            response = DeltaDiscoveryResponse.FromString(body)
            await call.write(self._ack(response))
            if pending and response.type_url == pending[0][0]:
                del pending[0]
                if pending:
                    await call.write(self._subscription(*pending[0]))
                else:
                    self.subscribed.set()
            if response.type_url == scene.ROUTE:
                self.received, self.acked = now, time.monotonic()
                self.version = response.resources[0].version
                self.size = len(body)
                self.arrived.set()
        self.error = f"the server ended the stream: {(await call.code()).name}"

    def _subscription(self, type_url: str, names: Sequence[str]) -> bytes:
        request = DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=names)
        return self._serialised(request, first=type_url == SUBSCRIPTIONS[0][0])

    def _ack(self, response: DeltaDiscoveryResponse) -> bytes:
        return self._serialised(
            DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        )

    def _serialised(self, request: DeltaDiscoveryRequest, *, first: bool = False) -> bytes:
        if not (first or self._node_always):
            return bytes(request.SerializeToString())
        request.node.id = self._name
        # A message that comes twice is merged: the big part of the node is serialised once.
        return _NODE + bytes(request.SerializeToString())


class Clients:
    """The commands of this process."""

    def __init__(self) -> None:
        self._envoys: list[Envoy] = []
        self._stalled: list[Envoy] = []

    async def connect(
        self,
        *,
        address: str,
        name: str,
        streams: int,
        at_once: int,
        within: float,
        node_always: bool = False,
    ) -> dict[str, Any]:
        """Opens streams, at most `at_once` of them not yet subscribed.

        seconds: of each stream, from its start to the answer to its last subscription.
        errors: of the streams that were lost.
        """
        gate = asyncio.Semaphore(at_once)
        deadline = time.monotonic() + within
        seconds: list[float] = []

        async def open_one(number: int) -> None:
            async with gate:
                begun = time.monotonic()
                envoy = Envoy(address, f"{name}-{number}", node_always=node_always)
                self._envoys.append(envoy)
                if await _within(envoy.subscribed, envoy, deadline):
                    seconds.append(time.monotonic() - begun)

        begun = time.monotonic()
        await asyncio.gather(*(open_one(number) for number in range(streams)))
        total = time.monotonic() - begun
        lost = [e.error or "timeout" for e in self._envoys if not e.subscribed.is_set()]
        return {"begun": begun, "total": total, "seconds": seconds, "errors": lost}

    async def stall(self, *, address: str, streams: int) -> None:
        """Opens streams that ask for everything and never read."""
        for number in range(streams):
            envoy = Envoy(address, f"stalled-{number}", node_always=False, stalled=True)
            self._stalled.append(envoy)
            if not await _within(envoy.subscribed, envoy, time.monotonic() + 5.0):
                raise RuntimeError(f"the stalled client did not connect: {envoy.error}")

    async def stalled(self) -> list[str]:
        """How those streams ended; empty text: not yet."""
        return [envoy.error for envoy in self._stalled]

    async def expect(self) -> None:
        """To be asked before a push."""
        for envoy in self._envoys:
            envoy.expect()

    async def collect(self, *, within: float) -> dict[str, Any]:
        """What came since `expect`: waits until every stream has had its route table.

        received, acked: monotonic seconds, by stream.
        """
        deadline = time.monotonic() + within
        got = [e for e in self._envoys if await _within(e.arrived, e, deadline)]
        return {
            "received": [e.received for e in got],
            "acked": [e.acked for e in got],
            "versions": sorted({e.version for e in got}),
            "sizes": sorted({e.size for e in got}),
            "missing": len(self._envoys) - len(got),
            "errors": sorted({e.error for e in self._envoys if e.error}),
        }


async def _within(event: asyncio.Event, envoy: Envoy, deadline: float) -> bool:
    if not event.is_set() and not envoy.error:
        try:
            await asyncio.wait_for(event.wait(), deadline - time.monotonic())
        except TimeoutError:
            return False
    return event.is_set()


async def main() -> None:
    allow_connections()
    clients = Clients()
    await obey(
        {
            "connect": clients.connect,
            "stall": clients.stall,
            "stalled": clients.stalled,
            "expect": clients.expect,
            "collect": clients.collect,
        }
    )


if __name__ == "__main__":
    asyncio.run(main())
