"""The running sidecar: journal, xDS server, telemetry, solver worker and loop, wired together."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from eigenmesh.control.clock import Clock
from eigenmesh.control.fast import FastLoop
from eigenmesh.control.fleet import Grants
from eigenmesh.control.groups import part_of
from eigenmesh.control.heartbeat import Heartbeat
from eigenmesh.control.journal import Journal, JournalWriteError
from eigenmesh.control.loop import Change, ControlLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.operations import Operations
from eigenmesh.control.proposal import LoopSettings
from eigenmesh.control.proxies import Proxies
from eigenmesh.control.reload import carried, changed
from eigenmesh.control.settings import Settings
from eigenmesh.guard import FastGuard, Storm
from eigenmesh.guard.calendar import HOUR
from eigenmesh.guard.controls import Controls, Mode, hear, known_part
from eigenmesh.mesh import Observation, Plan, Topology
from eigenmesh.optimize.worker import SolverError, Worker
from eigenmesh.telemetry.coupled import CoupledEstimator
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource
from eigenmesh.telemetry.prometheus import PrometheusSource
from eigenmesh.telemetry.source import Source
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.identity import Identity
from eigenmesh.xds.operator import OperatorConfig
from eigenmesh.xds.overlay import OverlayTranslator
from eigenmesh.xds.resource import ROUTE, RUNTIME, Resource
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.translate import Translator

log = structlog.get_logger(__name__)

CONFIRM_WITHIN = 60.0
"""Seconds for which the Envoys' answers to a plan are waited for."""


class _Content:
    """One configuration of the operator's, and what of it is served to these groups now."""

    def __init__(
        self,
        operator: OperatorConfig,
        translator: Translator | OverlayTranslator,
        groups: tuple[str, ...],
    ) -> None:
        self._operator = operator
        self._translator = translator
        self.groups = groups
        self.clusters = operator.topology().steered_clusters
        self.snapshot = Snapshot()

    def layer(self, plan: Plan, grants: Grants | None = None) -> Resource:
        """The runtime layer under the plan, with these limits (max_requests by cluster)."""
        return self._translator.layer(part_of(plan, self._operator), grants)

    def divided(self, plan: Plan) -> dict[str, int]:
        """Cluster -> limit (max_requests), where it is not the operator's own."""
        own = self._operator.own_limits
        limits = part_of(plan, self._operator).limits
        return {
            c: m.max_requests
            for c, m in limits.items()
            if m != own.get(c) and c not in self._operator.adaptive
        }

    def translate(self, plan: Plan) -> None:
        before = self.snapshot if self.snapshot.type_urls else None
        self.snapshot = self._translator.snapshot(part_of(plan, self._operator), before)


class Sidecar:
    """Start it once, stop it once. `loop` and `xds` are what the API shows and steers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        model = settings.model
        self.metrics = Metrics(model.mesh)
        self.metrics.interval.set(model.interval)
        self._clock = Clock()
        self.journal = Journal(model.journal.path, keep=model.journal.retention())
        mesh, original = mesh_hash(settings.topology), settings.groups.original_plan()
        self.journal.put_originals(original, mesh)
        resumed = self.journal.resume(mesh)
        plan = resumed.plan or original
        if resumed.plan is not None:
            log.info("resuming the plan in force", decisions=resumed.last_number)
        self._contents = _contents(settings)
        certificates, tls = settings.certificates, model.xds.tls
        self.xds = XdsServer(
            model.xds.listen,
            grouping=settings.groups.grouping,
            options=model.xds.options(),
            on_event=self._on_xds_event,
            credentials=certificates.credentials() if certificates else None,
            authorise=Identity(tls.identity).refusal if tls and tls.client_ca else None,
            only=RUNTIME if model.overlay else None,
        )
        if certificates is not None:
            self.metrics.watch_certificates(certificates.problem)
        self.proxies = Proxies(
            self._contents, self.xds, interval=model.interval, resumed=resumed.grants
        )
        for content in self._contents:
            content.translate(plan)
        self.proxies.put(plan)
        estimator = (
            CoupledEstimator.from_dict(settings.topology, resumed.estimator)
            if resumed.estimator
            else CoupledEstimator(settings.topology)
        )
        self._source = make_source(settings)
        self._storm = Storm(settings.guard.storm)
        fast_source = make_fast_source(settings)
        self._fast = _tuned(FastGuard(settings.guard.fast) if fast_source else None, settings)
        self._worker = Worker()
        controls = Controls.from_dict(resumed.controls) if resumed.controls else Controls()
        controls = known_part(hear(controls, settings.modes), settings.topology)
        self.loop = ControlLoop(
            loop_settings(settings),
            plan=plan,
            controls=controls,
            good=resumed.good,
            pending=self.journal.decision(resumed.pending) if resumed.pending else None,
            pushes=self.journal.pushes(time.time() - HOUR),
            number=resumed.last_number,
            source=self._source,
            estimator=estimator,
            solver=self._worker,
            journal=self.journal,
            push=self._push,
            observed=self._observed,
            metrics=self.metrics,
            storm=self._storm,
            fast=self._fast,
            clock=self._clock,
        )
        self._clock.on_jump(self.loop.shift)
        self.operations = Operations(self.loop, self.journal, original=original)
        self._fast_loop = self._make_fast_loop(fast_source)
        self._fast_task: asyncio.Task[None] | None = None
        self.heartbeat = Heartbeat(self.metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._confirming: asyncio.Task[None] | None = None
        self._taking_back: set[asyncio.Task[None]] = set()
        self.metrics.xds_streams.set_function(lambda: self.xds.connected)
        self.metrics.watch_nodes(self.xds.nodes)
        self.metrics.watch_controls(lambda: self.loop.controls, lambda: self.loop.approvals.pending)

    async def start(self) -> None:
        """Envoys are served first: they must not wait for PennyLane.

        Raises RuntimeError when the xDS address is taken.
        """
        self._publish()
        port = await self.xds.start()
        log.info("serving xDS", port=port, mode=self.loop.mode)
        self._tasks = [
            asyncio.create_task(self.heartbeat.run(), name="heartbeat"),
            asyncio.create_task(self._warm_up(), name="warm-up"),
            asyncio.create_task(self.loop.run(), name="loop"),
        ]
        self._start_fast_loop()

    async def stop(self) -> None:
        """Envoys keep the plan that they have."""
        tasks = [*self._tasks, *self._taking_back]
        tasks += [task for task in (self._confirming, self._fast_task) if task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self._source.close()
        if self._fast_loop is not None:
            await self._fast_loop.close()
        await self.xds.stop(0.5)
        await self._worker.close()
        self.journal.close()
        log.info(
            "stopped",
            worst_event_loop_lag_seconds=round(self.heartbeat.worst_lag, 4),
            worst_event_loop_busy_seconds=round(self.heartbeat.worst_busy, 4),
        )

    async def apply(self, settings: Settings) -> None:
        """Goes on with these, which `reload.needs_restart` has nothing against; no Envoy is
        dropped. Raises JournalWriteError or MeshError, and has changed nothing then."""
        old, different = self._settings, changed(self._settings, settings)
        rewired = bool(different & {"envoy", "envoy_descriptors", "groups", "steer"})
        source, fast_source = self._source, make_fast_source(settings)
        measured = "telemetry" in different or settings.guard.max_age != old.guard.max_age
        if rewired or measured or settings.topology != old.topology:
            source = make_source(settings)
        fast = (self._fast or FastGuard(settings.guard.fast)) if fast_source else None

        def carry(plan: Plan) -> Plan:
            return carried(plan, old.groups, settings.groups) if rewired else plan

        def prepare(plan: Plan) -> Callable[[], None]:
            contents = _contents(settings) if rewired else self._contents
            if rewired:
                for content in contents:
                    content.translate(plan)

            def install() -> None:
                self._contents = contents
                self.proxies.serve(contents, settings.model.interval)

            return install

        change = Change(
            settings=loop_settings(settings),
            told=settings.modes,
            names=sorted(different),
            source=source,
            fast=fast,
            carry=carry,
            prepare=prepare,
        )
        try:
            await self.loop.apply(change)
        except BaseException:
            for unused in (source, fast_source):
                if unused is not None and unused is not self._source:
                    await unused.close()
            raise
        await self._stop_fast_loop()
        before, self._source = self._source, source
        if source is not before:
            await before.close()
        self._settings, self._fast = settings, _tuned(fast, settings)
        self._fast_loop = self._make_fast_loop(fast_source)
        self._start_fast_loop()
        self._push(self.loop.plan)  # a fast guard that is off lowers nothing any more
        self.operations.original = settings.groups.original_plan()
        with suppress(JournalWriteError):  # a restart does it, too
            await asyncio.to_thread(
                self.journal.put_originals,
                self.operations.original,
                mesh_hash(settings.topology),
            )

    def _make_fast_loop(self, source: Source | None) -> FastLoop | None:
        if source is None or self._fast is None:
            return None
        return FastLoop(
            self._fast,
            self.loop,
            source,
            interval=self._settings.guard.fast.interval,
            still=self._settings.topology.adaptive,
            serve=lambda: self._push(self.loop.plan),
            metrics=self.metrics,
            clock=self._clock,
        )

    def _start_fast_loop(self) -> None:
        if self._fast_loop is not None:
            self._fast_task = asyncio.create_task(self._fast_loop.run(), name="fast-guard")

    async def _stop_fast_loop(self) -> None:
        if self._fast_task is not None:
            self._fast_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._fast_task
            self._fast_task = None
        if self._fast_loop is not None:
            await self._fast_loop.close()
            self._fast_loop = None

    def not_ready(self) -> str | None:
        """Why xDS cannot serve yet; None when it can."""
        if not self._tasks:
            return "the xDS server has not started"
        return None if self.xds.serving else "nothing has been published yet"

    async def _warm_up(self) -> None:
        try:
            await self._worker.start()
        except SolverError as error:
            # The loop holds the plan meanwhile, and every tick asks the worker anew.
            log.error("the solver worker did not start", error=str(error))

    def _push(self, plan: Plan) -> None:
        lowered = self._storm.over(plan)
        if self._fast is not None:
            lowered = self._fast.over(lowered)
        for content in self._contents:
            content.translate(lowered)
        self.proxies.put(lowered)
        merged = self.xds.merged
        self._publish()
        self.metrics.xds_merged.inc(self.xds.merged - merged)
        if self._confirming is not None:
            self._confirming.cancel()
        self._confirming = asyncio.create_task(self._confirm(plan))

    def _publish(self) -> None:
        for content in self._contents:
            for group in content.groups:
                self.xds.publish(content.snapshot, group, self.proxies.own(group))

    async def _confirm(self, plan: Plan) -> None:
        """Tells the loop when every Envoy has taken the plan. Cancelled by the next push."""
        for content in self._contents:
            for group in set(content.groups) & self.xds.groups:
                # In overlay mode there are no routes to wait for.
                for type_url in (t for t in (ROUTE, RUNTIME) if t in content.snapshot.type_urls):
                    # Each Envoy has a runtime layer of its own.
                    current = content.snapshot.of(type_url).version
                    version = None if type_url == RUNTIME else current
                    if not await self.xds.wait_acked(type_url, version, CONFIRM_WITHIN, group):
                        return
        self.loop.confirmed = plan

    async def _observed(self, seen: Observation) -> None:
        if self.loop.mode is not Mode.AUTO:
            return  # nothing is touched
        before = self.proxies.to_dict()
        await self.proxies.observed(seen)
        self.metrics.show_grants(self.proxies.grants)
        if (grants := self.proxies.to_dict()) != before:
            try:
                await asyncio.to_thread(self.journal.put_grants, grants)
            except JournalWriteError as error:
                # A restart then divides anew, which is a push more.
                log.warning("the division of the limits is not recorded", error=str(error))

    def _on_xds_event(self, event: XdsEvent) -> None:
        self.proxies.on_event(event)
        kind = event.type_url.rpartition(".")[2]
        self.metrics.xds_events.labels(event.kind, kind).inc()
        if event.kind == "ack" and event.seconds is not None:
            self.metrics.xds_convergence.labels(kind).observe(event.seconds)
        elif event.kind == "nack":
            log.error(
                "Envoy refused a version; it keeps the last good one",
                node=event.node_id,
                type=event.type_url,
                version=event.version,
                reason=event.detail,
            )
        elif event.kind == "fallback":
            log.error(
                "a version stayed refused; the group is served the last one that it took",
                group=event.group,
                node=event.node_id,
                type=event.type_url,
                version=event.version,
                reason=event.detail,
            )
            if event.type_url in (ROUTE, RUNTIME):
                task = asyncio.create_task(self.loop.take_back(f"{kind} {event.detail}"))
                self._taking_back.add(task)
                task.add_done_callback(self._taking_back.discard)
        elif event.kind in ("refused", "reset"):
            log.warning(f"an Envoy was {event.kind}", node=event.node_id, reason=event.detail)
        elif event.kind in ("connect", "disconnect"):
            log.info(f"Envoy {event.kind}ed", node=event.node_id, group=event.group)


def loop_settings(settings: Settings) -> LoopSettings:
    model = settings.model
    return LoopSettings(
        topology=settings.topology,
        objective=settings.objective,
        guard=settings.guard,
        interval=model.interval,
        solve_timeout=model.solve_timeout,
        solver=model.solver,
        circuits=model.circuits.settings(),
        mesh_hash=mesh_hash(settings.topology),
        own_limits=settings.groups.original_plan().limits,
    )


def _contents(settings: Settings) -> list[_Content]:
    model = settings.model
    translator = OverlayTranslator if model.overlay else Translator
    return [
        _Content(operator, translator(operator, runtime_layer=model.runtime_layer), groups)
        for operator, groups in settings.groups.distinct
    ]


def _tuned(guard: FastGuard | None, settings: Settings) -> FastGuard | None:
    if guard is not None:
        guard.tune(
            settings.guard.fast,
            slo=settings.objective.slo,
            min_limit=settings.guard.min_limit,
            max_age=settings.guard.max_age,
        )
    return guard


def make_source(settings: Settings) -> Source:
    """The telemetry source that the settings ask for."""
    telemetry = settings.model.telemetry
    routes = settings.groups.route_stats()
    stat_names = settings.groups.stat_names()
    if (prometheus := telemetry.prometheus) is not None:
        return PrometheusSource(
            prometheus.url,
            settings.topology,
            routes,
            window=prometheus.window,
            timeout=prometheus.timeout,
            retries=prometheus.retries,
            access=prometheus.access(),
            query=prometheus.query,
            selector=prometheus.selector,
            node_label=prometheus.node_label,
            max_age=settings.guard.max_age,
            stat_names=stat_names,
        )
    assert telemetry.envoy is not None
    return EnvoyAdminSource(
        telemetry.envoy.admin,
        settings.topology,
        routes,
        timeout=telemetry.envoy.timeout,
        max_age=settings.guard.max_age,
        stat_names=stat_names,
    )


def make_fast_source(settings: Settings) -> Source | None:
    """What is read between two decisions; None if that is off, or nothing can be."""
    fast, telemetry = settings.model.guard.fast, settings.model.telemetry
    admin = fast.admin or (telemetry.envoy.admin if telemetry.envoy else None)
    if not fast.enabled:
        why = "guard.fast.enabled is false"
    elif settings.model.interval <= fast.interval:
        why = "decisions are as frequent as guard.fast.interval"
    elif not admin:
        why = "no admin address of Envoy: set guard.fast.admin"
    else:
        return EnvoyAdminSource(
            admin,
            settings.topology,
            settings.groups.route_stats(),
            timeout=fast.interval,
            max_age=settings.guard.max_age,
            stat_names=settings.groups.stat_names(),
        )
    log.info("the fast guard is off", why=why)
    return None


def mesh_hash(topology: Topology) -> str:
    """Identity of routes and clusters, and of whose limits are ours: a plan recorded for another
    mesh must not be resumed."""
    mesh: list[object] = [[r.name, list(r.clusters)] for r in topology.routes]
    if topology.adaptive:
        mesh.append({"adaptive": sorted(topology.adaptive)})
    text = json.dumps(mesh, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
