"""The circuits of a decision, described for a drawing: what was run, without running it.

Gates are the ones that `optimize.circuits` makes; PennyLane is never imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eigenmesh.control.proposal import LoopSettings
from eigenmesh.mesh import Candidate, Decision, GuardPolicy, MeshError
from eigenmesh.optimize.angles import load
from eigenmesh.optimize.encoding import tree_angles

SHOWN_LAYERS = 2
"""Of a circuit's layers; the others differ by their angles only."""

MOST_WIRES = 12

Gate = dict[str, Any]


def described(
    decision: Decision, settings: LoopSettings, policy: GuardPolicy
) -> dict[str, dict[str, Any]]:
    """By part ("weights", "limits"), for the parts that a circuit was run for.

    gates: in order, each with `name`, `wires`, `controls` and `label`. Wire 0 is on top.
    """
    found = {}
    for candidate in decision.candidates:
        if "error" in candidate.detail or "qubits" not in candidate.detail:
            continue
        if candidate.part == "weights" and candidate.solver == "born-machine":
            drawing = _weights(decision, settings, policy)
        elif candidate.part == "limits" and candidate.solver in _LIMITS:
            drawing = _limits(candidate, settings)
        else:
            continue
        if drawing is not None:
            said = {key: str(value) for key, value in candidate.detail.items()}
            found[candidate.part] = {
                **drawing,
                "solver": candidate.solver,
                "won": candidate.won,
                "seconds": round(candidate.seconds, 6),
                "detail": said,
            }
    return found


def _weights(
    decision: Decision, settings: LoopSettings, policy: GuardPolicy
) -> dict[str, Any] | None:
    """The tree of the busiest route, turned to the plan that was proposed."""
    plan = decision.proposed or decision.plan
    demands: Mapping[str, float] = decision.observation.demands if decision.observation else {}
    routes = [r for r in settings.topology.routes if len(r.clusters) > 1 and r.name in plan.weights]
    if not routes:
        return None
    route = max(routes, key=lambda r: demands.get(r.name, 0.0))
    floors = [policy.bounds_of(route.name, name).min_weight for name in route.clusters]
    split = plan.weights[route.name]
    above = [
        max(split.get(name, 0.0) - low, 0.0)
        for name, low in zip(route.clusters, floors, strict=True)
    ]
    if sum(above) <= 0.0:
        above = [1.0] * len(above)
    angles = tree_angles([share / sum(above) for share in above])
    qubits = (angles.size + 1).bit_length() - 1
    gates = []
    for level in range(qubits):
        turns = angles[2**level - 1 : 2 ** (level + 1) - 1]
        label = ", ".join(f"{turn:.2f}" for turn in turns[:4]) + ("…" if turns.size > 4 else "")
        gates.append(_gate("RY", [level], label, controls=list(range(level))))
    return {"qubits": qubits, "gates": gates, "route": route.name, "left_out": 0}


def _limits(candidate: Candidate, settings: LoopSettings) -> dict[str, Any] | None:
    qubits = int(candidate.detail["qubits"])
    if qubits < 1:
        return None
    shown = min(qubits, MOST_WIRES)
    gates, left_out = _LIMITS[candidate.solver](list(range(shown)), settings)
    return {"qubits": shown, "gates": gates, "left_out": left_out, "wires_left_out": qubits - shown}


def _qaoa(wires: Sequence[int], settings: LoopSettings) -> tuple[list[Gate], int]:
    leans = settings.circuits.warm_start > 0
    start = "RY" if leans else "H"
    gates = [_gate(start, [wire], "lean" if leans else "") for wire in wires]
    gammas, betas = _angles(settings)
    for gamma, beta in list(zip(gammas, betas, strict=True))[:SHOWN_LAYERS]:
        gates.append(_gate("C", wires, f"γ {gamma:.2f}"))
        gates += [_gate("M" if leans else "RX", [wire], f"β {beta:.2f}") for wire in wires]
    return gates, max(0, len(gammas) - SHOWN_LAYERS)


def _qaoa_xy(wires: Sequence[int], settings: LoopSettings) -> tuple[list[Gate], int]:
    levels = len(settings.objective.ladder)
    registers = [wires[at : at + levels] for at in range(0, len(wires), levels)]
    gates = [_gate("W", register, "") for register in registers]
    gammas, betas = _angles(settings)
    for gamma, beta in list(zip(gammas, betas, strict=True))[:SHOWN_LAYERS]:
        gates.append(_gate("C", wires, f"γ {gamma:.2f}"))
        gates += [_gate("XY", register, f"β {beta:.2f}") for register in registers]
    return gates, max(0, len(gammas) - SHOWN_LAYERS)


def _vqe(wires: Sequence[int], settings: LoopSettings) -> tuple[list[Gate], int]:
    gates = [_gate("RY", [wire], "trained") for wire in wires]
    for _ in range(SHOWN_LAYERS):
        pairs = range(len(wires) if len(wires) > 2 else len(wires) - 1)
        gates += [_gate("Z", [(w + 1) % len(wires)], "", controls=[w]) for w in pairs]
        gates += [_gate("RY", [wire], "trained") for wire in wires]
    return gates, 0


_LIMITS = {"qaoa": _qaoa, "qaoa-xy": _qaoa_xy, "vqe": _vqe}


def _angles(settings: LoopSettings) -> tuple[list[float], list[float]]:
    circuits = settings.circuits
    try:
        angles = load(circuits.layers, circuits.family, circuits.angles)
    except MeshError:
        return [], []  # the settings have changed since
    return angles.gammas.tolist(), angles.betas.tolist()


def _gate(name: str, wires: Sequence[int], label: str, controls: Sequence[int] = ()) -> Gate:
    return {"name": name, "wires": list(wires), "controls": list(controls), "label": label}
