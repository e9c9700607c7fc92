"""Solvers of exact transport: each returns the cost of an optimal plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from otbr_fast.bench.problem import Problem
from otbr_fast.bench.solvers.base import Run, Setting, Solver, SolverError, pot_environment

_NO_LIMIT = 10**9  # POT's default of 100,000 pivots cuts plans short
_LP_ENTRIES = 256 * 256


def _ours(problem: Problem, setting: Setting) -> Run:
    from otbr_fast import ot

    # Whoever fuses networks knows that rows are shared, and says so.
    metric = problem.metric == "euclidean" and problem.shares_points

    def run(effort: float) -> float:
        result = ot.solve(problem.M, problem.a, problem.b, metric=metric, n_threads=setting.threads)
        if result.status != "optimal":
            gap = result.certificate.duality_gap
            raise SolverError(f"its plan is not proven optimal: {result.status}, gap {gap:.1e}")
        return float(result.value)

    return run


def _pot(problem: Problem, setting: Setting) -> Run:
    import ot

    def run(effort: float) -> float:
        return float(ot.emd2(problem.a, problem.b, problem.M, numItermax=_NO_LIMIT))

    return run


def _sparse_ot(problem: Problem, setting: Setting) -> Run:
    import sparse_ot

    def run(effort: float) -> float:
        return float(sparse_ot.emd2(problem.a, problem.b, problem.M, numItermax=_NO_LIMIT))

    return run


def _scipy_assignment(problem: Problem, setting: Setting) -> Run:
    from scipy.optimize import linear_sum_assignment

    M = problem.cost()

    def run(effort: float) -> float:
        pairs = linear_sum_assignment(M)
        return float(M[pairs].mean(dtype=np.float64))

    return run


def _lapx(problem: Problem, setting: Setting) -> Run:
    import lap

    M = problem.cost()

    def run(effort: float) -> float:
        columns, _ = lap.lapjv(M, return_cost=False)
        return float(M[np.arange(len(M)), columns].mean(dtype=np.float64))

    return run


def _highs(problem: Problem, setting: Setting) -> Run:
    from scipy import sparse
    from scipy.optimize import linprog

    M = problem.cost()
    n, m = problem.shape
    rows = sparse.kron(sparse.eye_array(n), np.ones((1, m)))
    columns = sparse.kron(np.ones((1, n)), sparse.eye_array(m))
    A: Any = sparse.csr_array(sparse.vstack([rows, columns]))
    b = np.concatenate([problem.a, problem.b])

    def run(effort: float) -> float:
        found = linprog(M.ravel(), A_eq=A, b_eq=b, method="highs")
        if found.fun is None or found.status != 0:
            raise SolverError(f"linprog: {found.message}")
        return found.fun

    return run


def _unless_assignment(problem: Problem) -> str | None:
    return None if problem.is_uniform_square else "for uniform masses and as many rows as columns"


def _unless_tiny(problem: Problem) -> str | None:
    n, m = problem.shape
    if problem.a.ndim == 1 and n * m <= _LP_ENTRIES:
        return None
    return f"a general solver, for single problems of up to {_LP_ENTRIES:,} entries here"


EXACT = (
    Solver("otbr_fast", "otbr_fast", "exact", "otbr_fast", "otbr-fast", _ours),
    Solver("pot", "POT", "exact", "ot", "POT", _pot, environment=pot_environment()),
    Solver("pot-old", "POT, old", "exact", "ot", "POT", _pot, environment=pot_environment()),
    Solver("sparse-ot", "sparse-ot", "exact", "sparse_ot", "sparse-ot", _sparse_ot),
    Solver(
        "scipy-assignment",
        "scipy assignment",
        "exact",
        "scipy",
        "scipy",
        _scipy_assignment,
        _unless_assignment,
    ),
    Solver("lapx", "lapx", "exact", "lap", "lapx", _lapx, _unless_assignment),
    Solver("highs", "scipy HiGHS", "exact", "scipy", "scipy", _highs, _unless_tiny),
)
