"""An xDS server in a process of its own, which publishes what it is told on its stdin.

published.py PORT; every line is a value that all of `content` gets.
"""

from __future__ import annotations

import asyncio
import sys

from eigenmesh.xds.options import ServerOptions
from eigenmesh.xds.resource import CLUSTER, ROUTE
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.snapshot import Snapshot
from tests.xds.support import resource

ROUTES = tuple(f"route-{i:03}" for i in range(500))
FENCES = tuple(f"fence-{i}" for i in range(4))


def content(value: str) -> Snapshot:
    """One cluster and many routes; the fences never change (see conformance/driver.py)."""
    return Snapshot(
        [
            resource(CLUSTER, "beat", value),
            *(resource(ROUTE, name, value) for name in ROUTES),
            *(resource(ROUTE, name) for name in FENCES),
        ]
    )


async def main() -> None:
    # So long that no group falls back while somebody refuses everything: that is another subject.
    options = ServerOptions(fallback_after=600)
    server = XdsServer(f"127.0.0.1:{sys.argv[1]}", options=options)
    server.publish(content("0"))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await server.start()
    while line := await reader.readline():
        server.publish(content(line.decode().strip()))


if __name__ == "__main__":
    asyncio.run(main())
