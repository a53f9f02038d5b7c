"""The Envoy bootstrap that joins an Eigenmesh: everything else comes over xDS.

Built from envoy-data-plane's typed classes, which take half a second to import: only here, and
only when called.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

from eigenmesh.xds.client_tls import ClientTls, transport_socket
from eigenmesh.xds.documents import dump_yaml

XDS_CLUSTER = "eigenmesh_xds"
"""Name of the bootstrap's own cluster, through which Envoy reaches Eigenmesh."""

# Envoy's own buckets (0.5, 1, 5, 10, 25, 50, 100, ... ms) read a latency of 51 ms as 50 to 100.
# Interpolating in steps of about 20% is wrong by a few per cent; steps of 10% would double the
# scrape to gain little. Envoy records whole milliseconds, so steps below 1 ms say nothing.
_DECADE = (10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82)
_TENS_AND_HUNDREDS = (*_DECADE, *(10 * step for step in _DECADE))
_SECONDS = (1_000, 1_500, 2_200, 3_300, 4_700, 6_800, 10_000, 30_000, 60_000)
LATENCY_BUCKETS = (0.5, 1, 2, 3, 4, 5, 6, 7, 8, *_TENS_AND_HUNDREDS, *_SECONDS)
"""Upper bounds in milliseconds."""

_LATENCY_STAT = r"cluster\..+\.upstream_rq_time"


def bootstrap(
    *,
    node_id: str,
    node_cluster: str,
    xds_address: str,
    admin_address: str,
    runtime_layer: str,
    delta: bool = True,
    tls: ClientTls | None = None,
) -> dict[str, Any]:
    """The bootstrap as plain data.

    xds_address, admin_address: host:port. runtime_layer: the layer that Eigenmesh serves.
    delta: incremental xDS; False for state-of-the-world. tls: None for plain text; otherwise
    `secret_files` must be where it says.
    """
    import betterproto2
    import envoy_data_plane.envoy.config.bootstrap.v3 as boot
    import envoy_data_plane.envoy.config.core.v3 as core
    import envoy_data_plane.envoy.config.metrics.v3 as metrics
    import envoy_data_plane.envoy.type.matcher.v3 as matcher
    from envoy_data_plane.google.protobuf import Struct

    def address(text: str) -> core.Address:
        host, _, port = text.rpartition(":")
        return core.Address(
            socket_address=core.SocketAddress(address=host.strip("[]"), port_value=int(port))
        )

    def ads() -> core.ConfigSource:
        return core.ConfigSource(
            resource_api_version=core.ApiVersion.V3, ads=core.AggregatedConfigSource()
        )

    # After a restart of Eigenmesh an Envoy is back in seconds, not when its default backoff ends.
    retry = core.RetryPolicy(
        retry_back_off=core.BackoffStrategy(
            base_interval=timedelta(seconds=0.2), max_interval=timedelta(seconds=2)
        )
    )
    kind = core.ApiConfigSourceApiType
    stream = core.ApiConfigSource(
        api_type=kind.DELTA_GRPC if delta else kind.GRPC,
        transport_api_version=core.ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[
            core.GrpcService(
                envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=XDS_CLUSTER, retry_policy=retry)
            )
        ],
    )
    served = boot.RuntimeLayer(
        name=runtime_layer,
        rtds_layer=boot.RuntimeLayerRtdsLayer(name=runtime_layer, rtds_config=ads()),
    )
    result = boot.Bootstrap(
        node=core.Node(id=node_id, cluster=node_cluster),
        admin=boot.Admin(address=address(admin_address)),
        dynamic_resources=boot.BootstrapDynamicResources(
            ads_config=stream, lds_config=ads(), cds_config=ads()
        ),
        static_resources=boot.BootstrapStaticResources(
            clusters=[_xds_cluster(xds_address, address(xds_address), tls)]
        ),
        # A later layer wins. The admin layer comes before the one that Eigenmesh serves: after it,
        # a forgotten /runtime_modify would silently override every plan.
        layered_runtime=boot.LayeredRuntime(
            layers=[
                boot.RuntimeLayer(name="static", static_layer=Struct()),
                boot.RuntimeLayer(name="admin", admin_layer=boot.RuntimeLayerAdminLayer()),
                served,
            ]
        ),
        # Otherwise histograms are up to five seconds old when they are read.
        stats_flush_on_admin=True,
        stats_config=metrics.StatsConfig(
            histogram_bucket_settings=[
                metrics.HistogramBucketSettings(
                    match=matcher.StringMatcher(
                        safe_regex=matcher.RegexMatcher(regex=_LATENCY_STAT)
                    ),
                    buckets=[float(bound) for bound in LATENCY_BUCKETS],
                )
            ]
        ),
    )
    document: dict[str, Any] = result.to_dict(casing=betterproto2.Casing.SNAKE)
    return document


def beside_another(joined: Mapping[str, Any]) -> dict[str, Any]:
    """What of `bootstrap` is added to an Envoy that has another control plane.

    The layer has a source of its own: ADS is the other's.
    """
    [*_, served] = joined["layered_runtime"]["layers"]
    source = {
        "resource_api_version": "V3",
        "api_config_source": joined["dynamic_resources"]["ads_config"],
        # See OVERLAY_NOTES.
        "initial_fetch_timeout": "1s",
    }
    layer = {"name": served["name"], "rtds_layer": {"name": served["name"], "rtds_config": source}}
    kept = ("static_resources", "stats_flush_on_admin", "stats_config")
    return {"layered_runtime": {"layers": [layer]}, **{key: joined[key] for key in kept}}


def _xds_cluster(text: str, address: Any, tls: ClientTls | None) -> Any:
    import envoy_data_plane.envoy.config.cluster.v3 as cluster
    import envoy_data_plane.envoy.config.core.v3 as core
    import envoy_data_plane.envoy.config.endpoint.v3 as endpoint
    import envoy_data_plane.envoy.extensions.upstreams.http.v3 as upstreams
    from envoy_data_plane.google.protobuf import Any as AnyMessage

    # A server that vanished without a word is noticed within 35 s, and the stream made anew.
    http2 = core.Http2ProtocolOptions(
        connection_keepalive=core.KeepaliveSettings(
            interval=timedelta(seconds=30), timeout=timedelta(seconds=5)
        )
    )
    options = upstreams.HttpProtocolOptions(
        explicit_http_config=upstreams.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=http2
        )
    )
    discovery = cluster.ClusterDiscoveryType
    named = not _is_ip(text.rpartition(":")[0].strip("[]"))
    return cluster.Cluster(
        name=XDS_CLUSTER,
        type=discovery.STRICT_DNS if named else discovery.STATIC,
        dns_lookup_family=cluster.ClusterDnsLookupFamily.V4_PREFERRED,
        connect_timeout=timedelta(seconds=1),
        transport_socket=None if tls is None else transport_socket(tls),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": AnyMessage.pack(options)
        },
        load_assignment=endpoint.ClusterLoadAssignment(
            cluster_name=XDS_CLUSTER,
            endpoints=[
                endpoint.LocalityLbEndpoints(
                    lb_endpoints=[endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=address))]
                )
            ],
        ),
    )


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


OVERLAY_NOTES = """\
# Add this to the bootstrap of an Envoy that keeps its control plane, or let Envoy add it:
#     envoy -c yours.yaml --config-yaml "$(cat this.yaml)"
# layered_runtime: a later layer wins, so this one has to be the last.
# initial_fetch_timeout: for so long Envoy waits at its start, before it asks anyone for clusters,
#     if Eigenmesh is down (15s if not set). It then serves with your own weights and limits, and
#     takes the layer as soon as that comes: waiting longer gains nothing.
# stats_flush_on_admin: histograms are fresh when they are read. Remove your stats_flush_interval:
#     Envoy takes only one of the two.
# histogram_bucket_settings: the first match counts, so yours come after it, if they match too.
"""


def bootstrap_yaml(
    *,
    node_id: str,
    node_cluster: str,
    xds_address: str,
    admin_address: str,
    runtime_layer: str,
    delta: bool = True,
    tls: ClientTls | None = None,
    overlay: bool = False,
) -> str:
    """`bootstrap` as YAML text, for `envoy -c`. overlay: `beside_another` of it, with notes."""
    document = bootstrap(
        node_id=node_id,
        node_cluster=node_cluster,
        xds_address=xds_address,
        admin_address=admin_address,
        runtime_layer=runtime_layer,
        delta=delta,
        tls=tls,
    )
    if overlay:
        document = beside_another(document)
    text = dump_yaml(document)
    return OVERLAY_NOTES + text if overlay else text
