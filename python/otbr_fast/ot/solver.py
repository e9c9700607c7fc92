"""One call for exact and entropic problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from otbr_fast import _core
from otbr_fast.ot.arrays import (
    NO_LIMIT,
    Matrix,
    Vector,
    any_tensor,
    as_tensor,
    constant,
    count,
    like,
    masses,
    matrix,
    number,
    requires_grad,
    to_numpy,
)
from otbr_fast.ot.result import Certificate, Entries, Hint, OTResult

_DEFAULT_PASSES = 10_000


def solve(
    M: Any,
    a: Any = None,
    b: Any = None,
    reg: float | None = None,
    *,
    numItermax: int | None = None,
    stopThr: float = 1e-9,
    time_limit: float | None = None,
    metric: bool = False,
    warmstart: OTResult | tuple[Any, Any] | None = None,
    callback: Callable[[int], object] | None = None,
    n_threads: int | None = None,
) -> OTResult:
    """Solve min <P, M> [+ reg sum P (log P - 1)] over P >= 0 with P 1 = a, P^T 1 = b.

    Exact problems go to a network simplex on integer masses, on a sparse core where M is large;
    every result carries a proof.
    Entropic ones go to Sinkhorn's iteration and Newton steps on its dual, along a path of
    regularisations from a large one.

    Parameters
    ----------
    M : array-like or torch.Tensor, shape (n, m)
        Cost, finite; in exact problems +inf forbids a cell (and M is copied then). float32 is used
        as it is, without a float64 copy.
    a, b : array-like, shapes (n,) and (m,), optional
        Masses, not negative, with equal sums to a relative 1e-6 (b is scaled to the sum of a).
        Uniform by default.
    reg : float, optional
        Entropic regularisation in units of the cost; None for an exact solution.
    numItermax : int, optional
        Most pivots (exact, no limit by default) or passes over M (entropic, 10,000). A pass over
        a part of the plan counts as that part.
    stopThr : float
        Entropic: L2 error of the column marginals, relative to the mass, at which to stop.
    time_limit : float, optional
        Exact: seconds after which to return the best plan so far, with the gap that is left. What
        comes before the first pivot is not cut short.
    metric : bool
        Exact: promise that M holds the distances of a metric (Euclidean ones, say; squares are
        none), so that masses at the same point stay there and equal rows are one. Much quicker
        where many points are shared. A promise not kept costs time, never the optimum.
    warmstart : OTResult or (array-like, array-like), optional
        An earlier result of a problem like this one, of the same shape, with other costs or other
        masses, or its potentials (u, v). A hint: the result is as good without.
    callback : callable, optional
        Exact: called with the number of pivots done, about 20 times a second. What it raises ends
        the call.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Raises
    ------
    ValueError
        NaN, infinite or out-of-range costs or masses, shapes or sums that do not fit, masses that
        have no way around forbidden cells.
    KeyboardInterrupt
        Ctrl-C stops the solver.

    Notes
    -----
    If M, a or b is a tensor that requires a gradient, ``value`` and ``objective`` are tensors with
    gradients; the plan and the potentials have none. Those of the exact cost and of the entropic
    objective are P, u and v (the latter up to a constant, such that <b, db> = 0, as b is scaled to
    the sum of a). The entropic ``value`` <P, M> is another function: its gradient takes a dense
    linear system of m unknowns on the way back. None can be differentiated twice.

    References
    ----------
    Peyré and Cuturi, Computational Optimal Transport, 2019, chapters 3 and 4.
    """
    sources = (M, a, b)
    tensors = any_tensor(sources)
    if reg is not None:
        reg = number(reg, "reg")
    if tensors and any(map(requires_grad, sources)):
        from otbr_fast.ot.autograd import with_gradients

        result = solve(
            constant(M),
            constant(a),
            constant(b),
            reg,
            numItermax=numItermax,
            stopThr=stopThr,
            time_limit=time_limit,
            metric=metric,
            warmstart=warmstart,
            callback=callback,
            n_threads=n_threads,
        )
        return with_gradients(result, M, a, b)
    cost = matrix(M, "M")
    a = masses(a, "a", cost.shape[0])
    b = masses(b, "b", cost.shape[1])
    n_threads = count(n_threads, "n_threads", None)
    if reg is not None:
        if time_limit is not None or metric or callback is not None:
            raise ValueError(
                "time_limit, metric and callback are for exact problems; leave them or reg out"
            )
        limit = count(numItermax, "numItermax", _DEFAULT_PASSES)
        start = warmstart.potentials if isinstance(warmstart, OTResult) else warmstart
        return _entropic(cost, a, b, reg, limit, stopThr, start, n_threads, sources)
    solution = _core.solve_exact(
        cost,
        a,
        b,
        count(numItermax, "numItermax", NO_LIMIT),
        n_threads,
        time_limit=time_limit,
        metric=metric,
        start=start_from(warmstart),
        callback=callback,
    )
    return exact_result(solution, cost.shape, tensors)


def start_from(warmstart: OTResult | tuple[Any, Any] | None) -> Hint | None:
    """Potentials of the columns, and a core and a basis where they are known."""
    if warmstart is None:
        return None
    if isinstance(warmstart, OTResult):
        if warmstart._hint is not None:
            return warmstart._hint
        warmstart = warmstart.potentials
    # Potentials of the rows follow from those of the columns.
    nothing = np.empty(0, dtype=np.uint32)
    return _column_potentials(warmstart), nothing, nothing, nothing, nothing


def _column_potentials(warmstart: tuple[Any, Any]) -> Vector:
    v = to_numpy(warmstart[1], "warmstart")
    if v.ndim != 1:
        raise ValueError(f"warmstart[1] has shape {v.shape}; a vector of potentials is needed")
    return np.ascontiguousarray(v, dtype=np.float64)


def exact_result(solution: _core.ExactSolution, shape: tuple[int, int], tensors: bool) -> OTResult:
    """Give an exact solution the form of a result, with tensors if they are wanted."""
    u, v = solution.u, solution.v
    return OTResult._made(
        value=solution.value,
        objective=solution.value,
        potentials=(as_tensor(u), as_tensor(v)) if tensors else (u, v),
        status=solution.status,
        n_iter=solution.n_iter,
        certificate=Certificate(
            solution.duality_gap, solution.worst_reduced_cost, solution.marginal_error
        ),
        reg=None,
        errors=None,
        _plan=Entries(solution.rows, solution.cols, solution.masses, shape),
        _tensors=tensors,
        _hint=_hint(solution) if solution.has_hint else None,
    )


def _hint(solution: _core.ExactSolution) -> Hint:
    return (
        solution.hint_v,
        solution.core_rows,
        solution.core_cols,
        solution.basis_rows,
        solution.basis_cols,
    )


def _entropic(
    cost: Matrix,
    a: Vector,
    b: Vector,
    reg: float,
    limit: int,
    stopThr: float,
    warmstart: tuple[Any, Any] | None,
    n_threads: int | None,
    sources: tuple[Any, ...],
) -> OTResult:
    # The first half of an iteration finds u from v, so v is all that a start needs.
    start = None if warmstart is None else _column_potentials(warmstart)
    # The plan is made now, since the cost belongs to the caller, who may change it.
    plan = np.empty_like(cost)
    solution = _core.solve_entropic(cost, a, b, reg, limit, stopThr, start, n_threads, plan)
    dual = _mean(solution.f, a) + _mean(solution.g, b * (a.sum() / b.sum()))
    return OTResult(
        value=solution.value,
        objective=dual - reg * float(a.sum()),  # the rows of the plan sum to a
        potentials=(like(solution.f, sources), like(solution.g, sources)),
        status="converged" if solution.converged else "iteration_limit",
        n_iter=solution.n_iter,
        certificate=Certificate(solution.duality_gap, None, solution.marginal_error),
        reg=reg,
        errors=solution.errors,
        _plan=plan,
        _tensors=any_tensor(sources),
    )


def _mean(potential: Vector, mass: Vector) -> float:
    """<potential, mass>, where -inf belongs to no mass."""
    return float(mass @ np.where(mass > 0, potential, 0.0))
