from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pennylane as qml
import pytest

from eigenmesh.mesh import Bounds, GuardPolicy
from eigenmesh.optimize.circuits.device import Device
from eigenmesh.optimize.circuits.weights import (
    angle_slopes,
    born_machine,
    leaf_slopes,
    tree_gates,
    turn,
)
from eigenmesh.optimize.classical.weights import newton, slsqp
from eigenmesh.optimize.encoding import bits, tree_angles, tree_probabilities
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings, Problem

Make = Callable[..., Problem]
SETTINGS = CircuitSettings(seconds=60.0)


@pytest.mark.parametrize("leaves", [2, 3, 4, 7, 8, 11, 33])
def test_tree_circuit_has_the_weights_as_probabilities(leaves: int) -> None:
    weights = np.random.default_rng(leaves).dirichlet(np.full(leaves, 0.5))
    qubits = bits(leaves)
    p = Device("lightning.qubit", qubits).probabilities(tree_gates(tree_angles(weights)), qubits)
    np.testing.assert_allclose(p[:leaves], weights, atol=1e-12)
    assert np.abs(p[leaves:]).sum() < 1e-12


def test_tree_circuit_is_a_tower_of_select_pauli_rotations() -> None:
    angles = np.random.default_rng(0).uniform(-3, 3, 15)

    def tower() -> None:
        qml.RY(angles[0], wires=0)
        for level in (1, 2, 3):
            part = angles[2**level - 1 : 2 ** (level + 1) - 1]
            qml.SelectPauliRot(
                part, control_wires=list(range(level)), target_wire=level, rot_axis="Y"
            )

    expected = qml.matrix(tower, wire_order=range(4))()[:, 0]
    gates = tree_gates(angles)
    found = qml.matrix(qml.tape.QuantumScript(gates), wire_order=range(4))[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["eigenmesh.qubit", "lightning.qubit", "default.qubit"])
def test_slopes_are_finite_differences_of_the_linearised_cost(name: str) -> None:
    rng = np.random.default_rng(1)
    angles, diagonal = rng.uniform(0.2, 2.8, 7), rng.normal(size=8)
    device = Device(name, 3)
    slopes = angle_slopes(device.slopes(tree_gates(angles), diagonal))
    for i in range(7):
        step = np.eye(7)[i] * 1e-6
        up = diagonal @ tree_probabilities(angles + step, 8)
        down = diagonal @ tree_probabilities(angles - step, 8)
        assert slopes[i] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("leaves", [2, 5, 8])
def test_slopes_of_all_nodes_tell_what_each_leaf_costs(leaves: int) -> None:
    rng = np.random.default_rng(leaves)
    qubits = bits(leaves)
    gates = tree_gates(np.zeros(2**qubits - 1))
    p, cost = rng.dirichlet(np.ones(leaves)), np.zeros(2**qubits)
    p[0] = 1e-10
    cost[:leaves] = rng.normal(size=leaves)
    angles = tree_angles(p)
    turn(gates, angles)
    found = leaf_slopes(angle_slopes(Device("lightning.qubit", qubits).slopes(gates, cost)), angles)
    apart = found[:leaves] - cost[:leaves]
    np.testing.assert_allclose(apart, apart[-1], atol=1e-6)


@pytest.mark.parametrize("load_share", [0.4, 0.6, 0.72])
@pytest.mark.parametrize(("clusters", "routes", "seed"), [(3, 2, 1), (5, 2, 2), (7, 3, 3)])
def test_born_machine_reaches_the_classical_optimum(
    make_mesh: Make, clusters: int, routes: int, seed: int, load_share: float
) -> None:
    objective = Objective(make_mesh(clusters, routes, seed, load=load_share))
    limits, start = objective.ladder[:, 3], objective.capacity_weights()
    best = slsqp(objective, limits, start).value
    best = newton(objective, limits, best).value
    found = born_machine(objective, limits, start, SETTINGS)
    j, optimum = (float(objective.evaluate(w, limits)) for w in (found.value, best))
    assert j <= optimum * 1.001
    assert found.detail["device"] == "lightning.qubit"
    assert found.detail["backend"] == "simulated"
    assert found.detail["qubits"] == bits(clusters)


def test_born_machine_solves_the_demo_mesh_from_equal_weights(make_demo: Make) -> None:
    objective = Objective(make_demo())
    limits = objective.ladder[:, 3]
    best = slsqp(objective, limits, objective.initial).value
    found = born_machine(objective, limits, objective.initial, SETTINGS).value
    assert objective.evaluate(found, limits) <= objective.evaluate(best, limits) * 1.001
    load = objective.loads(found)
    assert (load < objective.capacity).all()
    assert load[0] > load[1] > load[2]


def test_born_machine_leaves_a_start_at_the_bound(make_demo: Make) -> None:
    """A leaf without probability has no slope in its own angle: it must not be stuck there."""
    objective = Objective(make_demo())
    start = np.array([0.02, 0.02, 0.96, 0.02, 0.02, 0.96])
    limits = objective.ladder[:, 3]
    best = slsqp(objective, limits, objective.capacity_weights()).value
    found = born_machine(objective, limits, start, SETTINGS).value
    assert objective.evaluate(found, limits) <= objective.evaluate(best, limits) * 1.001


def test_born_machine_keeps_upper_bounds_exactly(make_demo: Make) -> None:
    bounds = {("a", "large"): Bounds(0.0, 0.3), ("b", "large"): Bounds(0.0, 0.4)}
    demands = {"a": 140.0, "b": 140.0}
    problem = replace(make_demo(guard=GuardPolicy(cluster_bounds=bounds)), demands=demands)
    objective = Objective(problem)
    limits = objective.ladder[:, 3]
    start = objective.project(objective.initial)
    best = slsqp(objective, limits, start).value
    found = born_machine(objective, limits, start, SETTINGS).value
    assert found[0] == pytest.approx(0.3, abs=1e-9)
    assert found[3] == pytest.approx(0.4, abs=1e-9)
    assert (found <= objective.high + 1e-12).all()
    assert (found >= objective.low - 1e-12).all()
    assert objective.evaluate(found, limits) <= objective.evaluate(best, limits) * 1.001


def test_born_machine_keeps_what_it_has_when_time_is_up(make_mesh: Make) -> None:
    objective = Objective(make_mesh(8, 3, 1))
    limits, start = objective.ladder[:, 3], objective.initial
    found = born_machine(objective, limits, start, replace(SETTINGS, seconds=1e-9))
    assert found.detail["evaluations"] == 1
    np.testing.assert_allclose(found.value, objective.project(found.value), atol=1e-12)
    assert np.abs(found.value - start).max() < 0.02


def test_routes_without_a_choice_need_no_circuit(make_demo: Make) -> None:
    problem = make_demo()
    idle = replace(problem, demands={"a": 300.0, "b": 0.0})
    objective = Objective(idle)
    found = born_machine(objective, objective.ladder[:, 3], objective.initial, SETTINGS)
    assert found.detail["circuits"] == 1
    np.testing.assert_allclose(found.value[3:], objective.initial[3:])
    bounds = {(r, k): Bounds(1 / 3, 1 / 3) for r in "ab" for k in problem.curves}
    guard = GuardPolicy(cluster_bounds=bounds)
    fixed = Objective(replace(problem, guard=guard))
    found = born_machine(fixed, fixed.ladder[:, 3], fixed.initial, SETTINGS)
    assert found.detail["circuits"] == 0
    np.testing.assert_allclose(found.value, fixed.initial)


@pytest.mark.parametrize("name", ["eigenmesh.qubit", "lightning.qubit", "default.qubit"])
def test_samples_follow_the_probabilities_and_the_seed(name: str) -> None:
    gates = tree_gates(tree_angles(np.array([0.1, 0.2, 0.3, 0.4])))
    drawn = Device(name, 2, seed=5).samples(gates, 2, 4000)
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, [0.1, 0.2, 0.3, 0.4], atol=0.04)
    assert np.array_equal(drawn, Device(name, 2, seed=5).samples(gates, 2, 4000))
    assert not np.array_equal(drawn, Device(name, 2, seed=6).samples(gates, 2, 4000))
