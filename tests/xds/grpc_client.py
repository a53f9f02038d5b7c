"""gRPC's own xDS client, in a process of its own: its bootstrap is read from the environment, once.

grpc_client.py TARGET RATE: sends RATE requests/s to xds:///TARGET, whatever becomes of them, and
prints a JSON line for each answer: what it was (a name of grpc.StatusCode), which backend gave it
on which connection, and the details of an error.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc

SERVICE, METHOD = "eigenmesh.test.Backend", "Who"


async def ask(call: Any) -> None:
    answer = {"status": "OK", "backend": "", "connection": "", "detail": ""}
    try:
        said: bytes = await call(b"", timeout=5.0)
        answer["backend"], answer["connection"] = said.decode().split()
    except grpc.aio.AioRpcError as error:
        answer |= {"status": error.code().name, "detail": error.details() or ""}
    print(json.dumps(answer), flush=True)


async def main(target: str, rate: float) -> None:
    loop = asyncio.get_running_loop()
    asked: set[asyncio.Task[None]] = set()
    due = loop.time()
    async with grpc.aio.insecure_channel(f"xds:///{target}") as channel:
        untyped: Any = channel
        call = untyped.unary_unary(f"/{SERVICE}/{METHOD}")
        while True:
            task = asyncio.create_task(ask(call))
            asked.add(task)
            task.add_done_callback(asked.discard)
            due += 1.0 / rate
            await asyncio.sleep(max(0.0, due - loop.time()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
