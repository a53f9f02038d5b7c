"""What an Envoy needs to join, from the settings: how it speaks TLS with Eigenmesh."""

from __future__ import annotations

from ipaddress import ip_address

from eigenmesh.control.settings import Settings, SettingsError
from eigenmesh.xds.client_tls import ClientTls


def client_tls(settings: Settings, *, xds_address: str, folder: str) -> ClientTls | None:
    """None for plain text. folder: where Envoy finds secrets, if the settings do not say.

    Raises SettingsError, one line per complaint, when Envoy's part is missing.
    """
    model = settings.model
    own = model.node.tls
    if own is None:
        if model.xds.tls is None:
            return None
        raise SettingsError(
            [f"{settings.file}: node.tls: missing; xds.tls is set, so Envoy needs node.tls.ca"]
        )
    name = own.server_name or xds_address.rpartition(":")[0].strip("[]")
    lines = []
    if model.xds.tls is not None and model.xds.tls.client_ca and not own.certificate:
        lines.append("certificate: missing; xds.tls.client_ca asks every Envoy for one")
    if _is_anywhere(name):
        lines.append(f"server_name: missing; no certificate is for {name}, say what it is for")
    if lines:
        raise SettingsError([f"{settings.file}: node.tls.{line}" for line in lines])
    return ClientTls(
        ca=own.ca,
        server_name=name,
        secrets=own.secrets or folder,
        certificate=own.certificate or "",
        private_key=own.private_key or "",
    )


def _is_anywhere(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
