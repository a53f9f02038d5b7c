"""Resource names after https://google.aip.dev/122: `meshes/{mesh}` and `meshes/{mesh}/{kind}/{id}`.

The id is the rest of the name, slashes included: routes and clusters have the names that Envoy's
configuration gives them.
"""

from __future__ import annotations

from typing import Literal, get_args

from eigenmesh.mesh import MeshError

Kind = Literal["decisions", "nodes", "routes", "clusters", "auditEntries"]

ANY = "-"
"""The one mesh that a server steers, whatever it is called."""


def mesh_name(mesh: str) -> str:
    return f"meshes/{mesh}"


def resource_name(kind: Kind, id: str | int, mesh: str = ANY) -> str:
    """`meshes/-/routes/shop` for ("routes", "shop")."""
    return f"meshes/{mesh}/{kind}/{id}"


def parse(name: str, *kinds: Kind | Literal[""], field: str = "name") -> tuple[str, str, str]:
    """(mesh, kind, id) of a name of one of these kinds; "": of a mesh, whose id is empty too.

    Raises MeshError, in the name of `field`, for everything else.
    """
    parts = name.split("/", 3)
    if parts[0] == "meshes":
        if len(parts) == 2 and parts[1] and "" in kinds:
            return parts[1], "", ""
        if len(parts) == 4 and parts[1] and parts[2] in kinds and parts[3]:
            return parts[1], parts[2], parts[3]
    forms = [_form(kind) for kind in ("", *get_args(Kind)) if kind in kinds]
    raise MeshError(field, name, f"write {' or '.join(forms)}; the mesh may be {ANY}")


def id_of(name: str) -> str:
    """The last part of a resource's name: `shop` of `meshes/m/routes/shop`, `m` of `meshes/m`."""
    parts = name.split("/", 3)
    return parts[3] if len(parts) == 4 else parts[-1]


def _form(kind: str) -> str:
    return "meshes/{mesh}" + (f"/{kind}/{{id}}" if kind else "")
