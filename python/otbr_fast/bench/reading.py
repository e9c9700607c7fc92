"""What a contestant's result is worth: one judge for all, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from otbr_fast.bench.problem import Array, Problem
from otbr_fast.bench.solvers.base import Task

_ROWS = 32  # of a matrix of distances that are checked
_BLOCK = 256  # rows that are copied to float64 at once


def read(task: Task, problem: Problem, results: Sequence[Any]) -> tuple[float, float | None]:
    """Return a result's value, which all must agree on, and its error, smaller being better.

    Parameters
    ----------
    task : {"exact", "entropic", "distances"}
        Value and error are the cost and None; the plan's cost <P, M>, and the L1 distance of its
        marginals from a and b; the mean distance, and the largest error of `_ROWS` rows relative
        to the largest distance.
    problem : Problem
        What was solved.
    results : sequence
        What the calls returned: one each for the problems of a stack.
    """
    if task == "exact":
        return float(np.mean(results)), None
    matrix = np.asarray(results[0])
    if task == "entropic":
        return plan_cost(matrix, problem.cost()), marginal_error(matrix, problem.a, problem.b)
    return float(matrix.mean(dtype=np.float64)), _distance_error(matrix, *problem.points())


def marginal_error(plan: Array, a: Array, b: Array) -> float:
    """Return the L1 distance of a plan's marginals from a and b, summed in float64."""
    rows = plan.sum(axis=1, dtype=np.float64)
    columns = plan.sum(axis=0, dtype=np.float64)
    return float(np.abs(rows - a).sum() + np.abs(columns - b).sum())


def plan_cost(plan: Array, M: Array) -> float:
    """Return <P, M>, summed in float64."""
    starts = range(0, len(M), _BLOCK)
    blocks = ((plan[i : i + _BLOCK], M[i : i + _BLOCK]) for i in starts)
    return float(sum(np.vdot(P.astype(np.float64), C.astype(np.float64)) for P, C in blocks))


def _distance_error(D: Array, X: Array, Y: Array) -> float:
    from scipy.spatial.distance import cdist

    rows = np.linspace(0, len(X) - 1, min(_ROWS, len(X))).astype(int)
    exact = cdist(X[rows].astype(np.float64), Y.astype(np.float64))
    return float(np.abs(D[rows] - exact).max() / exact.max())
