"""Who an Envoy may say it is: its node against the names in its client certificate.

The node is the client's own claim, the certificate is not. A template such as
`spiffe://mesh.example/{cluster}/{id}`, filled in with the node, is the name that the certificate
must carry as a DNS or URI subject alternative name (RFC 5280, 4.2.1.6). The subject's common name
does not count (RFC 9110, 4.3.4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eigenmesh.xds.node import Node

FIELDS = ("id", "cluster")
"""What a template may take from the node."""

_FIELD = re.compile(r"\{(\w*)\}")
_LABEL = re.compile(r"[A-Za-z0-9_-]+")


class Identity:
    """The rule that a template stands for.

    Raises ValueError for a template with something else than FIELDS between braces, or with two
    fields that nothing separates.
    """

    def __init__(self, template: str) -> None:
        rest, *found = _FIELD.sub("", template), *_FIELD.findall(template)
        unknown = [f for f in found if f not in FIELDS]
        if not template or unknown or "{" in rest or "}" in rest:
            raise ValueError("only {id} and {cluster} may stand in braces, for example {id}")
        self._template = template
        # What stands between two fields: a value that holds it could be cut in another place, and
        # the certificate of one node would do for another.
        self._between = _FIELD.split(template)[2:-1:2]
        if "" in self._between:
            raise ValueError("separate the fields, for example {cluster}/{id}")

    def refusal(self, node: Node, names: Sequence[str]) -> str | None:
        """Why this node may not have a certificate with these names; None if it may.

        names: as `openssl x509 -text` writes them, such as DNS:envoy-1 or URI:spiffe://m/envoy-1.
        A DNS name that begins with `*.` stands for one label.
        """
        who = f"node {node.id!r:.200} of cluster {node.cluster!r:.200}"
        values = {"id": node.id, "cluster": node.cluster}
        used = {values[f] for f in _FIELD.findall(self._template)}
        if "" in used:
            return f"{who}: the identity {self._template} needs a value for each of its fields"
        if any(set(text) & set(value) for text in self._between for value in used):
            return f"{who}: a value holds what separates the fields of {self._template}"
        wanted = _FIELD.sub(lambda match: values[match[1]], self._template)
        accepted = {f"DNS:{wanted}", f"URI:{wanted}"}
        label, dot, domain = wanted.partition(".")
        if dot and _LABEL.fullmatch(label):
            accepted.add(f"DNS:*.{domain}")
        if accepted.isdisjoint(names):
            presented = ", ".join(names) or "none"
            # It travels in a header, of which gRPC and Envoy take a few kB.
            return f"{who} needs a certificate for {wanted:.500}; its own is for: {presented:.1000}"
        return None
