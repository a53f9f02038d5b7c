"""An xDS server in a process of its own, to be killed.

serving.py OPERATOR.json PLAN.json PORT
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from eigenmesh.mesh import Plan
from eigenmesh.xds.operator import parse_operator
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.translate import Translator


async def main() -> None:
    operator, plan, port = sys.argv[1:]
    config = parse_operator(json.loads(Path(operator).read_text()))
    translator = Translator(config)
    server = XdsServer(f"127.0.0.1:{port}")
    server.publish(translator.snapshot(Plan.from_dict(json.loads(Path(plan).read_text()))))
    await server.start()
    await asyncio.Event().wait()


asyncio.run(main())
