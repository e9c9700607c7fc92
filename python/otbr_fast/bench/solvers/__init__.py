"""The contestants; their libraries are imported only in the process that runs them."""

from otbr_fast.bench.solvers.base import Run, Setting, Solver, SolverError, Task
from otbr_fast.bench.solvers.distances import DISTANCES
from otbr_fast.bench.solvers.entropic import ENTROPIC
from otbr_fast.bench.solvers.exact import EXACT

OURS = "otbr_fast"
"""The name, in each task, of the one that the others are compared with."""

SOLVERS: tuple[Solver, ...] = (*EXACT, *ENTROPIC, *DISTANCES)
"""All contestants of all tasks."""


def find_solver(task: Task, name: str) -> Solver:
    """Return a contestant by its task and name."""
    return next(solver for solver in SOLVERS if (solver.task, solver.name) == (task, name))


__all__ = ["OURS", "SOLVERS", "Run", "Setting", "Solver", "SolverError", "Task", "find_solver"]
