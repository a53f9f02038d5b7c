"""From demands and learned curves to a plan: one objective, several solvers, the best plan wins.

`problem` is what comes in and goes out, `objective` the one number everything is judged by,
`circuits` the PennyLane solvers, `classical` their rivals, `portfolio` the comparison, `worker`
the process it all runs in. Importing this package never imports PennyLane or scipy: both are
loaded where they are used, in the worker.
"""

from eigenmesh.optimize.problem import CircuitSettings, Problem, Solution, Solver
from eigenmesh.optimize.worker import SolverError, Worker

__all__ = [
    "CircuitSettings",
    "Problem",
    "Solution",
    "Solver",
    "SolverError",
    "Worker",
]
