"""The same traffic gets the same answers: from the operator's static file, and once adopted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from eigenmesh.control.sidecar import make_source
from eigenmesh.mesh import Plan
from eigenmesh.mesh.plan import COUNTS, to_integers
from eigenmesh.xds.operator import OperatorConfig

from . import envoy_types
from .adoption import Serving, adopt, moved_plan
from .compare import differences
from .corpus import NAMES, Filled, fill
from .harness import Answer, Envoy, changes, limit_mismatches, mismatches, run_probe
from .test_corpus import validate
from .upstreams import Upstreams

_REDACTED = {"[redacted]", "W3JlZGFjdGVkXQ=="}


@dataclass(frozen=True)
class Seen:
    """answers: one for each probe. limits: breakers in force. bootstrap: as Envoy understood it."""

    answers: list[Answer]
    limits: dict[str, dict[str, dict[str, int]]]
    bootstrap: envoy_types.Plain


class Stage:
    """One corpus file with its upstreams."""

    def __init__(self, filled: Filled, upstreams: Upstreams) -> None:
        self.filled = filled
        self.upstreams = upstreams
        self._after: tuple[Seen, list[str]] | None = None

    def look(self, envoy: Envoy) -> Seen:
        sidecar = self.filled.sidecar
        try:
            envoy.settle(sidecar.settles)
            # Before the probes: a retry budget may count the requests of its last seconds.
            limits = envoy.limits()
            answers = [run_probe(p, self.filled, self.upstreams) for p in sidecar.probes]
        except OSError as error:
            running = "runs" if envoy.running() else "has ended"
            error.add_note(f"ports {self.filled.ports}; Envoy {running}: {envoy.log_tail()}")
            raise
        dump = json.loads(envoy.admin("/config_dump?mask=bootstrap"))
        return Seen(answers, limits, dump)

    @cached_property
    def before(self) -> Seen:
        """With the static file."""
        filled = self.filled
        with Envoy(filled.text, filled.ports["admin"], filled.scratch) as envoy:
            return self.look(envoy)

    async def after(self) -> tuple[Seen, list[str]]:
        """With the adopted file under the operator's own plan; and what is not observed of its
        traffic or not in force of another plan: nothing, if it can be steered."""
        if self._after is None:
            filled, adopted = self.filled, adopt(self.filled)
            assert not validate(adopted.bootstrap, filled.scratch / "bootstrap.yaml")
            async with Serving(adopted) as serving:
                admin = filled.ports["admin"]
                async with Envoy(adopted.bootstrap, admin, filled.scratch) as envoy:
                    assert not serving.refused, "\n".join(serving.refused)
                    source = make_source(adopted.settings)
                    await source.observe(time.time())
                    seen = await asyncio.to_thread(self.look, envoy)
                    observed = await source.observe(time.time())
                    await source.close()
                    plan = moved_plan(adopted.config)
                    serving.publish(plan)
                    wrong = await asyncio.to_thread(not_in_force, envoy, adopted.config, plan)
                    unseen = [f"{name}: {why}" for name, why in observed.missing.items()]
                    self._after = seen, [*wrong, *serving.refused, *unseen]
        return self._after


def not_in_force(envoy: Envoy, config: OperatorConfig, plan: Plan) -> list[str]:
    """What of the plan Envoy has not applied a while after it was published."""
    deadline = time.monotonic() + 5.0
    while True:
        splits, limits, stats = envoy.splits(), envoy.limits(), envoy.counters(r"^vhost\.")
        found = []
        for route in config.steered:
            wanted = to_integers(plan.weights[route.name])
            if wanted not in splits.get(route.route_config, []):
                found.append(f"route {route.name}: {wanted} is not among {splits}")
        for cluster, own in plan.limits.items():
            wanted = {name: getattr(own, name) for name in COUNTS}
            thresholds = config.clusters[cluster].circuit_breakers.thresholds
            budgeted = any(t.HasField("retry_budget") for t in thresholds)
            if budgeted or own.retry_budget is not None:
                # "If this parameter is set, ... max_retries is ignored" (Thresholds.retry_budget)
                del wanted["max_retries"]
            found += limit_mismatches({cluster: {"default": wanted, "high": wanted}}, limits)
        for name, (host, prefix) in config.route_stats().items():
            if f"vhost.{host}.route.{prefix}.upstream_rq_total" not in stats:
                found.append(f"route {name}: no counter of {host} / {prefix} in {sorted(stats)}")
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    with Upstreams(certificates) as upstreams:
        scratch = tmp_path_factory.mktemp(request.param)
        yield Stage(fill(request.param, certificates, scratch, upstreams.port), upstreams)


@pytest.mark.parametrize("stage", NAMES, indirect=True)
def test_the_static_file_answers_as_declared(stage: Stage) -> None:
    seen, sidecar = stage.before, stage.filled.sidecar
    found = [
        m for p, a in zip(sidecar.probes, seen.answers, strict=True) for m in mismatches(p, a)
    ] + limit_mismatches(sidecar.limits, seen.limits)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("stage", NAMES, indirect=True)
async def test_the_adopted_file_answers_the_same(stage: Stage) -> None:
    before = stage.before
    after, _ = await stage.after()
    found = [
        line
        for probe, one, two in zip(
            stage.filled.sidecar.probes, before.answers, after.answers, strict=True
        )
        for line in changes(probe, one, two)
    ] + limit_mismatches(before.limits, after.limits)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("stage", NAMES, indirect=True)
async def test_the_adopted_file_can_be_steered(stage: Stage) -> None:
    """Weights and limits of another plan are in force, and its traffic can be observed."""
    _, wrong = await stage.after()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("stage", NAMES, indirect=True)
def test_envoy_understands_the_file_as_this_suite_does(stage: Stage) -> None:
    """What the comparison of resources rests on: YAML rules and message types are Envoy's."""
    [dump] = stage.before.bootstrap["configs"]
    kind = "envoy.config.bootstrap.v3.Bootstrap"
    theirs = envoy_types.read(dump["bootstrap"], kind)
    ours = envoy_types.read(envoy_types.load_yaml(stage.filled.text), kind)
    for ignored in (
        "extensions",
        "user_agent_build_version",
        "hidden_envoy_deprecated_build_version",
    ):
        theirs["node"].pop(ignored, None)
    theirs["node"].update(user_agent_name=ours["node"].get("user_agent_name", "envoy"))
    ours["node"].setdefault("user_agent_name", "envoy")
    found = [
        line
        for line in differences(ours, theirs, "")
        if not any(line.endswith(f"became {secret!r}") for secret in _REDACTED)
    ]
    assert not found, "\n".join(found)
