"""PennyLane takes seconds to import: never in the process that serves xDS."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import eigenmesh.optimize
import eigenmesh.optimize.portfolio
import eigenmesh.optimize.angles, eigenmesh.optimize.training, eigenmesh.optimize.decomposition
import eigenmesh.optimize.classical.rungs, eigenmesh.optimize.classical.weights
heavy = {"pennylane", "scipy", "pennylane_lightning"} & {n.split(".")[0] for n in sys.modules}
print(sorted(heavy))
"""

CLASSICAL = """
import sys
from eigenmesh.mesh import Cluster, LatencyCurve, Plan, Route, Topology
from eigenmesh.optimize import Problem
from eigenmesh.optimize.portfolio import solve
topology = Topology((Cluster("a"), Cluster("b")), (Route("r", ("a", "b")),))
curves = {"a": LatencyCurve(0.01, 200.0), "b": LatencyCurve(0.02, 100.0)}
solve(Problem(topology, {"r": 150.0}, curves, Plan.equal(topology), solver="classical"))
print("pennylane" in sys.modules)
"""


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_the_parent_imports_neither_pennylane_nor_scipy() -> None:
    assert run(SCRIPT) == "[]"


def test_the_classical_solver_runs_without_pennylane() -> None:
    assert run(CLASSICAL) == "False"
