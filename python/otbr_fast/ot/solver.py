"""One call for exact and entropic problems."""

from __future__ import annotations

from typing import Any

import numpy as np

from otbr_fast import _core
from otbr_fast.ot.arrays import (
    Matrix,
    Vector,
    count,
    is_tensor,
    like,
    masses,
    matrix,
    to_numpy,
)
from otbr_fast.ot.result import Certificate, Entries, OTResult

_NO_LIMIT = 2**63
_DEFAULT_PASSES = 10_000


def solve(
    M: Any,
    a: Any = None,
    b: Any = None,
    reg: float | None = None,
    *,
    numItermax: int | None = None,
    stopThr: float = 1e-9,
    warmstart: tuple[Any, Any] | None = None,
    n_threads: int | None = None,
) -> OTResult:
    """Solve min <P, M> [+ reg sum P (log P - 1)] over P >= 0 with P 1 = a, P^T 1 = b.

    Exact problems go to a network simplex on integer masses; every result carries a proof.
    Entropic ones go to Sinkhorn's iteration and Newton steps on its dual, along a path of
    regularisations from a large one.

    Parameters
    ----------
    M : array-like or torch.Tensor, shape (n, m)
        Cost, finite. float32 is used as it is, without a float64 copy.
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
    warmstart : (array-like, array-like), optional
        Entropic: potentials (u, v) from an earlier result.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Raises
    ------
    ValueError
        NaN, infinite or out-of-range costs or masses, shapes or sums that do not fit.
    KeyboardInterrupt
        Ctrl-C stops the solver.

    References
    ----------
    Peyré and Cuturi, Computational Optimal Transport, 2019, chapters 3 and 4.
    """
    sources = (M, a, b)
    cost = matrix(M, "M")
    a = masses(a, "a", cost.shape[0])
    b = masses(b, "b", cost.shape[1])
    n_threads = count(n_threads, "n_threads", None)
    if reg is not None:
        limit = count(numItermax, "numItermax", _DEFAULT_PASSES)
        threshold = stopThr * a.sum()
        return _entropic(cost, a, b, reg, limit, threshold, warmstart, n_threads, sources)
    if warmstart is not None:
        raise ValueError("warmstart is for entropic problems; give reg too, or leave it out")
    limit = count(numItermax, "numItermax", _NO_LIMIT)
    return _exact(cost, a, b, limit, n_threads, sources)


def _exact(
    cost: Matrix, a: Vector, b: Vector, limit: int, n_threads: int | None, sources: tuple[Any, ...]
) -> OTResult:
    solution = _core.solve_exact(cost, a, b, limit, n_threads)
    shape = (cost.shape[0], cost.shape[1])
    return OTResult(
        value=solution.value,
        potentials=(like(solution.u, sources), like(solution.v, sources)),
        status=solution.status,
        n_iter=solution.n_iter,
        certificate=Certificate(
            solution.duality_gap, solution.worst_reduced_cost, solution.marginal_error
        ),
        reg=None,
        errors=None,
        _plan=Entries(solution.rows, solution.cols, solution.masses, shape),
        _tensors=any(is_tensor(x) for x in sources),
    )


def _entropic(
    cost: Matrix,
    a: Vector,
    b: Vector,
    reg: float,
    limit: int,
    threshold: float,
    warmstart: tuple[Any, Any] | None,
    n_threads: int | None,
    sources: tuple[Any, ...],
) -> OTResult:
    # The first half of an iteration finds u from v, so v is all that a start needs.
    start = None if warmstart is None else to_numpy(warmstart[1], "warmstart")
    if start is not None:
        start = np.ascontiguousarray(start, dtype=np.float64)
    # The plan is made now, since the cost belongs to the caller, who may change it.
    solution, plan = _core.solve_entropic_plan(
        cost, a, b, reg, limit, threshold, start, n_threads
    )
    return OTResult(
        value=solution.value,
        potentials=(like(solution.f, sources), like(solution.g, sources)),
        status="converged" if solution.converged else "iteration_limit",
        n_iter=solution.n_iter,
        certificate=Certificate(solution.duality_gap, None, solution.marginal_error),
        reg=reg,
        errors=solution.errors,
        _plan=plan,
        _tensors=any(is_tensor(x) for x in sources),
    )
