"""The queues that estimates are judged by: formulas, simulation and an independent simulator."""

from __future__ import annotations

from typing import Any

import ciw
import numpy as np
import pytest

from .referee import MM2, MM8, ON_OFF, PS, SCENES, Scene, long_run


@pytest.mark.parametrize("scene", SCENES, ids=lambda s: s.name)
def test_the_simulated_queue_has_the_mean_of_the_formula(scene: Scene) -> None:
    load = 0.6 * scene.capacity
    simulated = float(long_run(scene, load, 60_000).mean())
    assert simulated == pytest.approx(scene.mean(load), rel=0.06)


def test_demand_that_turns_on_and_off_at_once_is_poisson() -> None:
    calm = Scene("calm", ON_OFF.server, phase=1e-6)
    poisson = Scene("poisson", ON_OFF.server)
    assert calm.mean(120.0) == pytest.approx(poisson.mean(120.0), rel=1e-3)
    assert ON_OFF.mean(120.0) > 1.3 * poisson.mean(120.0)


def independent(scene: Scene, load: float, requests: int) -> list[float]:
    """Latencies in seconds of the scene in ciw."""
    service = scene.server.service
    sigma = float(np.sqrt(np.log1p(scene.variation)))
    sharing: dict[str, Any] = (
        {"ps_thresholds": [1], "number_of_servers": [float("inf")]}
        if scene.sharing
        else {"number_of_servers": [scene.server.slots]}
    )
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(load)],
        service_distributions=[
            ciw.dists.Exponential(1.0 / service)
            if scene.variation == 1.0
            else ciw.dists.Lognormal(np.log(service) - 0.5 * sigma**2, sigma)
        ],
        **sharing,
    )
    ciw.seed(7)
    simulation = ciw.Simulation(network, node_class=ciw.PSNode if scene.sharing else None)
    simulation.simulate_until_max_customers(requests)
    return [r.exit_date - r.arrival_date for r in simulation.get_all_records()]


@pytest.mark.parametrize("scene", [MM2, MM8, PS], ids=lambda s: s.name)
def test_another_simulator_agrees(scene: Scene) -> None:
    load = 0.6 * scene.capacity
    theirs = independent(scene, load, 12_000)
    ours = long_run(scene, load, 60_000)
    assert float(np.mean(theirs)) == pytest.approx(float(ours.mean()), rel=0.1)
    assert np.quantile(theirs, 0.9) == pytest.approx(np.quantile(ours, 0.9), rel=0.12)
