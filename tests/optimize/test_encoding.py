from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import (
    bits,
    gray,
    gray_inverse,
    multiplexer,
    node_probabilities,
    rungs_of,
    state_of,
    tree_angles,
    tree_probabilities,
    walsh,
)


@st.composite
def weight_vectors(draw: st.DrawFn) -> Array:
    values = draw(
        st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1.0)), min_size=1, max_size=33).filter(any)
    )
    return np.array(values) / sum(values)


@given(st.integers(0, 2**31 - 1))
def test_gray_code_round_trip_and_one_bit_between_neighbours(rung: int) -> None:
    assert gray_inverse(gray(rung)) == rung
    assert bin(int(gray(rung)) ^ int(gray(rung + 1))).count("1") == 1


@given(st.integers(1, 5), st.sampled_from([1, 2, 4, 8]), st.data())
def test_states_and_rungs_round_trip(clusters: int, levels: int, data: st.DataObject) -> None:
    rungs = data.draw(st.lists(st.integers(0, levels - 1), min_size=clusters, max_size=clusters))
    state = state_of(np.array(rungs), levels)
    assert 0 <= state < levels**clusters
    assert rungs_of(state, clusters, levels).tolist() == rungs


def test_first_cluster_owns_the_most_significant_wires() -> None:
    assert rungs_of([0b1000, 0b1101], 2, 4).tolist() == [[3, 0], [2, 1]]


@given(weight_vectors())
def test_any_weight_vector_has_exact_angles(weights: Array) -> None:
    angles = tree_angles(weights)
    assert angles.size == 2 ** bits(weights.size) - 1
    np.testing.assert_allclose(
        tree_probabilities(angles, weights.size), weights, rtol=0, atol=1e-12
    )


@given(weight_vectors())
def test_absent_leaves_have_exactly_no_probability(weights: Array) -> None:
    everything = tree_probabilities(tree_angles(weights), 2 ** bits(weights.size))
    assert not everything[weights.size :].any()


def test_a_node_without_weight_still_reaches_its_leaves() -> None:
    # Leaves 2, 3 and 4 weigh nothing; their parent must not be stuck at one of them.
    angles = tree_angles(np.array([0.5, 0.5, 0.0, 0.0, 0.0]))
    assert 0.1 < angles[4] < 3.0


def test_node_probabilities_are_the_mass_below_each_node() -> None:
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(node_probabilities(tree_angles(weights)), [1.0, 0.3, 0.7])


@given(st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_walsh_coefficients_rebuild_the_diagonal(qubits: int, seed: int) -> None:
    diagonal = np.random.default_rng(seed).normal(size=2**qubits)
    coefficients = walsh(diagonal)
    for state in range(2**qubits):
        signs = [(-1) ** bin(state & subset).count("1") for subset in range(2**qubits)]
        assert abs(coefficients @ signs - diagonal[state]) < 1e-12


def test_multiplexer_keeps_angles_apart() -> None:
    for controls in range(5):
        m = multiplexer(controls)
        np.testing.assert_allclose(m.T @ m, np.eye(2**controls) / 2**controls, atol=1e-15)
