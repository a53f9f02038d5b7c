"""The scenario file: YAML, validated before anything is started.

Every complaint is one line with the file, the field, the value and the remedy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path as File
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, model_validator

from bench.scenarios import model
from bench.scenarios.model import Scenario, of_capacity
from eigenmesh.control.duration import Seconds
from eigenmesh.control.guard_settings import Fraction, Guard
from eigenmesh.control.settings import Objective, SettingsError, read_document, validated
from eigenmesh.control.strict import Strict
from eigenmesh.mesh import MeshError

FOLDER = File(__file__).parent
POLICIES = (
    "equal",
    "least request",
    "least request of 10",
    "proportional",
    "endpoint weights",
    "oracle",
    "L3's rule",
    "Eigenmesh",
)
"""Those that a scenario is played with unless it names its own."""
ALL = (*POLICIES, "greedy", "local only")
FIGURES = ("mean", "p95", "p99", "success", "goodput", "answered", "share", "churn", "cost")

Positive = Annotated[float, Field(gt=0)]
Duration = Annotated[Seconds, Field(gt=0)]
Price = Annotated[Seconds, Field(ge=0)]


class LoadFile(Strict):
    level: Positive = model.Load.level
    rates: dict[str, Positive] = {}
    shape: model.Shape = "steady"
    high: Annotated[float, Field(gt=1)] = model.Load.high
    busy: Duration = model.Load.busy
    calm: Duration = model.Load.calm

    @model_validator(mode="after")
    def _never_negative(self) -> LoadFile:
        if self.shape == "swing" and self.high > 2.0:
            raise ValueError(f"high {self.high:g}: a swing would fall below 0; use at most 2")
        return self


class ClusterFile(Strict):
    """afar: `apart` stands between it and whoever uses it."""

    upstream: str | None = None
    afar: bool = False
    calls: dict[str, Annotated[float, Field(ge=0)]] = {}


class ApartFile(Strict):
    """Seconds there and back, and the price of a request in seconds."""

    distance: Price = 0.0
    egress_cost: Price = 0.0


class RouteFile(Strict):
    clusters: Annotated[list[str], Field(min_length=1)]
    share: Fraction | None = None
    timeout: Duration = model.Path.timeout
    retries: Annotated[int, Field(ge=0)] = 0
    per_try_timeout: Duration | None = None
    retry_limit: Annotated[int, Field(ge=1)] = model.Path.retry_limit


class EventFile(Strict):
    at: Annotated[Seconds, Field(ge=0)]
    upstream: str | None = None
    healthy: bool = False
    capacity: Positive | None = None
    service_time: Duration | None = None
    fail_after: Price | None = None
    error_rate: Fraction | None = None
    hang: bool | None = None
    level: Positive | None = None
    telemetry: Literal["lost", "back"] | None = None


class TargetFile(Strict):
    figure: str
    span: str = "run"
    most: Positive | None = None
    least: Positive | None = None
    against: str | None = None
    upstream: str | None = None
    where: dict[str, float] = {}

    @model_validator(mode="after")
    def _one_bound(self) -> TargetFile:
        if (self.most is None) == (self.least is None):
            raise ValueError("say either most or least")
        return self


class MeshFile(Strict):
    """A mesh drawn by chance: each route has `per_route` clusters, its own as far as they go;
    capacities are drawn from the list."""

    clusters: Annotated[int, Field(ge=2)]
    routes: Annotated[int, Field(ge=1)]
    per_route: Annotated[int, Field(ge=2)] = 5
    capacities: Annotated[list[Positive], Field(min_length=1)]
    seed: int = 1


class SteeringFile(Strict):
    """Eigenmesh's own settings."""

    interval: Duration = 2.0
    guard: Guard = Guard()
    objective: Objective = Objective()


class ScenarioFile(Strict):
    about: str
    seconds: Duration = 120.0
    warm_up: Annotated[Seconds, Field(ge=0)] = 15.0
    service_time: Duration | dict[str, Duration] = 0.02
    capacities: dict[str, Positive] = {}
    clusters: dict[str, ClusterFile] = {}
    apart: ApartFile = ApartFile()
    routes: dict[str, RouteFile | list[str]] = {}
    mesh: MeshFile | None = None
    load: LoadFile = LoadFile()
    events: list[EventFile] = []
    spans: dict[str, tuple[Seconds, Seconds]] = {}
    targets: list[TargetFile] = []
    policies: list[str] = list(POLICIES)
    vary: dict[str, list[float | str]] = {}
    shape: Positive = 1.0
    overhead: Price = 0.001
    slo: Duration = 0.1
    eigenmesh: SteeringFile = SteeringFile()


def names() -> list[str]:
    """Of the scenarios that are there."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load(name: str, changes: Sequence[str] = ()) -> list[Scenario]:
    """The cases of a scenario, which is a file's path or the name of one that is there.

    changes: `capacities.a=300`, as on the command line; what they set is varied no more. Raises
    SettingsError, one line per complaint.
    """
    file = File(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not file.exists():
        raise SettingsError([f"scenario: {name!r}: no such file; use one of: {', '.join(names())}"])
    return parse(read_document(file), file.stem, changes, str(file))


def parse(
    document: object, name: str, changes: Sequence[str] = (), file: str = "<scenario>"
) -> list[Scenario]:
    """See `load`."""
    told = dict(_change(change) for change in changes)
    vary = dict(document.get("vary") or {}) if isinstance(document, dict) else {}
    axes = {key: values for key, values in vary.items() if key not in told}
    validated(ScenarioFile, document, file)  # complaints about the file before those about changes
    cases = []
    for values in product(*axes.values()):
        case = dict(zip(axes, values, strict=True))
        changed = copy.deepcopy(document)
        assert isinstance(changed, dict)
        for key, value in {**case, **told}.items():
            _put(changed, key, value)
        parsed = validated(ScenarioFile, changed, file)
        try:
            cases.append(_scenario(parsed, name, case))
        except MeshError as error:
            raise SettingsError([f"{file}: {error}"]) from error
    return cases


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise SettingsError([f"--set: {text!r}: write KEY=VALUE, such as capacities.a=300"])
    return key, yaml.safe_load(value)


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    inner = document
    for folder in folders:
        inner = inner.setdefault(folder, {})
        if not isinstance(inner, dict):
            raise SettingsError([f"{key}: {folder!r} has nothing inside; set {folder} itself"])
    inner[last] = value


def _scenario(file: ScenarioFile, name: str, case: Mapping[str, Any]) -> Scenario:
    capacities, routes = (file.capacities, file.routes)
    if file.mesh is not None:
        if capacities or routes:
            raise MeshError("mesh", "", "leave out capacities and routes, which it draws")
        capacities, routes = _drawn(file.mesh)
    if not capacities or not routes:
        raise MeshError("capacities", capacities, "give capacities and routes, or mesh")
    times = file.service_time
    if isinstance(times, dict) and (lacking := capacities.keys() - times.keys()):
        raise MeshError("service_time", sorted(lacking), "give these a service time, too")
    upstreams = {
        u: of_capacity(u, c, times[u] if isinstance(times, dict) else times)
        for u, c in capacities.items()
    }
    ways = {u: model.Way(u, u) for u in upstreams} if not file.clusters else {}
    for way, own in file.clusters.items():
        upstream = own.upstream or way
        _known(f"clusters.{way}.upstream", upstream, upstreams)
        apart = file.apart if own.afar else ApartFile()
        ways[way] = model.Way(way, upstream, apart.distance, apart.egress_cost, own.calls)
    scenario = Scenario(
        name=name,
        about=file.about,
        seconds=file.seconds,
        warm_up=file.warm_up,
        upstreams=upstreams,
        ways=ways,
        paths=_paths(routes, ways),
        load=model.Load(**file.load.model_dump()),
        events=tuple(
            model.Event(**e.model_dump()) for e in sorted(file.events, key=lambda e: e.at)
        ),
        spans={"run": (0.0, file.seconds), **file.spans},
        targets=tuple(model.Target(**t.model_dump()) for t in file.targets),
        policies=tuple(file.policies),
        case=case,
        shape=file.shape,
        overhead=file.overhead,
        slo=file.slo,
        interval=file.eigenmesh.interval,
        guard=file.eigenmesh.guard.policy(),
        objective=file.eigenmesh.objective.policy(),
        settings=file.eigenmesh.model_dump(exclude_unset=True),
    )
    for complaint in _complaints(scenario, file):
        raise complaint
    assert scenario.topology  # raises if its names or calls do not fit
    return scenario


def _paths(
    routes: Mapping[str, RouteFile | list[str]], ways: Mapping[str, model.Way]
) -> dict[str, model.Path]:
    files = {n: RouteFile(clusters=r) if isinstance(r, list) else r for n, r in routes.items()}
    open_ = [n for n, r in files.items() if r.share is None]
    left = 1.0 - sum(r.share or 0.0 for r in files.values())
    if left < -1e-9 or (not open_ and abs(left) > 1e-9):
        shares = {n: r.share for n, r in files.items()}
        raise MeshError("routes.share", shares, "make the shares sum to 1")
    for name, route in files.items():
        for way in route.clusters:
            _known(f"routes.{name}.clusters", way, ways)
    return {
        n: model.Path(
            n,
            tuple(r.clusters),
            left / len(open_) if r.share is None else r.share,
            r.timeout,
            r.retries,
            r.per_try_timeout,
            r.retry_limit,
        )
        for n, r in files.items()
    }


def _complaints(scenario: Scenario, file: ScenarioFile) -> Iterator[MeshError]:
    """About names and times that fit nothing else in the file."""
    for k, event in enumerate(scenario.events):
        if event.upstream is not None and event.upstream not in scenario.upstreams:
            yield _unknown(f"events[{k}].upstream", event.upstream, scenario.upstreams)
    for name in scenario.load.rates:
        if name not in scenario.paths:
            yield _unknown("load.rates", name, scenario.paths)
    for name in scenario.policies:
        if name not in ALL:
            yield _unknown("policies", name, ALL)
    for name, (start, end) in scenario.spans.items():
        if not 0.0 <= start < end <= scenario.seconds:
            remedy = f"use two times, in order, from 0 to {scenario.seconds:g} s"
            yield MeshError(f"spans.{name}", [start, end], remedy)
    for k, target in enumerate(scenario.targets):
        known = {"figure": FIGURES, "span": tuple(scenario.spans), "against": ALL}
        for field, values in known.items():
            value = getattr(target, field)
            if value is not None and value not in values:
                yield _unknown(f"targets[{k}].{field}", value, values)
        if (target.figure == "share") != (target.upstream in scenario.upstreams):
            remedy = "name an upstream for a share, and for nothing else"
            yield MeshError(f"targets[{k}].upstream", target.upstream, remedy)
        for key in target.where:
            if key not in file.vary:
                yield _unknown(f"targets[{k}].where", key, file.vary)


def _drawn(mesh: MeshFile) -> tuple[dict[str, float], dict[str, RouteFile | list[str]]]:
    chance = np.random.default_rng(mesh.seed)
    names = [f"c{k:04d}" for k in range(mesh.clusters)]
    capacities = {n: float(chance.choice(mesh.capacities)) for n in names}
    # Everybody's turn comes before anybody's second one.
    size = min(mesh.per_route, mesh.clusters)
    rounds = -(-mesh.routes * size // mesh.clusters)
    turns = [n for _ in range(rounds + 1) for n in chance.permutation(names).tolist()]
    routes: dict[str, RouteFile | list[str]] = {}
    for r in range(mesh.routes):
        own: list[str] = []
        for name in list(turns):
            if len(own) < size and name not in own:
                own.append(name)
                turns.remove(name)
            if len(own) == size:
                break
        routes[f"r{r:03d}"] = own
    used = {name for own in routes.values() if isinstance(own, list) for name in own}
    return {n: c for n, c in capacities.items() if n in used}, routes


def _known(field: str, name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        raise _unknown(field, name, known)


def _unknown(field: str, name: str, known: Sequence[str] | Mapping[str, object]) -> MeshError:
    return MeshError(field, name, f"use one of: {', '.join(known)}")
