"""What is served: an immutable set of resources whose versions are hashes of its content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from types import MappingProxyType

from eigenmesh.mesh import MeshError
from eigenmesh.xds import wire
from eigenmesh.xds.resource import Key, Resource, digest

_MODULUS = 1 << 64
_REMEMBERED_DIFFS = 8


class TypeSet:
    """The resources of one type. Immutable.

    Its version is the sum of its resources' hashes: independent of their order, and a change of
    one resource costs one subtraction and one addition, not a pass over all of them.
    """

    def __init__(
        self, type_url: str, resources: Mapping[str, Resource], total: int | None = None
    ) -> None:
        self.type_url = type_url
        self.resources = MappingProxyType(dict(resources))
        self._total = sum(map(_share, resources.values())) % _MODULUS if total is None else total
        self.version = f"{self._total:016x}"
        self._diffs: dict[str, frozenset[str]] = {}

    def replace(self, new: Mapping[str, Resource], removed: Iterable[str]) -> TypeSet:
        """This set with `new` in and `removed` out; itself if that changes nothing."""
        resources = dict(self.resources)
        total = self._total
        for name in removed:
            if (old := resources.pop(name, None)) is not None:
                total -= _share(old)
        for name, resource in new.items():
            old = resources.get(name)
            if old is not None and old.version == resource.version:
                continue
            total += _share(resource) - (_share(old) if old is not None else 0)
            resources[name] = resource
        total %= _MODULUS
        if total == self._total:
            return self
        return TypeSet(self.type_url, resources, total)

    def changed_since(self, old: TypeSet) -> frozenset[str]:
        """Names added, changed or removed. Every stream asks the same question: remembered."""
        found = self._diffs.get(old.version)
        if found is None:
            was, now = old.resources, self.resources
            found = frozenset(
                [n for n, r in now.items() if n not in was or was[n].version != r.version]
                + [n for n in was if n not in now]
            )
            if len(self._diffs) >= _REMEMBERED_DIFFS:
                self._diffs.clear()
            self._diffs[old.version] = found
        return found

    @cached_property
    def delta_head(self) -> bytes:
        """DeltaDiscoveryResponse without resources or a nonce."""
        return wire.field(1, self.version) + wire.field(4, self.type_url)

    @cached_property
    def sotw_body(self) -> bytes:
        """DiscoveryResponse with every resource, without a nonce."""
        return self.sotw_body_of(self.resources.values())

    def sotw_body_of(self, resources: Iterable[Resource]) -> bytes:
        """DiscoveryResponse with these resources, without a nonce."""
        entries = b"".join(r.sotw_entry for r in resources)
        return wire.field(1, self.version) + entries + wire.field(4, self.type_url)


class Snapshot:
    """Everything that a group of Envoys is served. Immutable; equal content, equal version."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        """Raises MeshError when a name is used twice within its type."""
        by_type: dict[str, dict[str, Resource]] = {}
        for resource in resources:
            named = by_type.setdefault(resource.type_url, {})
            if resource.name in named:
                kind = resource.type_url.rpartition(".")[2]
                raise MeshError(f"snapshot.{kind}", resource.name, "make names unique")
            named[resource.name] = resource
        self._sets = {t: TypeSet(t, named) for t, named in by_type.items()}

    @classmethod
    def _of(cls, sets: dict[str, TypeSet]) -> Snapshot:
        snapshot = cls.__new__(cls)
        snapshot._sets = sets
        return snapshot

    def of(self, type_url: str) -> TypeSet:
        """The resources of a type; an empty set if there are none."""
        return self._sets.get(type_url) or _empty(type_url)

    @property
    def type_urls(self) -> tuple[str, ...]:
        return tuple(self._sets)

    @cached_property
    def version(self) -> str:
        parts = (f"{t}={s.version}" for t, s in sorted(self._sets.items()) if s.resources)
        return digest("\n".join(parts).encode())

    def replace(self, resources: Iterable[Resource], removed: Iterable[Key] = ()) -> Snapshot:
        """This snapshot with these resources in, and (type URL, name) `removed` out.

        Touches only the types concerned; itself if nothing changes.
        """
        new: dict[str, dict[str, Resource]] = {}
        gone: dict[str, list[str]] = {}
        for resource in resources:
            new.setdefault(resource.type_url, {})[resource.name] = resource
        for type_url, name in removed:
            gone.setdefault(type_url, []).append(name)
        changed: dict[str, TypeSet] = {}
        for type_url in new.keys() | gone.keys():
            old = self.of(type_url)
            now = old.replace(new.get(type_url, {}), gone.get(type_url, ()))
            if now is not old:
                changed[type_url] = now
        return Snapshot._of(self._sets | changed) if changed else self


def _share(resource: Resource) -> int:
    return int(digest(f"{resource.name}\n{resource.version}".encode()), 16)


@lru_cache(maxsize=64)
def _empty(type_url: str) -> TypeSet:
    return TypeSet(type_url, {})
