"""What the page is told of a decision, and the circuits that it draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenmesh.control.proposal import LoopSettings
from eigenmesh.mesh import (
    Action,
    Bounds,
    BreakerLimits,
    Candidate,
    Cut,
    Decision,
    GuardPolicy,
    Observation,
    Plan,
)
from eigenmesh.optimize.angles import load
from eigenmesh.optimize.problem import CircuitSettings
from eigenmesh.web.circuits import described
from eigenmesh.web.view import view

from .stage import INTERVAL, SHOP, serving

SETTINGS = LoopSettings(SHOP.topology, SHOP.objective, GuardPolicy(), INTERVAL, 10.0, "best", "m")
SEEN = Observation(0.0, INTERVAL, {}, SHOP.demands)


def decided(*candidates: Candidate, weights: dict[str, float] | None = None) -> Decision:
    plan = Plan.equal(SHOP.topology)
    if weights:
        plan = Plan({**plan.weights, "storefront": weights}, {})
    return Decision(
        1, 0.0, Action.PUSH, "a test", plan, proposed=plan, observation=SEEN, candidates=candidates
    )


def ran(part: str, solver: str, qubits: int, **detail: float | str) -> Candidate:
    return Candidate(part, solver, 0.03, 0.01, True, {"qubits": qubits, **detail})


def test_the_tree_is_turned_to_the_weights() -> None:
    """The angles of the busiest route, read off the drawing, give its weights above the floor."""
    weights = {"web-a": 0.5, "web-b": 0.3, "web-spot": 0.2}
    policy = replace(GuardPolicy(), bounds=Bounds(0.1, 0.9))
    found = described(decided(ran("weights", "born-machine", 2), weights=weights), SETTINGS, policy)
    drawing = found["weights"]
    assert drawing["route"] == "storefront"
    assert [(g["name"], g["wires"], g["controls"]) for g in drawing["gates"]] == [
        ("RY", [0], []),
        ("RY", [1], [0]),
    ]
    first, second = (
        [float(turn) for turn in gate["label"].split(", ")] for gate in drawing["gates"]
    )
    share = (1.0 - 0.3) * np.array(
        [
            np.cos(first[0] / 2) ** 2 * np.cos(second[0] / 2) ** 2,
            np.cos(first[0] / 2) ** 2 * np.sin(second[0] / 2) ** 2,
            np.sin(first[0] / 2) ** 2,
        ]
    )
    assert share + 0.1 == pytest.approx(list(weights.values()), abs=0.01)


def gates(
    candidate: Candidate, **circuits: Any
) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], tuple[int, ...]]]]:
    settings = replace(SETTINGS, circuits=CircuitSettings(**circuits))
    drawing = described(decided(candidate), settings, GuardPolicy())["limits"]
    return drawing, [(g["name"], tuple(g["controls"]), tuple(g["wires"])) for g in drawing["gates"]]


NAMES = {
    "Hadamard": "H",
    "RY": "RY",
    "CZ": "Z",
    "CostPhase": "C",
    "MixerX": "RX",
    "MixerTilted": "M",
}


@pytest.mark.parametrize("warm", [0.0, 0.1], ids=["cold", "warm"])
def test_qaoa_is_drawn_as_it_is_made(warm: float) -> None:
    """Gate by gate, beside the circuit that the worker runs."""
    from eigenmesh.optimize.circuits.ansatz import x_layers
    from eigenmesh.optimize.circuits.operations import DiagonalCost, tilted

    drawing, drawn = gates(ran("limits", "qaoa", 4), layers=2, warm_start=warm)
    cost = DiagonalCost(np.random.default_rng(1).normal(size=16))
    made: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    for gate in x_layers(cost, load(2), tilted(0, 4, warm) if warm else None):
        wires = tuple(gate.wires)
        mixes = gate.name.startswith("Mixer")
        made += [(NAMES[gate.name], (), (w,)) for w in wires] if mixes else []
        made += [] if mixes else [(NAMES[gate.name], (), wires)]
    assert drawn == made
    labels = [gate["label"] for gate in drawing["gates"] if gate["name"] == "C"]
    assert labels == [f"γ {gamma:.2f}" for gamma in load(2).gammas]
    assert drawing["left_out"] == 0
    assert gates(ran("limits", "qaoa", 4), layers=10)[0]["left_out"] == 8


def test_vqe_is_drawn_as_it_is_made() -> None:
    from eigenmesh.optimize.circuits.ansatz import hardware_efficient
    from eigenmesh.optimize.circuits.sampling import VQE_LAYERS

    _, drawn = gates(ran("limits", "vqe", 4), algorithm="vqe")
    made = [
        (NAMES[g.name], tuple(g.wires)[:-1], tuple(g.wires)[-1:])
        for g in hardware_efficient(np.ones((VQE_LAYERS + 1, 4)))
    ]
    assert drawn == made


def test_the_xy_mixer_is_drawn_by_registers() -> None:
    _, drawn = gates(ran("limits", "qaoa-xy", 8), algorithm="qaoa-xy", layers=1)
    registers = [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert drawn == [
        *(("W", (), r) for r in registers),
        ("C", (), tuple(range(8))),
        *(("XY", (), r) for r in registers),
    ]


def test_no_circuit_is_drawn_where_none_was_run() -> None:
    failed = Candidate("limits", "qaoa", 0.03, 0.01, detail={"error": "no such device"})
    for candidate in (
        Candidate("weights", "newton", 0.03, 0.01, True),
        Candidate("limits", "qaoa", 0.03, 0.01, detail={"qubits": 0}),
        failed,
    ):
        assert described(decided(candidate), SETTINGS, GuardPolicy()) == {}


async def test_a_view_is_json_whatever_was_seen(tmp_path: Path) -> None:
    """Before the first decision, and with figures that are none."""
    async with serving(tmp_path, ticks=0) as stage:
        found = view(stage.subject, stage.loop.plan, 0)
        assert found["decision"] is None
        assert {c["latency"] for c in found["clusters"]} == {None}
        odd = Cut("max_step", "web-a", float("inf"), float("nan"))
        limits = {"web-a": BreakerLimits.around(64)}
        plan = Plan({**stage.loop.plan.weights, "checkout": {"cart-a": 0.9, "cart-b": 0.1}}, limits)
        seen = replace(SEEN, missing={"web-a": "no data"}, demands={})
        stage.loop.latest = Decision(
            7, 0.0, Action.HOLD, "why", plan, observation=seen, cuts=(odd,) * 30
        )
        found = view(stage.subject, stage.loop.plan, 0)
        json.dumps(found, allow_nan=False)
        decision = found["decision"]
        assert (len(decision["cuts"]), decision["cut_count"]) == (20, 30)
        assert [(c["cluster"], c["to"]) for c in decision["weight_changes"]] == [
            ("cart-a", 0.9),
            ("cart-b", 0.1),
        ]
        assert decision["limit_changes"] == [{"cluster": "web-a", "from": None, "to": 64}]
        assert decision["change_count"] == 3
        by_name = {c["name"]: c for c in found["clusters"]}
        assert by_name["web-a"]["missing"] == "no data"
