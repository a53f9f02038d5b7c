"""What each proxy may admit, so that all together never admit more than a cluster's limit.

Sans-IO. `aim` says what is wanted; `grants` is what each proxy is to be told now. A proxy is told
less at once, and more only when there is room: the limit less all that any proxy may have in force.
That is the largest of what it took and of what it was told since, for its answers come late, and a
proxy that cannot be reached goes on with what it has.

    join, leave, release    a proxy is connected; it is not; it is known to be gone
    told(node, version)     its grants were published under this version
    took(node, version)     it has them in force

So the sum over the proxies never grows above the limit. When the limit itself falls, it does so as
fast as the proxies answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from eigenmesh.mesh.division import divide

KEEP_WITHIN = 0.15
"""A part this near (relative) to what is wanted stays: shares are noisy, and a change is a push."""

MOST_UNTAKEN = 64
"""Unanswered grants of one proxy that are remembered one by one."""

Grants = dict[str, int]
"""Cluster -> requests in flight."""


@dataclass
class _Member:
    """clusters: that it sends to. untaken: (version, grants) that it was told since it took
    `taken`."""

    clusters: frozenset[str]
    connected: bool = True
    granted: Grants = field(default_factory=dict)
    taken: Grants = field(default_factory=dict)
    untaken: list[tuple[str, Grants]] = field(default_factory=list)

    def most(self, cluster: str) -> int:
        """What it may have in force of a cluster, at most."""
        told = (grants.get(cluster, 0) for _, grants in self.untaken)
        return max(self.taken.get(cluster, 0), self.granted.get(cluster, 0), *told, 0)


class Fleet:
    """resumed: what proxies were granted before a restart; they count until they are released."""

    def __init__(self, resumed: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._members: dict[str, _Member] = {
            node: _Member(frozenset(grants), False, dict(grants), dict(grants))
            for node, grants in (resumed or {}).items()
        }
        self._limits: dict[str, int] = {}
        self._targets: dict[str, dict[str, int]] = {}

    @property
    def members(self) -> frozenset[str]:
        """Those that count: connected, or not known to be gone."""
        return frozenset(self._members)

    def senders(self, cluster: str) -> list[str]:
        """Members that send to the cluster, in order."""
        return sorted(n for n, m in self._members.items() if cluster in m.clusters)

    def grants(self, node: str) -> Grants:
        """Cluster -> what this proxy is to be told; 0 until others have given back its part."""
        return dict(self._members[node].granted) if node in self._members else {}

    def most(self, cluster: str) -> int:
        """What all of them may have in force of a cluster, at most."""
        return sum(m.most(cluster) for m in self._members.values() if cluster in m.clusters)

    def join(self, node: str, clusters: Collection[str]) -> None:
        member = self._members.setdefault(node, _Member(frozenset(clusters)))
        member.clusters, member.connected = frozenset(clusters), True

    def sends(self, node: str, clusters: Collection[str]) -> None:
        """It sends to these from now on."""
        if node in self._members:
            self._members[node].clusters = frozenset(clusters)

    def leave(self, node: str) -> None:
        """It is not connected; it may still serve with what it has."""
        if node in self._members:
            self._members[node].connected = False

    def release(self, node: str) -> None:
        """It is gone: others may have its part."""
        member = self._members.get(node)
        if member is not None and not member.connected:
            del self._members[node]

    def away(self) -> list[str]:
        """Members that are not connected."""
        return [node for node, member in self._members.items() if not member.connected]

    def told(self, node: str, version: str) -> None:
        member = self._members[node]
        if not member.untaken or member.untaken[-1] != (version, member.granted):
            member.untaken.append((version, dict(member.granted)))
        if len(member.untaken) > MOST_UNTAKEN:
            # Who does not answer must not be remembered without end: the oldest two as one.
            (_, old), (kept, new) = member.untaken[:2]
            both = {c: max(old.get(c, 0), new.get(c, 0)) for c in old.keys() | new.keys()}
            member.untaken[:2] = [(kept, both)]

    def took(self, node: str, version: str) -> bool:
        """Says whether that leaves room for others."""
        member = self._members.get(node)
        if member is None:
            return False
        for number in range(len(member.untaken) - 1, -1, -1):
            if member.untaken[number][0] == version:
                before = {c: member.most(c) for c in member.clusters}
                member.taken = member.untaken[number][1]
                del member.untaken[: number + 1]
                return any(member.most(c) < before[c] for c in member.clusters)
        return False

    def aim(
        self, limits: Mapping[str, int], fractions: Mapping[str, Mapping[str, float]]
    ) -> frozenset[str]:
        """limits: by cluster, over all proxies. fractions: cluster -> member -> its share, for
        every member that sends to it. Returns the members whose grants changed."""
        for cluster in self._limits.keys() - limits.keys():
            for member in self._members.values():
                member.granted.pop(cluster, None)
        for cluster, limit in limits.items():
            wanted = divide(limit, fractions[cluster]) if fractions.get(cluster) else {}
            kept = self._targets.get(cluster, {})
            if limit != self._limits.get(cluster) or not _near(kept, wanted):
                self._targets[cluster] = wanted
        self._limits = dict(limits)
        return self.regrant()

    def regrant(self, least: int = 0) -> frozenset[str]:
        """Grants what there is room for now. Returns the members whose grants changed.

        least: given to every proxy in any case; for use when the others do not answer.
        """
        changed = set()
        for cluster, limit in self._limits.items():
            targets = self._targets[cluster]
            members = {n: self._members[n] for n in targets if n in self._members}
            for node, member in members.items():
                if targets[node] < member.granted.get(cluster, 0):
                    member.granted[cluster] = targets[node]
                    changed.add(node)
            room = limit - self.most(cluster)
            # Who has nothing comes first.
            for node in sorted(members, key=lambda n: (members[n].granted.get(cluster, 0), n)):
                member = members[node]
                most, before = member.most(cluster), member.granted.get(cluster)
                granted = min(targets[node], max(most + max(room, 0), least))
                if before is None or granted > before:
                    member.granted[cluster] = granted
                    room -= max(0, granted - most)
                    changed.add(node)
        return frozenset(changed)

    def to_dict(self) -> dict[str, Grants]:
        """What a restart resumes with."""
        return {
            node: {c: member.most(c) for c in member.granted}
            for node, member in self._members.items()
        }


def _near(kept: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    same: Iterable[bool] = (
        abs(wanted[n] - kept[n]) <= max(1.0, KEEP_WITHIN * kept[n]) for n in wanted if n in kept
    )
    return kept.keys() == wanted.keys() and all(same)
