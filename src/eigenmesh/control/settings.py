"""The settings file: one YAML document, validated before anything is started.

Every complaint is one line with the file, the field, the value and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from eigenmesh.control import groups
from eigenmesh.control.api_settings import ApiListen
from eigenmesh.control.circuit_settings import Circuits
from eigenmesh.control.duration import Seconds
from eigenmesh.control.groups import Groups, GroupSettings
from eigenmesh.control.guard_settings import Fraction, Guard, ModeName
from eigenmesh.control.journal_settings import JournalSettings
from eigenmesh.control.listen import Address, Listen, NodeTls, XdsListen, is_loopback
from eigenmesh.control.strict import Strict
from eigenmesh.control.telemetry_settings import Telemetry
from eigenmesh.guard.controls import Controls, check_bounds, effective
from eigenmesh.mesh import (
    Call,
    Cluster,
    GuardPolicy,
    Host,
    MeshError,
    ObjectivePolicy,
    Plan,
    Topology,
)
from eigenmesh.mesh import Scenario as MeshScenario
from eigenmesh.telemetry.access import AccessError
from eigenmesh.xds.documents import load_yaml
from eigenmesh.xds.operator import OperatorConfig, OperatorError, parse_operator
from eigenmesh.xds.protos import KNOWN_HERE
from eigenmesh.xds.tls import Certificates, TlsError

Positive = Annotated[float, Field(gt=0)]
Price = Annotated[float, Field(ge=0)]


def _ratio(value: object) -> object:
    if value == "learn":
        return None
    if not isinstance(value, int | float):
        raise ValueError("give the number of requests for each one, or learn")
    return value


Ratio = Annotated[Price | None, BeforeValidator(_ratio)]


M = TypeVar("M", bound=BaseModel)


class SettingsError(Exception):
    """The settings cannot be used. `lines` holds one complaint a line."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class ScenarioSettings(Strict):
    demand_factor: Positive
    """The demand. Unit: times the expected one."""
    weight: Positive
    """How much it counts. Unit: relative to the others."""


class Objective(Strict):
    """Prices in seconds per request; see ObjectivePolicy."""

    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of a cluster's latency, that plans are made for, such as 0.99; unset: the mean."""
    slo: Seconds = ObjectivePolicy.slo
    """Latency that a cluster should keep to."""
    slo_price: Price = ObjectivePolicy.slo_price
    """Of latency beyond `slo`. Unit: seconds for each second."""
    error_price: Price = ObjectivePolicy.error_price
    """Of a request that fails or is turned away. Unit: seconds per request."""
    churn_price: Price = ObjectivePolicy.churn_price
    """Of moving all traffic of the mesh to other clusters. Unit: seconds per request."""
    limit_churn_price: Price = ObjectivePolicy.limit_churn_price
    """Of moving every limit by one rung. Unit: seconds per request."""
    spill: Fraction = ObjectivePolicy.spill
    """Part of the requests turned away that come back, spread by the route's weights."""
    scenarios: list[ScenarioSettings] = Field(
        # Now, some more, and a burst: what limits are for has to be thought of before it comes.
        default=[
            ScenarioSettings(demand_factor=factor, weight=weight)
            for factor, weight in ((1.0, 0.78), (1.3, 0.2), (2.0, 0.02))
        ],
        min_length=1,
    )
    """Demands that a plan is made for."""
    ladder: list[Positive] = [1.25, 2.0, 3.5, 6.0]
    """Limits to choose from, increasing; 2, 4, 8, ... of them. Unit: times the requests in flight
    at the knee."""
    knee: Annotated[float, Field(gt=0, lt=0.97)] = ObjectivePolicy.knee
    """Utilisation that is taken for the knee of a latency curve."""

    def policy(self) -> ObjectivePolicy:
        return ObjectivePolicy(
            quantile=self.quantile,
            slo=self.slo,
            slo_price=self.slo_price,
            error_price=self.error_price,
            churn_price=self.churn_price,
            limit_churn_price=self.limit_churn_price,
            spill=self.spill,
            scenarios=tuple(MeshScenario(s.demand_factor, s.weight) for s in self.scenarios),
            ladder=tuple(self.ladder),
            knee=self.knee,
        )


class ClusterSettings(Strict):
    host: str | None = None
    """The machine that it shares with the other clusters that name it."""
    zone: str | None = None
    """One of `zones`, where its egress cost stands."""
    egress_cost: Price | None = None
    """Latency that a request to it may cost; unset: its zone's, or nothing. Unit: seconds per
    request."""
    calls: dict[str, Ratio] = {}
    """Steered route -> requests on it for each request to this cluster, one after the other;
    `learn`: read off the metrics. Unit: requests per request."""


class HostSettings(Strict):
    coupling: Fraction | None = None
    """0: its clusters do not feel each other; 1: they are one pool; unset: learned."""


class ZoneSettings(Strict):
    egress_cost: Price = 0.0
    """Latency that a request to a cluster there may cost. Unit: seconds per request."""


class Node(Strict):
    """How the Envoys name themselves, and where `eigenmesh bootstrap` puts their admin port."""

    id: str = "envoy-1"
    """The node id of the Envoy that `eigenmesh bootstrap` writes for."""
    cluster: str = "edge"
    """Its node cluster."""
    admin: Address = "127.0.0.1:9901"
    """Where its admin port listens."""
    tls: NodeTls | None = None
    """How it speaks TLS with Eigenmesh; paths as Envoy sees them."""


class Model(Strict):
    """The document. `envoy` is Envoy's own v3 YAML; a whole envoy.yaml may be pasted there."""

    mesh: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "mesh"
    """Name of the mesh, in metrics and in the journal."""
    mode: ModeName = "observe"
    """Recommend, wait for a yes, or push."""
    interval: Annotated[Seconds, Field(ge=0.2)] = 5.0
    """Between two decisions."""
    solver: Literal["best", "variational", "classical"] = "best"
    """Whose plan is taken: the better one, the circuits', or the classical one (no circuit
    runs)."""
    solve_timeout: Annotated[Seconds, Field(gt=0)] = 10.0
    """Longest time for one decision's solvers."""
    circuits: Circuits = Circuits()
    """Which device runs the circuits, and how; see [the optimiser](optimiser.md)."""
    xds: XdsListen = XdsListen(listen="127.0.0.1:18000")
    """The port that Envoys connect to; see [the xDS server](xds.md)."""
    api: ApiListen = ApiListen(listen="127.0.0.1:18001")
    """The gRPC API, and who may call it; see [the API](api.md)."""
    http: Listen = Listen(listen="127.0.0.1:18002")
    """Where /metrics, /healthz and /readyz are."""
    journal: JournalSettings = JournalSettings()
    """Where decisions are remembered, and for how long; a path alone will do. See [the
    journal](journal.md)."""
    overlay: bool = False
    """Serve the runtime layer and nothing else: another control plane has what `envoy` says."""
    runtime_layer: str = "eigenmesh"
    """Name of the RTDS layer that limits go by, and weights in overlay mode."""
    steer: list[str] | None = None
    """Routes to steer; unset: those with two or more weighted clusters. Of a route over one cluster
    that is named, the limits of its cluster are decided."""
    telemetry: Telemetry
    """Where latency is read: exactly one of the two. See [telemetry](telemetry.md)."""
    objective: Objective = Objective()
    """What a good plan is: prices in seconds of latency. See [the optimiser](optimiser.md)."""
    guard: Guard = Guard()
    """What may be pushed. See [operate](operate.md)."""
    clusters: dict[str, ClusterSettings] = {}
    """What Envoy's configuration does not say of a cluster; see [the model](model.md)."""
    hosts: dict[str, HostSettings] = {}
    """Machines that clusters share."""
    zones: dict[str, ZoneSettings] = {}
    """Zones that clusters are in."""
    groups: list[GroupSettings] = []
    """Envoys that are served something else, by what they say of themselves; the first that fits
    counts."""
    unknown_nodes: Literal["default", "refuse"] = "default"
    """What becomes of an Envoy that fits no group: served `envoy`, or refused."""
    node: Node = Node()
    """How the Envoy names itself. Only `eigenmesh bootstrap` reads it."""
    envoy: dict[str, Any]
    """Envoy's own v3 configuration, which is served; a whole envoy.yaml may be pasted."""
    envoy_descriptors: Path | None = None
    """Envoy's executable or a FileDescriptorSet, if `envoy` uses what is not known here."""


@dataclass(frozen=True)
class Settings:
    """A validated document with what follows from it."""

    model: Model
    operator: OperatorConfig
    """Of the default group."""
    groups: Groups
    topology: Topology
    objective: ObjectivePolicy
    guard: GuardPolicy
    file: str
    certificates: Certificates | None = None
    """Of the xDS port; None: plain text."""

    @property
    def modes(self) -> dict[str, str]:
        """What the document says of modes: "" (the mesh), "route NAME", "cluster NAME"."""
        return {"": self.model.mode, **dict(self.model.guard.modes())}

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know but may want: one line each."""
        lines = [
            f"{name}.listen: {getattr(self.model, name).listen} speaks plain text to other machines"
            for name in ("xds", "api", "http")
            if getattr(self.model, name).exposed
        ]
        lines += self.model.api.warnings()
        anonymous, http = self.model.api.anonymous, self.model.http.listen
        if anonymous is not None and not is_loopback(http):
            lines.append(f"api.anonymous: whoever reaches {http} may {anonymous}, by the page")
        xds = self.model.xds
        if xds.tls is not None and xds.tls.client_ca is None and not is_loopback(xds.listen):
            lines.append("xds.tls: whoever reaches the port is served; client_ca tells who may be")
        if self.model.overlay:
            lines += [
                f"guard: route {route.name}: the weight of {cluster} may be 0: should the other "
                "control plane drop the rest, it answers 404; raise min_weight or probe_floor"
                for route in self.topology.routes
                for cluster in route.clusters
                if self.guard.bounds_of(route.name, cluster).min_weight == 0
            ]
        prometheus = self.model.telemetry.prometheus
        if prometheus is not None and (url := prometheus.in_the_clear):
            lines.append(f"telemetry.prometheus.url: {url}: credentials go there in plain text")
        return tuple(lines)


def load_settings(path: Path | str) -> Settings:
    """Reads and validates a settings file. Raises SettingsError, one line per complaint."""
    return parse_document(read_document(path), str(path))


def read_document(path: Path | str) -> object:
    """The document of a settings file, as it stands. Raises SettingsError."""
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError([f"{file}: cannot be read: {reason}"]) from error
    return _read(text, file)


def parse_settings(text: str, file: str = "<settings>") -> Settings:
    """Validates the text of a settings file. Raises SettingsError, one line per complaint."""
    return parse_document(_read(text, file), file)


def _read(text: str, file: str) -> object:
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise SettingsError([f"{file}: {where}{problem}"]) from error


def parse_document(document: object, file: str = "<settings>") -> Settings:
    """Validates a settings document. Raises SettingsError, one line per complaint."""
    model = validated(Model, document, file)
    try:
        return _resolve(model, file)
    except (OperatorError, MeshError) as error:
        raise SettingsError([f"{file}: {error}"]) from error


def validated(model: type[M], document: object, file: str) -> M:
    """The document, or a part of one, by its model. Raises SettingsError."""
    if not isinstance(document, dict):
        found = type(document).__name__
        raise SettingsError([f"{file}: the document is a {found}; write a mapping of settings"])
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SettingsError([f"{file}: {_line(e, model)}" for e in error.errors()]) from error


def _resolve(model: Model, file: str) -> Settings:
    parse = _parser(model)
    operator = parse(model.envoy, model.steer, "envoy", "")
    grouped = groups.resolve(
        model.groups,
        default=operator,
        refuse_unknown=model.unknown_nodes == "refuse",
        parse=parse,
    )
    bare = grouped.topology()
    lines = list(_names(model, bare))
    if lines:
        raise SettingsError([f"{file}: {line}" for line in lines])
    topology = Topology(
        tuple(_cluster(c, model) for c in bare.clusters),
        bare.routes,
        tuple(Host(name, host.coupling) for name, host in model.hosts.items()),
    )
    try:
        objective = model.objective.policy()
    except MeshError as error:
        raise MeshError(f"objective.{error.field}", error.value, error.remedy) from error
    guard = model.guard.policy()
    try:
        # Canaries, too, have to leave room for somebody.
        check_bounds(topology, effective(guard, Controls(), Plan.equal(topology)))
    except MeshError as error:
        raise MeshError(f"guard: {error.field}", error.value, error.remedy) from error
    try:
        certificates = Certificates(model.xds.tls.files()) if model.xds.tls else None
    except TlsError as error:
        raise SettingsError([f"{file}: xds.tls.{error}"]) from error
    prometheus = model.telemetry.prometheus
    secrets = {"api": model.api.check}
    if prometheus is not None:
        secrets["telemetry.prometheus"] = prometheus.access().check
    for field, check in secrets.items():
        try:
            check()
        except AccessError as error:
            raise SettingsError([f"{file}: {field}.{error}"]) from error
    return Settings(model, operator, grouped, topology, objective, guard, file, certificates)


def _cluster(bare: Cluster, model: Model) -> Cluster:
    own = model.clusters.get(bare.name)
    if own is None:
        return bare
    cost = own.egress_cost
    if cost is None:
        cost = 0.0 if own.zone is None else model.zones[own.zone].egress_cost
    calls = tuple(Call(route, ratio) for route, ratio in own.calls.items())
    return replace(bare, host=own.host, egress_cost=cost, calls=calls)


def _parser(model: Model) -> groups.Parse:
    definitions = KNOWN_HERE
    if model.envoy_descriptors is not None:
        from eigenmesh.xds.definitions import read_definitions  # only when asked for

        definitions = read_definitions(model.envoy_descriptors)

    def parse(
        document: Mapping[str, Any], steer: Sequence[str] | None, source: str, prefix: str
    ) -> OperatorConfig:
        return parse_operator(
            document,
            steer=steer,
            source=source,
            prefix=prefix,
            overlay=model.overlay,
            definitions=definitions,
        )

    return parse


def _names(model: Model, topology: Topology) -> Iterator[str]:
    """Names in the settings that the Envoy configuration does not have."""
    routes, clusters = topology.route_by_name, topology.by_name
    for route, own in model.guard.routes.items():
        if route not in routes:
            yield f"guard.routes: {route!r}: no such steered route; {_one_of(route, routes)}"
            continue
        for cluster in own.clusters:
            if cluster not in routes[route].clusters:
                remedy = _one_of(cluster, dict.fromkeys(routes[route].clusters))
                yield f"guard.routes.{route}.clusters: {cluster!r}: not on this route; {remedy}"
    for cluster in model.guard.clusters:
        if cluster not in clusters:
            yield f"guard.clusters: {cluster!r}: no such cluster; {_one_of(cluster, clusters)}"
    for cluster in model.clusters:
        if cluster not in clusters:
            yield f"clusters: {cluster!r}: no such cluster; {_one_of(cluster, clusters)}"
    for name, own_cluster in model.clusters.items():
        for route in own_cluster.calls:
            if route not in routes:
                remedy = _one_of(route, routes)
                yield f"clusters.{name}.calls: {route!r}: no such steered route; {remedy}"
        if (zone := own_cluster.zone) is not None and zone not in model.zones:
            yield f"clusters.{name}.zone: {zone!r}: no such zone; {_one_of(zone, model.zones)}"
    named = dict.fromkeys(c.host for c in model.clusters.values() if c.host is not None)
    for host in model.hosts:
        if host not in named:
            yield f"hosts: {host!r}: no cluster names it; {_one_of(host, named)}"


def _one_of(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of: {', '.join(sorted(known)) or 'none is defined'}"


def _line(error: ErrorDetails, model: type[BaseModel]) -> str:
    """`field: value: remedy` for one complaint of pydantic's about a document of this model."""
    field = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        known = _known_keys(error["loc"][:-1], model)
        return f"{field}: unknown key {key!r}; {_one_of(key, dict.fromkeys(known))}"
    if error["type"] == "missing":
        return f"{field}: missing; this setting is required"
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    if isinstance(value, dict | list) or error["type"] == "secret":
        return f"{field or 'document'}: {message}"
    return f"{field}: {value!r}: {message[0].lower()}{message[1:]}"


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _known_keys(loc: tuple[int | str, ...], model: Any) -> list[str]:
    """The keys that the model at `loc` of the document's has."""
    for part in loc:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            continue  # a list index or a name that the operator chose
        model = _model_in(fields[part].annotation) or model
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := _model_in(inner):
            return found
    return None
