"""The raw results of `discrete` as JSON, tables and a plot."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Record = Mapping[str, Any]

FAMILY_NAMES = {
    "smooth": "smooth (shared hosts, quadratic)",
    "cliff": "cliff (steps at a host's objective)",
    "glass": "glass (random couplings of both signs)",
    "mesh": "mesh (Eigenmesh's own objective)",
}


def write(document: Mapping[str, Any], out: Path) -> None:
    name = "optimiser_discrete"
    text = json.dumps(_rounded(document), separators=(",", ":"))
    (out / f"{name}.json").write_text(text.replace('},{"', '},\n{"') + "\n")
    (out / f"{name}.md").write_text(report(document) + "\n")
    if "quality" in document:
        plot(document, out / f"{name}.svg")


def report(document: Mapping[str, Any]) -> str:
    shots = {int(n): count for n, count in document["shots"].items()}
    parts = [
        "# Rungs by QAOA: quality, transfer, speed",
        "Simulated circuits, one thread. Written by `make bench-optimiser-discrete`; every "
        "instance is in optimiser_discrete.json.",
    ]
    if "quality" in document:
        parts.append(quality_table(document["quality"], shots))
    tables = {"ways": ways_table, "transfer": transfer_table, "speed": speed_table}
    parts += [table(document[name]) for name, table in tables.items() if name in document]
    return "\n\n".join(parts)


def chance(p: Iterable[float], shots: int) -> float:
    """Mean probability that the best of `shots` samples is good."""
    return float(np.mean(1.0 - (1.0 - np.asarray(list(p))) ** shots))


def groups(records: Sequence[Record], *keys: str) -> dict[tuple[Any, ...], list[Record]]:
    out: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        out.setdefault(tuple(record[k] for k in keys), []).append(record)
    return out


def quality_table(records: Sequence[Record], shots: Mapping[int, int]) -> str:
    rivals = ["greedy", "greedy x 10", "annealing", "tabu", "uniform", "uniform, polished"]
    head = [
        "family",
        "qubits",
        "instances",
        "shots",
        "exact, mixture p=6",
        "p=10",
        "own angles p=10",
    ]
    lines = [
        "## Within 1% of the optimum, share of the instances\n",
        "Measured on the way to the optimum from the mean. `exact`: from the state vector, the "
        "chance of the best of so many samples. `sampled`: one run each, before and after one "
        "greedy pass. Uniform: as many samples, drawn blindly. The table's minimum is the optimum: "
        "who has the table has it for less than the circuit costs.\n",
        *_header([*head, "sampled", "polished", *rivals]),
    ]
    for (family, qubits), found in groups(records, "family", "qubits").items():
        m = shots[qubits]
        cells = [
            chance((r["mixture"]["6"][0] for r in found), m),
            chance((r["mixture"]["10"][0] for r in found), m),
            chance((r["own"]["10"][0] for r in found), m),
            *(
                float(np.mean([r["within"][who] for r in found]))
                for who in ("qaoa", "qaoa, polished", *rivals)
            ),
        ]
        row = " | ".join(f"{100 * c:.1f}%" for c in cells)
        lines.append(f"| {family} | {qubits} | {len(found)} | {m} | {row} |")
    depths = sorted(records[0]["mixture"], key=int)
    largest = max(r["qubits"] for r in records if r["qubits"] <= 16)
    lines += [
        f"\n## By depth, at {largest} qubits, mixture angles\n",
        "P(within 1%) of one sample and P(optimal), means; the energy's approximation ratio, "
        "(worst - energy) / (worst - best).\n",
        *_header(["family", "", *(f"p={p}" for p in depths)]),
    ]
    for (family,), found in groups(
        [r for r in records if r["qubits"] == largest], "family"
    ).items():
        for row_name, column in (("P(1%)", 0), ("P(optimal)", 1), ("ratio", 2)):
            row = " | ".join(
                f"{np.mean([r['mixture'][p][column] for r in found]):.3f}" for p in depths
            )
            lines.append(f"| {family} | {row_name} | {row} |")
    return "\n".join(lines)


def ways_table(records: Sequence[Record]) -> str:
    lines = [
        "## The circuits beside each other, best of 256 samples\n",
        "Blocks of 8 and 12 Gray-coded bits. One-hot with the XY mixer takes twice the qubits for "
        "the same distribution. VQE and refined angles train on the block itself: gradients, "
        "median.\n",
        *_header(
            ["family", "bits", "who", "qubits", "within 1%", "mean sample, σ", "gradients", "ms"]
        ),
    ]
    for (family, block, who), found in groups(records, "family", "block", "who").items():
        lines.append(
            f"| {family} | {block} | {who} | {found[0]['qubits']} "
            f"| {100 * np.mean([r['within'] for r in found]):.0f}% "
            f"| {np.mean([r['mean'] for r in found]):.2f} "
            f"| {statistics.median(r['gradients'] for r in found):.0f} "
            f"| {1e3 * statistics.median(r['seconds'] for r in found):.1f} |"
        )
    return "\n".join(lines)


def transfer_table(records: Sequence[Record]) -> str:
    head = ["family", "p", "shipped: evaluations", "random: evaluations", "ratio"]
    ratios = ["first ratio, shipped", "end ratio, shipped", "end ratio, random"]
    lines = [
        "## Training from random and from shipped angles (10 qubits, energy, L-BFGS)\n",
        "Evaluations of the gradient until the energy is within 0.1% of the higher of the two "
        "end points; medians. The shipped angles were trained for success, not for energy, and on "
        "other instances. Without any training: the first ratio.\n",
        *_header([*head, *ratios]),
    ]

    def middle(found: Sequence[Record], name: str) -> float:
        return float(statistics.median(r[name] for r in found))

    for (family, layers), found in groups(records, "family", "layers").items():
        by = {who[0]: rows for who, rows in groups(found, "start").items()}
        ours, theirs = (middle(by[w], "evaluations_to_level") for w in ("shipped", "random"))
        lines.append(
            f"| {family} | {layers} | {ours:.0f} | {theirs:.0f} | {theirs / ours:.1f} "
            f"| {middle(by['shipped'], 'first_ratio'):.3f} | {middle(by['shipped'], 'ratio'):.3f} "
            f"| {middle(by['random'], 'ratio'):.3f} |"
        )
    return "\n".join(lines)


def speed_table(records: Sequence[Record]) -> str:
    lines = [
        "## Speed, medians of interleaved repetitions, processor time\n",
        "A circuit with its samples, the cost's terms at hand; a decision from the mesh to its "
        "rungs, warm, everything included. QOKit's package brings its Python simulator; its C "
        "one, which needs a build, was not measured.\n",
        *_header(["", "qubits", "p", "who", "ms", "times eigenmesh.qubit"]),
    ]
    for (what, qubits, layers), found in groups(records, "what", "qubits", "layers").items():
        taken = {
            who: statistics.median(r["seconds"] for r in rows)
            for (who,), rows in groups(found, "who").items()
        }
        base = next(t for who, t in taken.items() if "eigenmesh.qubit" in who)
        for who, seconds in taken.items():
            lines.append(
                f"| {what} | {qubits} | {layers} | {who} | {1e3 * seconds:.1f} "
                f"| {seconds / base:.2f} |"
            )
    return "\n".join(lines)


def _header(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", "|---" * len(cells) + "|"]


def plot(document: Mapping[str, Any], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "eigenmesh"
    from matplotlib import pyplot

    records = document["quality"]
    shots = {int(n): count for n, count in document["shots"].items()}
    largest = max(r["qubits"] for r in records if r["qubits"] <= 16)
    shown = groups([r for r in records if r["qubits"] == largest], "family")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for (family,), found in shown.items():
        depths = sorted(found[0]["mixture"], key=int)
        layers = [int(p) for p in depths]
        success = [chance((r["mixture"][p][0] for r in found), shots[largest]) for p in depths]
        left.plot(layers, success, marker="o", label=FAMILY_NAMES[family])
        ratio = [np.mean([r["mixture"][p][2] for r in found]) for p in depths]
        right.plot(layers, ratio, marker="o", label=family)
    left.set(
        xlabel="layers p",
        ylabel=f"best of {shots[largest]} samples within 1%",
        title=f"{largest} qubits, shipped mixture angles",
        ylim=(0, 1.02),
    )
    right.set(xlabel="layers p", ylabel="approximation ratio of the energy", title="energy")
    left.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value
