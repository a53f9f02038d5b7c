"""How an Envoy speaks TLS with Eigenmesh: the transport socket, and the secrets that it watches.

Envoy never reads again the files that a bootstrap names itself ("Certificate Management"): a
rotated client certificate would be noticed at the next restart. Files that a secret names are
watched ("SDS key rotation"), and a secret can be a file too, one secret to a file. So the
bootstrap names secret files, these name the PEM files, and only the PEM files ever change.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import envoy_data_plane.envoy.config.core.v3 as core

CERTIFICATE_SECRET = "eigenmesh_certificate"
CA_SECRET = "eigenmesh_ca"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Everything as Envoy sees it.

    ca: PEM file of who signed Eigenmesh's certificate. server_name: the DNS name, IP address or
    URI that this certificate must carry. secrets: folder of the files that `secret_files` gives.
    certificate, private_key: PEM files of Envoy's own; both or neither.
    """

    ca: str
    server_name: str
    secrets: str
    certificate: str = ""
    private_key: str = ""


def transport_socket(tls: ClientTls) -> core.TransportSocket:
    """The transport socket of the cluster through which Envoy reaches Eigenmesh."""
    import envoy_data_plane.envoy.config.core.v3 as core
    import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 as sockets
    from envoy_data_plane.google.protobuf import Any as AnyMessage

    def secret(name: str) -> sockets.SdsSecretConfig:
        path = core.PathConfigSource(path=str(PurePosixPath(tls.secrets) / f"{name}.yaml"))
        source = core.ConfigSource(resource_api_version=core.ApiVersion.V3, path_config_source=path)
        return sockets.SdsSecretConfig(name=name, sds_config=source)

    latest = sockets.TlsParametersTlsProtocol.TLSv1_3
    kind = _san_type(tls.server_name)
    context = sockets.UpstreamTlsContext(
        common_tls_context=sockets.CommonTlsContext(
            # Envoy's clients stop at 1.2, in which a client's certificate travels in the clear.
            tls_params=sockets.TlsParameters(
                tls_minimum_protocol_version=latest, tls_maximum_protocol_version=latest
            ),
            tls_certificate_sds_secret_configs=(
                [secret(CERTIFICATE_SECRET)] if tls.certificate else []
            ),
            validation_context_sds_secret_config=secret(CA_SECRET),
            alpn_protocols=["h2"],
        ),
        sni=tls.server_name if kind == sockets.SubjectAltNameMatcherSanType.DNS else "",
    )
    return core.TransportSocket(
        name="envoy.transport_sockets.tls", typed_config=AnyMessage.pack(context)
    )


def secret_files(tls: ClientTls) -> dict[str, dict[str, Any]]:
    """File name -> document, to be put into the folder `secrets`."""
    import betterproto2
    import envoy_data_plane.envoy.config.core.v3 as core
    import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 as sockets
    import envoy_data_plane.envoy.service.discovery.v3 as discovery
    import envoy_data_plane.envoy.type.matcher.v3 as matcher
    from envoy_data_plane.google.protobuf import Any as AnyMessage

    def file(path: str) -> core.DataSource:
        return core.DataSource(filename=path)

    # Whoever else the CA signed, the other Envoys above all, is no control plane.
    name = sockets.SubjectAltNameMatcher(
        san_type=_san_type(tls.server_name), matcher=matcher.StringMatcher(exact=tls.server_name)
    )
    secrets = [
        sockets.Secret(
            name=CA_SECRET,
            validation_context=sockets.CertificateValidationContext(
                trusted_ca=file(tls.ca),
                match_typed_subject_alt_names=[name],
            ),
        )
    ]
    if tls.certificate:
        secrets.append(
            sockets.Secret(
                name=CERTIFICATE_SECRET,
                tls_certificate=sockets.TlsCertificate(
                    certificate_chain=file(tls.certificate),
                    private_key=file(tls.private_key),
                ),
            )
        )
    return {
        f"{secret.name}.yaml": discovery.DiscoveryResponse(
            resources=[AnyMessage.pack(secret)]
        ).to_dict(casing=betterproto2.Casing.SNAKE)
        for secret in secrets
    }


def _san_type(name: str) -> Any:
    import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 as sockets

    kind = sockets.SubjectAltNameMatcherSanType
    if "://" in name:
        return kind.URI
    try:
        ip_address(name)
    except ValueError:
        return kind.DNS
    return kind.IP_ADDRESS
