"""A plan and the operator's configuration in, resources out. No I/O, no clock.

Weights go by RDS and limits by RTDS: neither costs a connection. A change of a cluster costs all
of its connections, so clusters never depend on the plan.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from envoy.service.runtime.v3.rtds_pb2 import Runtime

from eigenmesh.mesh import ENVOY_DEFAULT_LIMITS, MeshError, Plan
from eigenmesh.mesh.plan import COUNTS, to_integers
from eigenmesh.xds.operator import OperatorConfig, RouteTable
from eigenmesh.xds.resource import Resource
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.steering import SteeredRoute, put_weights

Split = Mapping[str, int]

_RETRIES = ("max_retries", "retry_budget")
_LEAST_RETRIES = "retry_budget.min_retry_concurrency"


class Translator:
    """Makes snapshots of one operator's configuration.

    runtime_layer: name of the one Runtime resource, as in the bootstrap's rtds_layer (Envoy
    accepts another name in silence and ignores it).
    """

    def __init__(self, config: OperatorConfig, *, runtime_layer: str = "eigenmesh") -> None:
        self._config = config
        self._runtime_layer = runtime_layer
        self._splits = Splits(config)
        self._tables = {
            name: _Table(
                table, [r for r in config.steered if r.route_config == name and not r.single]
            )
            for name, table in config.tables.items()
        }

    def snapshot(self, plan: Plan, previous: Snapshot | None = None) -> Snapshot:
        """Everything that is served under `plan`.

        previous: a snapshot by this translator; what the plan does not change is taken from it.
        Raises MeshError if the plan does not fit the configuration.
        """
        splits = self._splits.under(plan)
        moving = [table.resource(splits) for table in self._tables.values()]
        moving.append(self.layer(plan))
        if previous is not None:
            return previous.replace(moving)
        return Snapshot([*self._config.fixed, *moving])

    def layer(self, plan: Plan, grants: Mapping[str, int] | None = None) -> Resource:
        """The Runtime resource alone; grants: see `limit_keys`."""
        return runtime(self._runtime_layer, limit_keys(plan, self._config, grants))


class Splits:
    """What plans say of the weights of one configuration, in integers."""

    def __init__(self, config: OperatorConfig) -> None:
        self._steered = {route.name: route for route in config.steered}
        self._known: dict[str, tuple[Mapping[str, float] | None, Split]] = {}

    def under(self, plan: Plan) -> dict[str, Split]:
        """Of every steered route. Raises MeshError if the plan does not fit the configuration."""
        for route in plan.weights.keys() - self._steered.keys():
            split = dict(plan.weights[route])
            raise MeshError(f"weights.{route}", split, "this route is not steered")
        return {n: self._split(r, plan.weights.get(n)) for n, r in self._steered.items()}

    def _split(self, route: SteeredRoute, given: Mapping[str, float] | None) -> Split:
        """As before if the plan's part is as before: most routes of a large mesh do not move."""
        before, split = self._known.get(route.name, (None, None))
        if split is None or (given is not before and given != before):
            if given is not None and given.keys() != route.weights.keys():
                names = ", ".join(route.clusters)
                remedy = f"give one for each of: {names}"
                raise MeshError(f"weights.{route.name}", dict(given), remedy)
            split = _integers(route, given)
            self._known[route.name] = given, split
        return split


def limit_keys(
    plan: Plan, config: OperatorConfig, grants: Mapping[str, int] | None = None
) -> dict[str, float]:
    """The runtime keys that put the plan's limits in force.

    grants: max_requests of one proxy by cluster, of the plan's which are all proxies'; its other
    limits are in proportion. Of a cluster that Envoy itself adapts (`OperatorConfig.adaptive`) only
    retries are limited. Raises MeshError if the plan does not fit the configuration.
    """
    keys: dict[str, float] = {}
    for cluster, limit in plan.limits.items():
        if cluster not in config.clusters:
            raise MeshError(f"limits.{cluster}", cluster, "no such cluster is defined")
        still = cluster in config.adaptive
        if limit == config.own_limits.get(cluster, ENVOY_DEFAULT_LIMITS if still else None):
            # Without a key the operator's own thresholds hold, of both priorities.
            continue
        values = limit.thresholds
        if grants is not None and cluster in grants:
            values = _part(values, grants[cluster])
        if still:
            # Only a retry storm moves anything here.
            values = {name: v for name, v in values.items() if name.startswith(_RETRIES)}
        # High priority too: it would silently keep 1024.
        for priority in ("default", "high"):
            for name, value in values.items():
                keys[f"circuit_breakers.{cluster}.{priority}.{name}"] = value
    return keys


def _part(limits: Mapping[str, float], granted: int) -> dict[str, float]:
    """A proxy's part of a cluster's limits. Nothing at all is a part, too, for max_requests."""
    parts = dict(limits)
    for name in COUNTS:
        parts[name] = max(1, int(limits[name]) * granted // int(limits["max_requests"]))
    if (least := limits.get(_LEAST_RETRIES)) is not None:
        parts[_LEAST_RETRIES] = int(least) * granted // int(limits["max_requests"])
    return {**parts, "max_requests": granted}


def runtime(layer: str, keys: Mapping[str, float]) -> Resource:
    """The Runtime resource of this name. To be sent even if empty: Envoy waits for it at its
    start."""
    message = Runtime(name=layer)
    for key, value in keys.items():
        message.layer.fields[key].number_value = value
    return Resource.of(message, layer)


def _integers(route: SteeredRoute, split: Mapping[str, float] | None) -> Split:
    """The operator's own weights where the plan's are the same: basis points lose small ones."""
    total = sum(route.weights.values())
    if split is None or split == {c: w / total for c, w in route.weights.items()}:
        return route.weights
    return to_integers(split)


class _Table:
    """A route configuration and its last serialised form. Depends on the weights alone."""

    def __init__(self, table: RouteTable, steered: list[SteeredRoute]) -> None:
        self._message = copy.deepcopy(table.message)
        self._needs = table.needs
        self._steered = steered
        self._splits: list[Split] | None = None
        self._resource: Resource | None = None

    def resource(self, splits: Mapping[str, Split]) -> Resource:
        wanted = [splits[r.name] for r in self._steered]
        if self._resource is None or wanted != self._splits:
            self._put(wanted)
            self._resource = Resource.of(self._message, self._message.name, needs=self._needs)
            self._splits = wanted
        return self._resource

    def _put(self, wanted: list[Split]) -> None:
        by_host: dict[int, dict[int, dict[int, int]]] = {}
        for index, (steered, split) in enumerate(zip(self._steered, wanted, strict=True)):
            before = self._splits[index] if self._splits is not None else {}
            if split is not before:
                moved = {
                    at: split[c]
                    for at, c in enumerate(steered.weights)
                    if split[c] != before.get(c)
                }
                by_host.setdefault(steered.host, {})[steered.ordinal] = moved
        for host, changed in by_host.items():
            put_weights(self._message.virtual_hosts[host], changed)
