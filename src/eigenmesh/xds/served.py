"""What one group of nodes is served: what was published, less what the group would not take.

    publish(snapshot)   this should be in force
    accepted(...)       a client of the group has taken these versions
    fall_back(...)      these stayed refused: serve the last versions that were taken

A version that was given up stays given up: publishing it again changes nothing, other content of
the same resource ends it. What was never taken in any version has nothing to fall back to, and
stays parked with the clients that refuse it.
"""

from __future__ import annotations

from collections.abc import Iterable

from eigenmesh.xds.resource import Key, Resource
from eigenmesh.xds.snapshot import Snapshot, TypeSet


class Served:
    """snapshot: what streams are given now; None before the first publication.

    published: what should be in force. given_up: the version of each resource that the group
    refused for too long, and that is published still.
    """

    def __init__(self) -> None:
        self.published: Snapshot | None = None
        self.snapshot: Snapshot | None = None
        self.given_up: dict[Key, str] = {}
        self._good: dict[Key, tuple[Resource, ...]] = {}

    def publish(self, snapshot: Snapshot) -> None:
        self.published = snapshot
        self.given_up = {
            key: version for key, version in self.given_up.items() if _has(snapshot, key, version)
        }
        self._serve()

    def accepted(self, resources: TypeSet, names: Iterable[str]) -> None:
        """A client took these, in the versions that `resources` has."""
        for name in names:
            if (resource := resources.resources.get(name)) is None:
                continue
            key = (resources.type_url, name)
            before = self._good.get(key, ())
            if before and before[0].version == resource.version:
                continue
            # Two, since one client may take what another refuses.
            others = [r for r in before if r.version != resource.version]
            self._good[key] = (resource, *others[:1])

    def fall_back(self, refused: Iterable[tuple[Key, str]]) -> tuple[Key, ...]:
        """Gives up these versions, where they are served and another was taken before.

        Returns the resources that are now served in an older version.
        """
        assert self.published is not None
        before = dict(self.given_up)
        for key, version in refused:
            if _has(self.published, key, version) and self._last_good(key, version) is not None:
                self.given_up[key] = version
        if self.given_up == before:
            return ()
        self._serve()
        return tuple(self.given_up.keys() - before.keys())

    def _last_good(self, key: Key, refused: str) -> Resource | None:
        return next((r for r in self._good.get(key, ()) if r.version != refused), None)

    def _serve(self) -> None:
        assert self.published is not None
        older: dict[Key, Resource] = {}
        for key, version in self.given_up.items():
            if (resource := self._last_good(key, version)) is not None:
                older[key] = resource
                # What it needs may have gone from the published snapshot.
                for needed in resource.needs:
                    missing = needed not in older and not _has(self.published, needed)
                    if missing and (last := self._last_good(needed, "")) is not None:
                        older[needed] = last
        self.snapshot = self.published.replace(older.values())


def _has(snapshot: Snapshot, key: Key, version: str | None = None) -> bool:
    type_url, name = key
    resource = snapshot.of(type_url).resources.get(name)
    return resource is not None and version in (None, resource.version)
