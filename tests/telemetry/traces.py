"""Demands as they come, and forecasts of them against the last value and an average."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eigenmesh.telemetry.forecast import Forecast

Array = NDArray[np.float64]

SECONDS, WINDOWS, RATE = 2.0, 600, 200.0
AVERAGE = 0.3
"""Share of the newest value in the average."""


def steady(rng: np.random.Generator, at: Array) -> Array:
    return np.full_like(at, RATE)


def day(rng: np.random.Generator, at: Array) -> Array:
    """A day and a night in 20 minutes, down to a third."""
    return RATE * (2.0 + np.sin(2 * np.pi * at / 1200.0)) / 2.0


def steps(rng: np.random.Generator, at: Array) -> Array:
    """Another level every minute or so, from half to twice the rate."""
    levels = RATE * np.exp(rng.uniform(-np.log(2), np.log(2), at.size))
    out: Array = levels[np.cumsum(rng.random(at.size) < SECONDS / 60.0)]
    return out


def spikes(rng: np.random.Generator, at: Array) -> Array:
    """Three times the rate for one window, every minute or so."""
    return RATE * np.where(rng.random(at.size) < SECONDS / 60.0, 3.0, 1.0)


def wandering(rng: np.random.Generator, at: Array) -> Array:
    """A random walk of 4% a window."""
    return RATE * np.exp(np.clip(np.cumsum(rng.normal(0.0, 0.04, at.size)), -1.5, 1.5))


def ramp(rng: np.random.Generator, at: Array) -> Array:
    """From a fifth of the rate to three times it."""
    return RATE * (0.2 + 2.8 * at / float(at[-1]))


TRACES: dict[str, Callable[[np.random.Generator, Array], Array]] = {
    f.__name__: f for f in (steady, day, steps, spikes, wandering, ramp)
}


def errors(trace: str, seed: int) -> dict[str, float]:
    """Root of the mean squared error of each forecast over the mean demand, as counted."""
    rng = np.random.default_rng(seed)
    rates = TRACES[trace](rng, SECONDS * np.arange(WINDOWS, dtype=np.float64))
    counted = rng.poisson(rates * SECONDS) / SECONDS
    forecast, average = Forecast(), counted[0]
    squares = {"Eigenmesh": 0.0, "last value": 0.0, f"average, {AVERAGE}": 0.0}
    for now, then in pairwise(counted):
        average += AVERAGE * (now - average)
        guesses = (forecast.update({"r": float(now)}, SECONDS)["r"], now, average)
        for name, guess in zip(squares, guesses, strict=True):
            squares[name] += float(guess - then) ** 2
    mean = float(counted.mean())
    return {n: round(math.sqrt(s / (WINDOWS - 1)) / mean, 4) for n, s in squares.items()}


def figures(seeds: int) -> dict[str, list[dict[str, float]]]:
    """Trace -> errors by seed."""
    return {trace: [errors(trace, seed) for seed in range(seeds)] for trace in TRACES}
