"""A cluster's limit, divided over the proxies that send to it.

Envoy's limits are per proxy and know nothing of each other (config.cluster.v3.CircuitBreakers), so
what the cluster can take has to be shared out: in proportion to the traffic that each proxy has
for it, since a proxy without room turns away what another one would have had room for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

PRIOR = 10.0
"""Requests of evenly spread traffic that count beside what was seen: a share that rests on a few
requests is hardly known."""
EVEN = 0.1
"""Fraction of a limit that is shared out evenly: traffic may turn to any proxy at any time."""


def shares(requests: Mapping[str, float], proxies: Collection[str]) -> dict[str, float]:
    """Fractions that sum to 1, by proxy; `requests`: how many each sent in the last window, where
    that is known. Without any, all are equal."""
    seen = {proxy: max(0.0, requests.get(proxy, 0.0)) for proxy in proxies}
    total = sum(seen.values()) + PRIOR
    return {
        proxy: EVEN / len(seen) + (1.0 - EVEN) * (count + PRIOR / len(seen)) / total
        for proxy, count in seen.items()
    }


def divide(limit: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Whole parts, each at least 1, by proxy (largest remainder, ties by name).

    They sum to `limit`, unless there are more proxies than that: then each has 1, and together
    they may admit more than the limit.
    """
    total = sum(fractions.values())
    spare = limit - len(fractions)
    if spare <= 0 or not total > 0:
        return dict.fromkeys(fractions, max(1, limit // max(1, len(fractions))))
    # One each first: what is over is in proportion to what each is short of its fraction.
    short = {name: max(0.0, limit * part / total - 1.0) for name, part in fractions.items()}
    scale = spare / sum(short.values())
    parts: dict[str, int] = {}
    remainders = []
    for name, wanted in short.items():
        whole = int(wanted * scale)
        parts[name] = 1 + whole
        remainders.append((whole - wanted * scale, name))
    left = limit - sum(parts.values())
    for _, name in sorted(remainders)[:left]:
        parts[name] += 1
    return parts
