"""What a client has asked for, of one type on one stream. Nothing of what it was sent.

    request says             wildcard before   wildcard after   names after
    -----------------------  ----------------  ---------------  ---------------------
    nothing, first (legacy)  -                 yes              none
    nothing, still legacy    yes               yes              none
    SotW names N             any               "*" in N         N without "*"
    delta +S -U              w                 (w or "*" in S)  names + S - U
                                               and "*" not in U

Legacy means that the client has never named anything ("How the client specifies what resources
to return", xds_protocol.rst); Envoy begins so for clusters and listeners. For other types an
empty request asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class Change:
    """What a request did to a subscription.

    named: names that the client has asked for now; each is owed an answer, even if the client
        should have it ("Subscribing to Resources": it may have forgotten it).
    everything: all that the wildcard covers is owed in the same way.
    widened: the wildcard is new; what it covers and was never sent is due.
    narrowed: some names are not followed any more; forget what was sent of them.
    """

    named: frozenset[str] = frozenset()
    everything: bool = False
    widened: bool = False
    narrowed: bool = False


_NOTHING = Change()


class Subscription:
    """`by_default`: an empty first request is a wildcard (listeners and clusters)."""

    __slots__ = ("_legacy", "names", "wildcard")

    def __init__(self, *, by_default: bool) -> None:
        self._legacy = by_default
        self.wildcard = False
        self.names: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def state(self, names: Iterable[str]) -> Change:
        """A SotW request: `names` is all that the client wants."""
        wanted = frozenset(names)
        if not wanted and self._legacy:
            return self._begin_wildcard()
        self._legacy = False
        before, had_wildcard = self.names, self.wildcard
        self.names = wanted - {WILDCARD}
        self.wildcard = WILDCARD in wanted
        return Change(
            named=self.names - before,
            widened=self.wildcard and not had_wildcard,
            # Without its wildcard the client names what it keeps ("Unsubscribing From Resources").
            narrowed=not self.wildcard and (had_wildcard or not before <= self.names),
        )

    def delta(self, subscribe: Iterable[str], unsubscribe: Iterable[str]) -> Change:
        """A delta request."""
        more, less = frozenset(subscribe), frozenset(unsubscribe)
        if not more and not less:
            return self._begin_wildcard() if self._legacy else _NOTHING
        # Naming something ends the legacy form, but not the wildcard that it began.
        legacy_wildcard = self._legacy and self.wildcard
        self._legacy = False
        before, had_wildcard = self.names, self.wildcard
        self.names = (before | more) - less - {WILDCARD}
        self.wildcard = (had_wildcard or WILDCARD in more) and WILDCARD not in less
        named = more & self.names
        if self.wildcard:
            # Under a wildcard the client cannot know whether a name that it gives up remains
            # covered, and has to be told ("Unsubscribing from Resources").
            named |= before & less
        return Change(
            named=named,
            everything=self.wildcard and had_wildcard and WILDCARD in more and not legacy_wildcard,
            widened=self.wildcard and not had_wildcard,
            narrowed=not self.wildcard and (had_wildcard or bool(before & less)),
        )

    def _begin_wildcard(self) -> Change:
        widened = not self.wildcard
        self.wildcard = True
        return Change(widened=widened)
