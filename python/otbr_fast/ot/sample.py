"""Exact transport between points, without their matrix of distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from otbr_fast import _core
from otbr_fast.ot.arrays import (
    NO_LIMIT,
    any_tensor,
    constant,
    count,
    masses,
    matrix,
    requires_grad,
)
from otbr_fast.ot.distances import Metric, cost_matrix
from otbr_fast.ot.result import OTResult
from otbr_fast.ot.solver import exact_result, solve, start_from

# Above this computing a distance anew takes longer than reading it.
_LARGEST_DIMENSION = 16


def solve_sample(
    X: Any,
    Y: Any,
    a: Any = None,
    b: Any = None,
    metric: Metric = "euclidean",
    *,
    numItermax: int | None = None,
    time_limit: float | None = None,
    warmstart: OTResult | tuple[Any, Any] | None = None,
    callback: Callable[[int], object] | None = None,
    n_threads: int | None = None,
) -> OTResult:
    """Solve the exact transport problem between the rows of X and the rows of Y.

    In at most 16 dimensions distances are computed, in float64, when they are needed; memory
    grows with n + m and, slowly, with n m / 64. Above, their matrix is made first.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n, d)
    Y : array-like or torch.Tensor, shape (m, d)
    a, b : array-like, shapes (n,) and (m,), optional
        Masses, not negative, with equal sums to a relative 1e-6. Uniform by default.
    metric : {"euclidean", "sqeuclidean", "cosine"}
        As in `cost_matrix`.
    numItermax, time_limit, warmstart, callback, n_threads
        As in `solve`.

    Returns
    -------
    OTResult
        The certificate is computed from all n m distances, or from bounds on them. No gradients.

    Raises
    ------
    ValueError
        NaN or infinity, points of different dimensions, a zero row under "cosine", distances
        outside the range of float64, masses that `solve` refuses.
    """
    sources = (X, Y, a, b)
    if any(map(requires_grad, sources)):
        raise ValueError("solve_sample gives no gradients; use solve(cost, ...) or detach()")
    x, y = matrix(constant(X), "X"), matrix(constant(Y), "Y")
    if x.shape[1] > _LARGEST_DIMENSION:
        return solve(
            cost_matrix(X, Y, metric, n_threads=n_threads),
            a,
            b,
            numItermax=numItermax,
            time_limit=time_limit,
            metric=metric == "euclidean",
            warmstart=warmstart,
            callback=callback,
            n_threads=n_threads,
        )
    solution = _core.solve_points(
        x.astype(np.float64, copy=False),
        y.astype(np.float64, copy=False),
        masses(a, "a", x.shape[0]),
        masses(b, "b", y.shape[0]),
        metric,
        count(numItermax, "numItermax", NO_LIMIT),
        count(n_threads, "n_threads", None),
        time_limit=time_limit,
        start=start_from(warmstart),
        callback=callback,
    )
    return exact_result(solution, (x.shape[0], y.shape[0]), any_tensor(sources))
