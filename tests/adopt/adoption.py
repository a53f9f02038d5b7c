"""One corpus file, adopted as an operator adopts it: `eigenmesh adopt`, then its two files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from typer.testing import CliRunner

from eigenmesh.cli.main import app
from eigenmesh.control.settings import Settings, load_settings
from eigenmesh.demo.processes import free_port
from eigenmesh.mesh import BreakerLimits, Plan
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.operator import OperatorConfig
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.translate import Translator

from .corpus import Filled


class NotAdoptedError(Exception):
    """`eigenmesh adopt` refused a file; what it said."""


@dataclass(frozen=True)
class Adopted:
    """settings, bootstrap: what was written, the latter as text. said: to the operator."""

    settings: Settings
    bootstrap: str
    said: str

    @property
    def config(self) -> OperatorConfig:
        return self.settings.operator

    def snapshot(self, plan: Plan | None = None) -> Snapshot:
        """What is served under this plan; without one, under the operator's own."""
        layer = self.settings.model.runtime_layer
        translator = Translator(self.config, runtime_layer=layer)
        return translator.snapshot(self.config.original_plan() if plan is None else plan)


def adopt(filled: Filled) -> Adopted:
    """Raises NotAdoptedError."""
    source, output = filled.scratch / "envoy.yaml", filled.scratch / "adopted"
    source.write_text(filled.text)
    address = f"127.0.0.1:{free_port()}"
    options = ["--output", str(output), "--xds-address", address, "--force"]
    done = CliRunner().invoke(app, ["adopt", str(source), *options])
    if done.exit_code != 0:
        raise NotAdoptedError(done.output) from done.exception
    settings = load_settings(output / "eigenmesh.yaml")
    return Adopted(settings, (output / "bootstrap.yaml").read_text(), done.output)


def moved_plan(config: OperatorConfig) -> Plan:
    """A plan unlike any operator's: every weight and every limit is changed."""
    weights = {}
    for route in config.topology().routes:
        rest = 0.27 / (len(route.clusters) - 1)
        weights[route.name] = {c: 0.73 if i == 0 else rest for i, c in enumerate(route.clusters)}
    clusters = config.topology().steered_clusters
    return Plan(weights, {c: BreakerLimits.around(300 + i) for i, c in enumerate(clusters)})


class Serving:
    """An xDS server with the adopted file. `refused` holds what Envoy said of what it NACKed."""

    def __init__(self, adopted: Adopted) -> None:
        self.refused: list[str] = []
        self._adopted = adopted
        self._server = XdsServer(adopted.settings.model.xds.listen, on_event=self._note)
        self.publish(None)

    def publish(self, plan: Plan | None) -> None:
        self._server.publish(self._adopted.snapshot(plan))

    def _note(self, event: XdsEvent) -> None:
        if event.kind == "nack":
            self.refused.append(f"{event.type_url}: {event.detail}")

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)
