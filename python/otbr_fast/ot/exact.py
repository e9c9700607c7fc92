"""What `emd` and `emd2` share: arguments to arrays, a solution to what POT returns."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from otbr_fast import _core
from otbr_fast.ot.arrays import (
    NO_LIMIT,
    Matrix,
    Vector,
    as_given,
    as_tensor,
    constant,
    count,
    is_tensor,
    masses,
    matrix,
    number_as_given,
    requires_grad,
)
from otbr_fast.ot.result import dense_matrix
from otbr_fast.ot.solver import start_from
from otbr_fast.ot.sparse import Edges


def cost_and_masses(M: Any, edges: Edges | None, a: Any) -> tuple[Matrix, Vector]:
    """Check M and a; a sparse M becomes a dense one."""
    cost = matrix(constant(M), "M") if edges is None else edges.dense()
    return cost, masses(constant(a), "a", cost.shape[0])


def other_masses(b: Any, cost: Matrix, a: Vector, check_marginals: bool) -> Vector:
    """Check b; without a check of the sums it is scaled to that of a."""
    given = masses(constant(b), "b", cost.shape[1])
    if not check_marginals and given.sum() > 0:
        given = given * float(a.sum() / given.sum())
    return given


def solve_exact(
    cost: Matrix,
    a: Vector,
    b: Vector,
    numItermax: int | None,
    numThreads: int | Literal["max"],
    potentials_init: tuple[Any, Any] | None = None,
) -> _core.ExactSolution:
    """Solve, and warn the caller of the caller where the plan is not proven optimal."""
    limit = count(numItermax, "numItermax", NO_LIMIT)
    n_threads = None if numThreads == "max" else count(numThreads, "numThreads", None)
    start = start_from(potentials_init)
    solution = _core.solve_exact(cost, a, b, limit, n_threads, start=start)
    if solution.status != "optimal":
        warnings.warn(_not_optimal(solution), stacklevel=3)
    return solution


def _not_optimal(solution: _core.ExactSolution) -> str:
    limited = solution.status == "iteration_limit"
    what = "numItermax reached" if limited else "the plan is not proven optimal, please report"
    remedy = "; increase numItermax." if limited else "."
    return (
        f"{what} after {solution.n_iter} pivots: the cost {solution.value} is above the optimum by "
        f"at most {solution.duality_gap}{remedy}"
    )


def plan_as_given(solution: _core.ExactSolution, edges: Edges | None, *sources: Any) -> Any:
    """Make the plan, in the kind of the sources."""
    return as_given(_dense(solution), *sources) if edges is None else edges.plan(solution, *sources)


def _dense(solution: _core.ExactSolution) -> NDArray[np.float64]:
    shape = (len(solution.u), len(solution.v))
    return dense_matrix(solution.rows, solution.cols, solution.masses, shape)


def exact_cost(solution: _core.ExactSolution, edges: Edges | None) -> float:
    """Return <P, M>."""
    return solution.value if edges is None else edges.value(solution)


def value_as_given(
    solution: _core.ExactSolution, edges: Edges | None, a: Any, b: Any, M: Any
) -> Any:
    """Make the cost, in the kind of the sources, with its gradients."""
    value = number_as_given(exact_cost(solution, edges), a, b, M)
    if not is_tensor(value) or not any(map(requires_grad, (a, b, M))):
        return value
    from otbr_fast.ot.autograd import with_centred_gradients

    def plan() -> Any:
        return as_tensor(_dense(solution)) if edges is None else edges.gradient(solution)

    u, v = as_tensor(solution.u.copy()), as_tensor(solution.v.copy())  # the log may share them
    return with_centred_gradients(value, plan, u, v, M, a, b)


def log_as_given(
    solution: _core.ExactSolution,
    a: Vector,
    b: Vector,
    center_dual: bool,
    sources: tuple[Any, ...],
) -> dict[str, Any]:
    """Make what POT logs, but for the cost, in the kind of the sources."""
    u, v = solution.u, solution.v
    if center_dual:
        shift = (b @ v - a @ u) / (a.sum() + b.sum())
        u, v = u + shift, v - shift
    optimal = solution.status == "optimal"
    return {
        "u": as_given(u, *sources),
        "v": as_given(v, *sources),
        "warning": None if optimal else _not_optimal(solution),
        "result_code": 1 if optimal else 3,
    }
