"""Envoy's names and Prometheus' names for the same statistics: checked on a real Envoy."""

from __future__ import annotations

import pytest

from eigenmesh.demo.processes import EnvoyProcess, free_port
from eigenmesh.mesh import Cluster, Route, Topology
from eigenmesh.telemetry.catalogue import TOTAL, Catalogue, Owner
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource

from .bed import bootstrap, cluster

CLUSTERS = ["plain", "svc.ns.local", "out|80||x.y", "co:lon", 'sp ace"q\\b', "renamed", "pl+us(1)"]
PREFIXES = ["plain", "dot.ted", 'co:lo/n-x y|z"q']
HOSTS = ["shop", "sh:op|2-x", "shop.example.com:80"]
TOPOLOGY = Topology(
    tuple(Cluster(name) for name in CLUSTERS),
    tuple(Route(f"{host}/{prefix}", tuple(CLUSTERS)) for host in HOSTS for prefix in PREFIXES),
)
ROUTES = {f"{host}/{prefix}": (host, prefix) for host in HOSTS for prefix in PREFIXES}


async def test_every_odd_name_is_found_on_envoy() -> None:
    hosts = [
        {
            "name": host,
            "domains": [f"host{number}.example"],
            "routes": [
                {"match": {"prefix": f"/{i}"}, "stat_prefix": prefix, "route": {"cluster": "plain"}}
                for i, prefix in enumerate(PREFIXES)
            ],
        }
        for number, host in enumerate(HOSTS)
    ]
    clusters = [
        cluster(name, free_port(), **({"alt_stat_name": "other"} if name == "renamed" else {}))
        for name in CLUSTERS
    ]
    async with EnvoyProcess(bootstrap(free_port(), hosts, clusters), free_port()) as envoy:
        admin = f"http://127.0.0.1:{envoy.admin_port}"
        source = EnvoyAdminSource([admin], TOPOLOGY, ROUTES, stat_names={"renamed": "other"})
        await source.observe(1.0)
        seen = await source.observe(2.0)
        await source.close()
    assert seen.missing == {}
    assert set(seen.clusters) == set(CLUSTERS)
    assert set(seen.demands) == set(ROUTES)


def test_a_route_without_stat_prefix_is_named() -> None:
    catalogue = Catalogue(TOPOLOGY, {})
    assert set(catalogue.without_stats) == set(ROUTES)
    assert set(catalogue.owners) == {*CLUSTERS, *ROUTES}


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({"envoy_cluster_name": "plain"}, "plain"),
        ({"envoy_cluster_name": "other"}, None),
        ({"envoy_cluster_name": "co_lon"}, "co:lon"),
        ({}, None),
    ],
)
def test_only_what_is_needed_has_a_slot(labels: dict[str, str], owner: str | None) -> None:
    slot = Catalogue(TOPOLOGY, ROUTES).slot(f"envoy_cluster_{TOTAL}", labels)
    assert (slot.owner if slot else None) == (Owner("cluster", owner) if owner else None)


def test_only_the_fifth_class_and_503_are_errors_here() -> None:
    catalogue = Catalogue(TOPOLOGY, ROUTES)
    name = {"envoy_cluster_name": "plain"}
    xx = "envoy_cluster_upstream_rq_xx"
    assert catalogue.slot(xx, {**name, "envoy_response_code_class": "5"}) is not None
    assert catalogue.slot(xx, {**name, "envoy_response_code_class": "4"}) is None
    route = {"envoy_virtual_host": "shop", "envoy_route": "plain"}
    rq = "envoy_vhost_route_upstream_rq"
    assert catalogue.slot(rq, {**route, "envoy_response_code": "503"}) is not None
    assert catalogue.slot(rq, {**route, "envoy_response_code": "500"}) is None


def test_filters_for_a_thousand_clusters_stay_short() -> None:
    names = [f"cluster-with-a-rather-long-name-{i:04}" for i in range(1000)]
    topology = Topology(tuple(Cluster(n) for n in names), (Route("r", tuple(names)),))
    catalogue = Catalogue(topology, {"r": ("shop", "r")})
    assert len(catalogue.stats_filter) < 16_000
    assert len(catalogue.matchers('job="envoy"')) < 16_000
    assert catalogue.matchers('job="envoy"').endswith(',job="envoy"')
