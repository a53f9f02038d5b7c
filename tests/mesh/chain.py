"""The exact chain: a queue of c slots, cut off at m, under demand of two rates (MMPP/M/c/m)."""

from __future__ import annotations

import numpy as np
from scipy.stats import erlang


class Chain:
    """load: mean requests/s. t0: mean service time in seconds, exponential. The rate is
    load (1 +- swing), each for an exponential time of mean 2 lasts: its correlation falls as
    exp(-t / lasts)."""

    def __init__(
        self, load: float, c: int, t0: float, m: int, swing: float = 0.0, lasts: float = 1.0
    ) -> None:
        rates = load * (1.0 - swing), load * (1.0 + swing)
        size = 2 * (m + 1)
        q = np.zeros((size, size))
        for n in range(m + 1):
            for i in (0, 1):
                q[2 * n + i, 2 * n + 1 - i] += 0.5 / lasts
                if n < m:
                    q[2 * n + i, 2 * n + 2 + i] += rates[i]
                if n > 0:
                    q[2 * n + i, 2 * n - 2 + i] += min(n, c) / t0
        np.fill_diagonal(q, -q.sum(axis=1))
        balance = q.T.copy()
        balance[-1] = 1.0
        right = np.zeros(size)
        right[-1] = 1.0
        p = np.linalg.solve(balance, right).reshape(m + 1, 2)
        self.c, self.t0 = c, t0
        self.seen = p @ np.array(rates) / load
        """Share of the arriving requests that find n = 0, ..., m others."""
        self.blocked = float(self.seen[m])
        in_flight = float(p.sum(axis=1) @ np.arange(m + 1))
        self.latency = in_flight / (load * (1.0 - self.blocked))
        """Mean seconds of what is admitted (Little's law)."""

    def goodput(self, slo: float) -> float:
        """Fraction of all requests that are admitted and answered within `slo` seconds."""
        served = -np.expm1(-slo / self.t0)
        good = float(self.seen[: self.c].sum()) * served
        waits = np.linspace(0.0, slo, 801)
        within = -np.expm1(-(slo - waits) / self.t0)
        for n in range(self.c, len(self.seen) - 1):
            density = erlang.pdf(waits, n - self.c + 1, scale=self.t0 / self.c)
            good += float(self.seen[n]) * float(np.trapezoid(density * within, waits))
        return float(good)
