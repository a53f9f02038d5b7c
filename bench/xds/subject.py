"""Eigenmesh's xDS server in a process of its own, with nothing else of Eigenmesh."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from bench.xds import scene
from bench.xds.child import allow_connections, obey
from bench.xds.served import Pushes
from eigenmesh.mesh import Plan
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.operator import parse_operator
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.translate import Translator


class Subject:
    """Times are seconds. parsing, first: of the document and of the first snapshot."""

    def __init__(self, shape: scene.Shape) -> None:
        document = scene.document(shape)
        begun = time.perf_counter()
        operator = parse_operator(document)
        self.parsing = time.perf_counter() - begun
        self._plan = operator.original_plan()
        self._route = operator.topology().routes[0].name
        self._translator = Translator(operator, runtime_layer=scene.RUNTIME_LAYER)
        begun = time.perf_counter()
        self._snapshot = self._translator.snapshot(self._plan)
        self.first = time.perf_counter() - begun
        self.server = XdsServer("127.0.0.1:0", on_event=self._on_event)
        self.server.publish(self._snapshot)
        self.pushes = Pushes(self._plans, self._change, self.server.publish)

    def _plans(self, number: int) -> Plan:
        """Every push moves one weight of one route."""
        split = scene.shifted(self._plan.weights[self._route], 0.3 + 0.001 * (number % 300))
        return Plan({**self._plan.weights, self._route: split}, self._plan.limits)

    def _change(self, plan: Plan) -> Snapshot:
        self._snapshot = self._translator.snapshot(plan, self._snapshot)
        return self._snapshot

    def _on_event(self, event: XdsEvent) -> None:
        if event.kind == "ack" and event.type_url == scene.ROUTE:
            self.pushes.acked()


async def main() -> None:
    parser = argparse.ArgumentParser()
    scene.Shape.add_to(parser)
    parser.add_argument("--pushes", type=int, help="as for the floor; not needed here")
    allow_connections()
    subject = Subject(scene.Shape.from_arguments(parser.parse_args()))
    port = await subject.server.start()
    ready = {"port": port, "parsing": subject.parsing, "first_snapshot": subject.first}
    print(json.dumps({"ok": ready}), flush=True)
    await obey({"push": subject.pushes.push, "settle": subject.pushes.settle})
    await subject.server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
