from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eigenmesh.mesh import GuardPolicy, MeshError
from eigenmesh.optimize.angles import Angles, load
from eigenmesh.optimize.circuits.ansatz import one_hot, x_layers, xy_layers
from eigenmesh.optimize.circuits.device import Device
from eigenmesh.optimize.circuits.operations import DiagonalCost, tilted
from eigenmesh.optimize.circuits.rungs import sampled_rungs
from eigenmesh.optimize.circuits.sampling import sample
from eigenmesh.optimize.classical.rungs import blocks, exhaustive
from eigenmesh.optimize.encoding import rungs_of
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Algorithm, CircuitSettings, Problem
from eigenmesh.optimize.training import evolve, standardised
from tests.optimize.couplings import coupled

Make = Callable[..., Problem]
SETTINGS = CircuitSettings(seconds=60.0)
SIDE = CircuitSettings(max_qubits=6, pool=2)
"""Two devices, side by side."""
DEVICES = ["eigenmesh.qubit", "lightning.qubit", "default.qubit"]


@pytest.mark.parametrize("name", DEVICES)
def test_qaoa_is_the_simulated_evolution(name: str) -> None:
    """Every device and the trainer's numpy agree: angles mean the same in all."""
    costs = standardised(np.random.default_rng(3).normal(size=32))
    angles = Angles("test", np.array([0.4, 0.9]), np.array([-0.6, -0.2]))
    p = Device(name, 5).probabilities(x_layers(DiagonalCost(costs), angles), 5)
    expected = np.abs(evolve(costs[None], angles.gammas, angles.betas)[0]) ** 2
    np.testing.assert_allclose(p, expected, atol=1e-12)


@pytest.mark.parametrize("levels", [2, 4])
def test_one_hot_and_gray_code_give_the_same_samples(levels: int) -> None:
    """A ring of four rungs is the square that two bits walk on."""
    clusters = 2
    rungs = rungs_of(np.arange(levels**clusters), clusters, levels)
    costs = standardised(np.random.default_rng(5).normal(size=len(rungs)))
    shifts = levels * np.arange(clusters - 1, -1, -1)
    words = (np.left_shift(1, levels - 1 - rungs) << shifts).sum(axis=1)
    assert np.array_equal(one_hot(words, clusters, levels), rungs)
    wide = np.zeros(2 ** (levels * clusters))
    wide[words] = costs
    angles = load(6)
    gray = Device("eigenmesh.qubit", clusters * (levels // 2))
    ring = Device("eigenmesh.qubit", clusters * levels)
    p = gray.probabilities(x_layers(DiagonalCost(costs), angles), gray.wires)
    q = ring.probabilities(xy_layers(DiagonalCost(wide), angles, levels), ring.wires)[words]
    if levels == 4:
        np.testing.assert_allclose(q, p, atol=1e-12)
    assert q.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("algorithm", ["qaoa", "qaoa-xy", "vqe"])
@pytest.mark.parametrize("name", ["eigenmesh.qubit", "lightning.qubit"])
def test_every_algorithm_beats_chance_by_far(algorithm: Algorithm, name: str) -> None:
    rng = np.random.default_rng(7)
    rungs = rungs_of(np.arange(4**3), 3, 4) - 1.5
    shifts = []
    for seed in range(10):
        couplings, fields = np.triu(rng.normal(size=(3, 3)), 1), rng.normal(size=3)
        table = np.einsum("si,ij,sj->s", rungs, couplings, rungs) + rungs @ fields
        settings = CircuitSettings(device=name, algorithm=algorithm, shots=16)
        device = Device(name, 12 if algorithm == "qaoa-xy" else 6, seed)
        found = sample(table, 4, 0, settings, seed, device)
        assert found.states.shape == (16,)
        assert found.evaluations == 0 or algorithm == "vqe"
        shifts.append((table[found.states].mean() - table.mean()) / table.std())
    # By chance the mean of these 160 samples is 0, give or take 0.08.
    assert np.mean(shifts) < -0.7


def test_refinement_lowers_the_risk() -> None:
    """Costs unlike any that the angles were trained on: one deep valley."""
    costs = np.random.default_rng(11).normal(size=256) * 0.05
    costs[77] = -4.0
    device = Device("eigenmesh.qubit", 8, 3)
    shares = []
    for refine in (0, 40):
        settings = CircuitSettings(device=device.name, layers=3, refine=refine, shots=4000)
        found = sample(costs, 4, 0, settings, 3, device)
        shares.append(np.mean(found.states == 77))
        assert (found.evaluations > 0) == (refine > 0)
    assert shares[1] > 2 * shares[0]


@pytest.mark.parametrize("name", ["eigenmesh.qubit", "lightning.qubit"])
def test_qaoa_leans_toward_the_incumbent(name: str) -> None:
    table = np.random.default_rng(3).normal(size=2**8)
    second = int(np.argsort(table)[1])
    found = {}
    for tilt in (0.0, 0.2):
        settings = CircuitSettings(device=name, shots=4000, layers=3, warm_start=tilt)
        device = Device(name, 8, seed=1)
        drawn = sample(table, 4, second, settings, 0, device).states
        found[tilt] = float(np.mean(drawn == second))
    assert found[0.2] > 1.5 * found[0.0]


def test_slopes_of_a_warm_circuit_agree_on_both_simulators() -> None:
    cost = DiagonalCost(np.random.default_rng(3).normal(size=2**4))
    angles = load(3)
    gates = x_layers(cost, angles, tilted(5, 4, 0.2))
    slopes = [
        Device(name, 4).slopes(gates, cost.values)
        for name in ("eigenmesh.qubit", "lightning.qubit")
    ]
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-10)


def test_the_incumbent_is_where_vqe_begins() -> None:
    flat_but_there = np.zeros(64)
    flat_but_there[37] = -1.0
    device = Device("eigenmesh.qubit", 6, 1)
    settings = CircuitSettings(device=device.name, algorithm="vqe", shots=64)
    there = sample(flat_but_there, 4, 37, settings, 1, device).states
    assert np.mean(there == 37) > 0.5


def test_qaoa_finds_the_optimum_of_small_meshes(make_mesh: Make) -> None:
    hits, before_polish = 0, []
    for seed in range(40):
        problem = make_mesh(3 + seed % 3, 2, 1000 + seed, load=0.6 + 0.015 * seed)
        objective = Objective(problem)
        w = objective.capacity_weights()
        best = exhaustive(objective, w).value
        found = sampled_rungs(objective, w, objective.initial_rungs, SETTINGS, seed)
        values = objective.evaluate_rungs(w, np.stack((best, found.value)))
        hits += bool(values[1] <= values[0] * (1 + 1e-12))
        if found.detail["circuits"]:
            before_polish.append(float(found.detail["approximation_ratio"]))
    assert hits >= 38
    assert np.mean(before_polish) > 0.99


def test_qaoa_in_blocks_improves_the_start(make_mesh: Make) -> None:
    objective = Objective(make_mesh(9, 3, 4, load=0.95))
    w, start = objective.initial, np.zeros(9, dtype=np.int64)
    settings = CircuitSettings(max_qubits=6)
    found = sampled_rungs(objective, w, start, settings, 1)
    values = objective.evaluate_rungs(w, np.stack((start, found.value)))
    assert found.detail["blocks"] == 3
    assert found.detail["qubits"] == 6
    assert values[1] < values[0]
    again = sampled_rungs(objective, w, start, settings, 1)
    assert np.array_equal(found.value, again.value)


@pytest.mark.parametrize("pool", [2, 3, 8])
def test_a_pool_solves_blocks_side_by_side(make_mesh: Make, pool: int) -> None:
    """As well as one device does, the same each time, and never worse than the start."""
    objective = Objective(make_mesh(12, 4, 4, load=0.95))
    w, start = objective.initial, np.zeros(12, dtype=np.int64)
    settings = CircuitSettings(max_qubits=6, pool=pool)
    found, again = (sampled_rungs(objective, w, start, settings, 1) for _ in range(2))
    assert found.detail["devices"] == min(pool, 4)
    assert np.array_equal(found.value, again.value)
    alone = sampled_rungs(objective, w, start, CircuitSettings(max_qubits=6), 1).value
    values = objective.evaluate_rungs(w, np.stack((start, found.value, alone)))
    assert values[1] < values[0]
    assert values[1] <= values[2] * 1.01


def test_a_device_of_the_pool_that_fails_is_an_error(
    make_mesh: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Objective(make_mesh(12, 4, 4, load=0.95))
    run = Device.samples

    def samples(self: Device, *args: object) -> object:
        # The second device of the pool; its stream of samples has a seed of its own.
        if self.seed == 2:
            raise RuntimeError("the queue is closed")
        return run(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Device, "samples", samples)
    with pytest.raises(RuntimeError, match="the queue is closed"):
        sampled_rungs(objective, objective.initial, np.zeros(12, dtype=np.int64), SIDE, 1)


@pytest.mark.parametrize("pool", [1, 3])
def test_qaoa_in_blocks_walks_shared_hosts(make_mesh: Make, pool: int) -> None:
    objective = Objective(coupled(make_mesh(9, 3, 4, load=0.7), 4))
    assert not objective.separable
    w, start = objective.initial, objective.initial_rungs
    found = sampled_rungs(objective, w, start, CircuitSettings(max_qubits=6, pool=pool), 1)
    rival = blocks(objective, w, start).value
    values = objective.evaluate_rungs(w, np.stack((start, found.value, rival)))
    assert found.detail["blocks"] == 3
    assert values[1] < values[0]
    assert values[1] <= values[2] * 1.02


def test_rungs_that_make_no_difference_need_no_circuit(make_mesh: Make) -> None:
    guard = GuardPolicy(min_limit=30, max_limit=30)
    objective = Objective(make_mesh(3, 1, 2, guard=guard))
    found = sampled_rungs(objective, objective.initial, objective.initial_rungs, SETTINGS)
    assert found.detail["circuits"] == 0
    assert np.array_equal(found.value, objective.initial_rungs)


def test_what_a_circuit_cannot_do(make_demo: Make) -> None:
    objective = Objective(make_demo())
    w, rungs = objective.initial, objective.initial_rungs
    with pytest.raises(MeshError, match=r"circuits.max_qubits: 1: use 2 or more"):
        sampled_rungs(objective, w, rungs, CircuitSettings(max_qubits=1))
    with pytest.raises(MeshError, match=r"circuits.layers: 11"):
        sampled_rungs(objective, w, rungs, CircuitSettings(layers=11))
    with pytest.raises(MeshError, match="install its PennyLane plugin"):
        sampled_rungs(objective, w, rungs, CircuitSettings(device="no.such.device"))
    assert load(6).family == "mixture"


def test_any_device_finds_the_same_rungs(make_mesh: Make) -> None:
    objective = Objective(make_mesh(4, 2, 21, load=0.9))
    w, start = objective.initial, np.zeros(4, dtype=np.int64)
    costs = []
    for name in DEVICES:
        found = sampled_rungs(objective, w, start, replace(SETTINGS, device=name), 3)
        assert found.detail["device"] == name
        assert found.detail["backend"] == "simulated"
        assert ("terms" in found.detail) == (name != "eigenmesh.qubit")
        costs.append(float(objective.evaluate_rungs(w, found.value[None])[0]))
    assert max(costs) == pytest.approx(min(costs), rel=1e-3)


def test_a_device_that_errs_still_finds_good_rungs(make_mesh: Make) -> None:
    objective = Objective(make_mesh(4, 2, 21, load=0.9))
    w, start = objective.initial, np.zeros(4, dtype=np.int64)
    noisy = replace(SETTINGS, depolarising=0.01, readout=0.02)
    clean, found = (sampled_rungs(objective, w, start, s, 3) for s in (SETTINGS, noisy))
    assert found.detail["angles"] == "mixture, with noise"
    costs = [float(objective.evaluate_rungs(w, a.value[None])[0]) for a in (clean, found)]
    assert costs[1] == pytest.approx(costs[0], rel=1e-3)
    with pytest.raises(MeshError, match="noise is simulated for qaoa only"):
        replace(noisy, algorithm="vqe")
