"""Overlay mode: one runtime layer and nothing else, beside another control plane.

The layer's keys move the weights and limits of resources that are the other control plane's:
`<runtime_key_prefix>.<cluster>` (WeightedCluster.runtime_key_prefix) and `circuit_breakers.*`.
Where the layer has no key, what the operator configured holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from eigenmesh.mesh import MeshError, Plan
from eigenmesh.xds.operator import OperatorConfig
from eigenmesh.xds.resource import Resource
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.steering import SteeredRoute
from eigenmesh.xds.translate import Split, Splits, limit_keys, runtime


class OverlayTranslator:
    """`Translator` for overlay mode: its snapshots have one resource, the Runtime.

    config: parsed with `overlay=True`. runtime_layer: as for `Translator`.
    """

    def __init__(self, config: OperatorConfig, *, runtime_layer: str = "eigenmesh") -> None:
        self._config = config
        self._runtime_layer = runtime_layer
        self._splits = Splits(config)

    def snapshot(self, plan: Plan, previous: Snapshot | None = None) -> Snapshot:
        """The layer under `plan`; `previous` itself if it is the same.

        Raises MeshError if the plan does not fit the configuration, or would route to nowhere.
        """
        layer = self.layer(plan)
        return Snapshot([layer]) if previous is None else previous.replace([layer])

    def layer(self, plan: Plan, grants: Mapping[str, int] | None = None) -> Resource:
        """The Runtime resource; grants: see `limit_keys`."""
        splits = self._splits.under(plan)
        keys = limit_keys(plan, self._config, grants)
        for route in self._config.steered:
            keys |= weight_keys(route, splits[route.name])
        return runtime(self._runtime_layer, keys)


def weight_keys(route: SteeredRoute, split: Split) -> dict[str, int]:
    """The runtime keys that put a split in force: none for the operator's own weights, otherwise
    one for every cluster, since Envoy would mix those without a key with the others' scale.

    Raises MeshError if all weights are 0: Envoy takes that from a runtime, and answers 404.
    """
    if not any(split.values()):
        raise MeshError(f"weights.{route.name}", dict(split), "give a cluster a weight above 0")
    if route.single or split == route.weights:
        return {}
    return {route.runtime_key(cluster): weight for cluster, weight in split.items()}
