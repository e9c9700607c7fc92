"""Distances between the rows of two matrices."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from otbr_fast import _core
from otbr_fast.ot.arrays import count, like, matrix

Metric = Literal["euclidean", "sqeuclidean", "cosine"]


def cost_matrix(
    X: Any, Y: Any = None, metric: Metric = "euclidean", *, n_threads: int | None = None
) -> Any:
    """Distances between all rows of X and all rows of Y.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n, d)
    Y : array-like or torch.Tensor, shape (m, d), optional
        X itself by default, which takes half the work.
    metric : {"euclidean", "sqeuclidean", "cosine"}
        Cosine is 1 - <x, y> / (|x| |y|).
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Returns
    -------
    array or tensor, shape (n, m)
        float32 if both inputs are (or are half precision), else float64.

    Notes
    -----
    Equal rows have distance exactly 0. With u the unit roundoff of the element type, the relative
    error of a squared distance is at most 16 (d + 8) u, and about u where |x - y|^2 is below
    (|x|^2 + |y|^2) / 16: nearly equal rows are subtracted in float64, not expanded. With up to 16
    components all rows are subtracted, which gives (d + 8) u (but for "cosine"). Differences below
    1e-150 of the largest entry count as 0. Under "cosine" all this holds of rows that were divided
    by their norms; rounding of these adds about u times the square root of the distance.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN or infinity, a zero row under "cosine", values so large or
        small that their distances leave the range of the element type.
    """
    sources = (X,) if Y is None else (X, Y)
    X = matrix(X, "X")
    Y = None if Y is None else matrix(Y, "Y")
    if Y is not None and X.dtype != Y.dtype:
        X, Y = X.astype(np.float64), Y.astype(np.float64)
    n_threads = count(n_threads, "n_threads", None)
    shape = (len(X), len(X if Y is None else Y))
    out = np.empty(shape, X.dtype)  # numpy asks for large pages, which fill faster
    _core.cost_matrix(X, Y, metric, n_threads, out)
    return like(out, sources)
