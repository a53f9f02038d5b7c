"""Settings to try on a journal: those of a file or the defaults, changed here and there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from eigenmesh.control.circuit_settings import Circuits
from eigenmesh.control.guard_settings import Guard
from eigenmesh.control.proposal import LoopSettings
from eigenmesh.control.settings import (
    Objective,
    SettingsError,
    parse_document,
    read_document,
    validated,
)
from eigenmesh.control.strict import Strict
from eigenmesh.mesh import Cluster, MeshError, Plan, Route, Topology

CHANGES = "--set"


class Tuning(Strict):
    """What of the settings a decision depends on, the mesh itself apart."""

    objective: Objective = Objective()
    guard: Guard = Guard()
    solver: Literal["best", "variational", "classical"] = "best"
    circuits: Circuits = Circuits()


def tuned(file: Path | None, changes: Iterable[str], plan: Plan) -> LoopSettings:
    """The settings of `file`, with changes as `guard.min_gain=0.05`. Without a file: the defaults,
    for the routes and clusters of `plan`, of whose hosts, calls, costs and retries nothing is
    known. Raises SettingsError."""
    document = {} if file is None else read_document(file)
    for change in changes:
        document = _changed(document, change)
    if file is not None:
        settings = parse_document(document, str(file))
        model = settings.model
        return LoopSettings(
            settings.topology,
            settings.objective,
            settings.guard,
            model.interval,
            model.solve_timeout,
            model.solver,
            "",
            model.circuits.settings(),
        )
    tuning = validated(Tuning, document, CHANGES)
    try:
        objective, guard = tuning.objective.policy(), tuning.guard.policy()
    except MeshError as error:
        raise SettingsError([f"{CHANGES}: {error}"]) from error
    topology = _topology(plan)
    return LoopSettings(
        topology, objective, guard, 0.0, 0.0, tuning.solver, "", tuning.circuits.settings()
    )


def _topology(plan: Plan) -> Topology:
    clusters = dict.fromkeys(name for split in plan.weights.values() for name in split)
    routes = (Route(name, tuple(split)) for name, split in plan.weights.items())
    return Topology(tuple(map(Cluster, clusters)), tuple(routes))


def _changed(document: object, change: str) -> object:
    name, equals, text = change.partition("=")
    path = name.strip().split(".")
    if not equals or not all(path):
        raise SettingsError([f"{CHANGES}: {change!r}: write NAME=VALUE, as guard.min_gain=0.05"])
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError([f"{CHANGES}: {change!r}: the value is not YAML"]) from error
    return _with(document, path, value)


def _with(document: object, path: list[str], value: object) -> object:
    if not path:
        return value
    inner: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
    return {**inner, path[0]: _with(inner.get(path[0]), path[1:], value)}
