"""Which of the operator's routes can be steered, what they are called, and how weights are put in.

A route can be steered when its action is `weighted_clusters` over two or more clusters that are
each named once. One over a single cluster has no weights to move; if it is asked for by name, the
limits of its cluster are decided. Routes stand in a virtual host's list, or deeper, in the actions
of its matcher (xds.type.matcher.v3.Matcher, with Route or RouteList in an Any).

In overlay mode (`find_overlay`) routes are not ours to change: weights are set by the runtime keys
`<runtime_key_prefix>.<cluster>` (WeightedCluster.runtime_key_prefix), which a route must have
already, as it must have the stat_prefix by which its requests are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from envoy.config.route.v3.route_components_pb2 import Route, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from eigenmesh.mesh import Retries
from eigenmesh.xds.protos import OperatorError, walk

_ROUTE = Route.DESCRIPTOR.full_name
_NAMED = 5
"""Routes that one line lists."""
_RETRIED = frozenset({"5xx", "gateway-error", "reset", "retriable-status-codes"})
"""Conditions (RetryPolicy.retry_on) that an upstream in trouble meets."""


@dataclass(frozen=True)
class SteeredRoute:
    """A route whose weights Eigenmesh decides.

    name: unique in the mesh. stat_prefix: Envoy counts its requests under
    vhost.<virtual_host>.route.<stat_prefix>. weights: the operator's own, by cluster, in its order.
    host, ordinal: where it stands in its route configuration. runtime_key_prefix: the operator's
    own; empty if there is none. retries: by its retry policy or its virtual host's.
    single: it is over one cluster, whatever its action is called; the weight of 1 is not written.
    """

    name: str
    route_config: str
    virtual_host: str
    stat_prefix: str
    weights: Mapping[str, int]
    host: int
    ordinal: int
    path: str
    runtime_key_prefix: str = ""
    retries: Retries = field(default_factory=Retries)
    single: bool = False

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(self.weights)

    def runtime_key(self, cluster: str) -> str:
        """The runtime key that sets its weight for this cluster."""
        return f"{self.runtime_key_prefix}.{cluster}"


@dataclass(frozen=True)
class _Found:
    """A route; `obstacle` says why it cannot be steered, if so."""

    route: SteeredRoute
    given_name: str
    given_prefix: str
    obstacle: str = ""


def each_route(
    virtual_host: VirtualHost, path: str, visit: Callable[[int, str, Route], None]
) -> None:
    """Calls `visit` with number, path and message of every route; it may change the message."""
    for index, route in enumerate(virtual_host.routes):
        visit(index, f"{path}.routes[{index}]", route)
    if not virtual_host.HasField("matcher"):
        return
    number = len(virtual_host.routes)

    def look(message: Any, at: str) -> None:
        nonlocal number
        if message.DESCRIPTOR.full_name == _ROUTE:
            visit(number, at, message)
            number += 1

    walk(virtual_host.matcher, f"{path}.matcher", look)


def put_weights(virtual_host: VirtualHost, weights: Mapping[int, Mapping[int, int]]) -> None:
    """Sets weights by the number of their route and their place among its clusters."""
    if all(number < len(virtual_host.routes) for number in weights):
        for number, moved in weights.items():
            _put(virtual_host.routes[number], moved)
        return

    def visit(number: int, _: str, route: Route) -> None:
        if number in weights:
            _put(route, weights[number])

    each_route(virtual_host, "", visit)


def _put(route: Route, moved: Mapping[int, int]) -> None:
    weighted = route.route.weighted_clusters
    # Deprecated, and a total that the weights do not sum to is refused.
    weighted.ClearField("total_weight")
    for at, weight in moved.items():
        weighted.clusters[at].weight.value = weight


def find(
    configs: Sequence[tuple[str, RouteConfiguration]],
    steer: Sequence[str] | None,
    prefix: str = "",
) -> tuple[tuple[SteeredRoute, ...], list[str]]:
    """The routes to steer in these (path, message)s, and a line for each weighted route that is
    left alone. Gives every steered route a stat_prefix.

    steer: names of those to steer, without `prefix`; None: all that have weights and can be.
    prefix: what all names begin with. Raises OperatorError.
    """
    found = _unnamed_prefixes(_distinct_prefixes(_named(_each(configs), prefix)))
    chosen, left = _choose(found, steer, prefix)
    _write_prefixes({config.name: config for _, config in configs}, chosen)
    return chosen, left


def find_overlay(
    configs: Sequence[tuple[str, RouteConfiguration]],
    steer: Sequence[str] | None,
    clusters: Collection[str],
    prefix: str = "",
) -> tuple[tuple[SteeredRoute, ...], list[str]]:
    """`find` for overlay mode: changes nothing, and leaves alone what cannot be steered as it is.

    clusters: those whose limits are known.
    """
    found = _distinct_prefixes(_named(_each(configs), prefix))
    found = _steerable_as_they_are(found, _runtime_keys(configs), clusters)
    return _choose(found, steer, prefix)


def _choose(
    found: list[_Found], steer: Sequence[str] | None, prefix: str
) -> tuple[tuple[SteeredRoute, ...], list[str]]:
    by_name = {f.route.name.removeprefix(prefix): f for f in found}
    for index, name in enumerate(steer or ()):
        where = f"steer[{index}]"
        if name not in by_name:
            names = ", ".join(n for n, f in by_name.items() if not f.obstacle) or "none"
            raise OperatorError(where, name, f"no such route to clusters; use one of: {names}")
        if by_name[name].obstacle:
            raise OperatorError(where, name, f"cannot be steered: {by_name[name].obstacle}")
    if steer is None:
        steer = [name for name, f in by_name.items() if not f.route.single]
    wanted = {prefix + name for name in steer}
    chosen = tuple(f.route for f in found if f.route.name in wanted and not f.obstacle)
    rest = [f for f in found if f.route.name not in wanted or f.obstacle]
    left = [
        f"route {f.route.name}: {f.obstacle or 'not listed in steer'}"
        for f in rest
        if not f.route.single
    ]
    if singles := [f.route.name for f in rest if f.route.single and not f.obstacle]:
        left.append(_single_line(singles))
    return chosen, left


def _single_line(names: Sequence[str]) -> str:
    some, more = names[:_NAMED], len(names) - _NAMED
    rest = f" and {more} more" if more > 0 else ""
    return (
        f"routes over one cluster: {', '.join(some)}{rest}: name them in steer, beside the "
        "weighted ones, to have the limits of their clusters decided"
    )


def _each(configs: Sequence[tuple[str, RouteConfiguration]]) -> list[_Found]:
    """The routes to clusters, those with weights first: they come first to their names."""
    return sorted(_to_clusters(configs), key=lambda found: found.route.single)


def _to_clusters(configs: Sequence[tuple[str, RouteConfiguration]]) -> Iterator[_Found]:
    for path, config in configs:
        for host, virtual_host in enumerate(config.virtual_hosts):
            here: list[_Found] = []

            def look(
                number: int,
                at: str,
                route: Route,
                config: RouteConfiguration = config,
                host: int = host,
                virtual_host: VirtualHost = virtual_host,
                here: list[_Found] = here,
            ) -> None:
                weighted = route.route.weighted_clusters
                weights = {c.name: c.weight.value for c in weighted.clusters}
                single = len(weighted.clusters) < 2
                if single:
                    only = route.route.cluster or next(iter(weights), "")
                    if not only:
                        return
                    weights = {only: 1}
                steered = SteeredRoute(
                    name=f"{config.name}/{virtual_host.name}/{number}",
                    route_config=config.name,
                    virtual_host=virtual_host.name,
                    stat_prefix=route.stat_prefix,
                    weights=weights,
                    host=host,
                    ordinal=number,
                    path=at,
                    runtime_key_prefix=weighted.runtime_key_prefix,
                    retries=_retries(route, virtual_host),
                    single=single,
                )
                here.append(_Found(steered, route.name, route.stat_prefix, _obstacle(route, at)))

            each_route(virtual_host, f"{path}.virtual_hosts[{host}]", look)
            yield from here


def _retries(route: Route, virtual_host: VirtualHost) -> Retries:
    """The route's own policy, as a whole, before its virtual host's.

    What a request's `x-envoy-` headers ask for is not known, and conditions that only some failures
    meet (connect-failure, say) are taken for none.
    """
    own = route.route.HasField("retry_policy")
    policy = route.route.retry_policy if own else virtual_host.retry_policy
    most = 0
    if _RETRIED & {one.strip() for one in policy.retry_on.split(",")}:
        most = policy.num_retries.value if policy.HasField("num_retries") else 1
    timeout = policy.per_try_timeout.ToTimedelta().total_seconds()
    # Without a condition Envoy keeps no retry state, but it still ends an attempt in time.
    return Retries(most, timeout or None)


def _obstacle(route: Route, path: str) -> str:
    clusters = route.route.weighted_clusters.clusters
    if not clusters:
        return ""
    if any(c.cluster_header for c in clusters):
        return "a request header picks one of its clusters"
    if route.route.weighted_clusters.header_name:
        # Other totals would give the header's number another meaning.
        return "a number in a request header is compared with its weights"
    names = [c.name for c in clusters]
    if len(set(names)) < len(names):
        return "it names a cluster twice"
    if not any(c.weight.value for c in clusters):
        # Envoy refuses it.
        at = f"{path}.route.weighted_clusters"
        raise OperatorError(at, 0, "make at least one weight 1 or more")
    return ""


def _named(found: list[_Found], prefix: str) -> list[_Found]:
    """Envoy's own name where it is unique, else the place."""
    times = Counter(f.given_name for f in found)
    taken: set[str] = set()
    named = []
    for item in found:
        name = item.given_name if times[item.given_name] == 1 and item.given_name else ""
        name = _free(prefix + (name or item.route.name), taken)
        named.append(replace(item, route=replace(item.route, name=name)))
    return named


def _distinct_prefixes(found: list[_Found]) -> list[_Found]:
    """Routes that share the operator's stat_prefix cannot be told apart in Envoy's stats."""
    times = Counter((f.route.virtual_host, f.given_prefix) for f in found)
    why = "it shares its stat_prefix with another route, so its requests cannot be counted"
    return [
        replace(f, obstacle=why)
        if f.given_prefix and not f.obstacle and times[f.route.virtual_host, f.given_prefix] > 1
        else f
        for f in found
    ]


def _unnamed_prefixes(found: list[_Found]) -> list[_Found]:
    """A stat_prefix for every route that has none; a dot would split the name of the stat."""
    taken = {f.given_prefix for f in found}
    return [
        f
        if f.given_prefix
        else replace(f, route=replace(f.route, stat_prefix=_free_prefix(f.route.name, taken)))
        for f in found
    ]


def _runtime_keys(configs: Sequence[tuple[str, RouteConfiguration]]) -> Counter[str]:
    """How many routes follow each key. One cluster suffices: its key at 0 is a route to nowhere."""
    keys: Counter[str] = Counter()

    def look(_number: int, _path: str, route: Route) -> None:
        weighted = route.route.weighted_clusters
        if weighted.runtime_key_prefix:
            keys.update({f"{weighted.runtime_key_prefix}.{c.name}" for c in weighted.clusters})

    for _, config in configs:
        for virtual_host in config.virtual_hosts:
            each_route(virtual_host, "", look)
    return keys


def _steerable_as_they_are(
    found: list[_Found], keys: Mapping[str, int], clusters: Collection[str]
) -> list[_Found]:
    taken = {p for f in found for p in (f.given_prefix, f.route.runtime_key_prefix)}

    def obstacles(f: _Found) -> Iterator[str]:
        route = f.route
        whole = f.given_prefix and (route.runtime_key_prefix or route.single)
        prefix = "" if whole else _free_prefix(route.name, taken)
        if route.single:
            pass  # nothing to move
        elif not route.runtime_key_prefix:
            yield (
                "without a runtime_key_prefix its weights cannot be moved: add "
                f"`runtime_key_prefix: {prefix}` to {route.path}.route.weighted_clusters"
            )
        elif any(keys[route.runtime_key(c)] > 1 for c in route.clusters):
            yield (
                f"its runtime_key_prefix {route.runtime_key_prefix!r} moves another route too: "
                f"give each its own at {route.path}.route.weighted_clusters"
            )
        if not f.given_prefix:
            yield (
                "without a stat_prefix its requests cannot be counted: add "
                f"`stat_prefix: {prefix}` to {route.path}"
            )
        if unknown := [c for c in route.clusters if c not in clusters]:
            yield f"its clusters {', '.join(unknown)} are not known here: give them under clusters"

    return [f if f.obstacle else replace(f, obstacle="; ".join(obstacles(f))) for f in found]


def _free_prefix(name: str, taken: set[str]) -> str:
    """`name` as a stat_prefix or runtime_key_prefix that is not in use."""
    return _free(re.sub(r"[^A-Za-z0-9_-]", "_", name), taken, "_")


def _write_prefixes(
    configs: Mapping[str, RouteConfiguration], chosen: Sequence[SteeredRoute]
) -> None:
    by_host: dict[tuple[str, int], dict[int, str]] = {}
    for steered in chosen:
        prefixes = by_host.setdefault((steered.route_config, steered.host), {})
        prefixes[steered.ordinal] = steered.stat_prefix
    for (config, host), prefixes in by_host.items():

        def write(number: int, _: str, route: Route, prefixes: dict[int, str] = prefixes) -> None:
            if number in prefixes:
                route.stat_prefix = prefixes[number]

        each_route(configs[config].virtual_hosts[host], "", write)


def _free(name: str, taken: set[str], separator: str = "#") -> str:
    """`name`, or `name#2`, ... if that is taken; takes it."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}{separator}{number}"
    taken.add(candidate)
    return candidate
