"""POT's `emd`, `emd2`, `sinkhorn` and `sinkhorn2`: the same arguments, returns and log keys.

What differs is in docs/pot-migration.md. Above all: `numItermax` of the exact solvers has no limit
by default, so no plan is cut short unasked; a float32 cost is not copied to float64; a problem that
is not finite is refused.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from otbr_fast.ot.arrays import (
    as_given,
    constant,
    is_tensor,
    like,
    number,
    number_as_given,
    refuse_gradient,
    stacked,
    to_numpy,
)
from otbr_fast.ot.exact import (
    cost_and_masses,
    exact_cost,
    log_as_given,
    other_masses,
    plan_as_given,
    solve_exact,
    value_as_given,
)
from otbr_fast.ot.result import OTResult
from otbr_fast.ot.solver import solve
from otbr_fast.ot.sparse import sparse_edges
from otbr_fast.ot.telling import log_errors, warn_of_limit

_SINKHORN_METHODS = (
    "sinkhorn",
    "sinkhorn_log",
    "greenkhorn",
    "sinkhorn_stabilized",
    "sinkhorn_epsilon_scaling",
)


def emd(
    a: Any,
    b: Any,
    M: Any,
    numItermax: int | None = None,
    log: bool = False,
    center_dual: bool = True,
    numThreads: int | Literal["max"] = 1,
    check_marginals: bool = True,
    potentials_init: tuple[Any, Any] | None = None,
) -> Any:
    """Exact optimal transport plan, as POT's ``ot.emd``.

    Parameters
    ----------
    a, b : array-like, shapes (n,) and (m,)
        Masses; uniform where the list is empty or None.
    M : array-like or sparse, shape (n, m)
        Cost. A sparse scipy array or torch tensor gives it for some pairs only, and the others
        carry no mass; memory is that of a dense float64 one all the same.
    numItermax : int, optional
        Most pivots; no limit by default. A plan cut short comes with a warning and
        ``result_code`` 3.
    log : bool
        Return a dict too: ``cost``, ``u``, ``v``, ``warning``, ``result_code`` (1: optimal).
    center_dual : bool
        Shift the potentials so that <a, u> = <b, v>.
    numThreads : int or "max"
        Threads for the passes over M. The result does not depend on it.
    check_marginals : bool
        Refuse sums of a and b that differ by more than a relative 1e-6; otherwise b is scaled.
    potentials_init : (array-like, array-like), optional
        Potentials (u, v) to start from, of a similar problem; they change the time, not the result.

    Returns
    -------
    array or tensor, shape (n, m)
        In the dtype of a, else b, else M, if that is a floating one; sparse if M is. A tensor has
        no gradient, as in POT; `emd2` has that of the cost.

    Raises
    ------
    ValueError
        As `solve`; edges of a sparse M that cannot carry the masses.
    """
    edges = sparse_edges(M)
    cost, a_masses = cost_and_masses(M, edges, a)
    b_masses = other_masses(b, cost, a_masses, check_marginals)
    solution = solve_exact(cost, a_masses, b_masses, numItermax, numThreads, potentials_init)
    plan = plan_as_given(solution, edges, a, b, M)
    if not log:
        return plan
    entries = log_as_given(solution, a_masses, b_masses, center_dual, (a, b, M))
    return plan, {"cost": exact_cost(solution, edges), **entries}


def emd2(
    a: Any,
    b: Any,
    M: Any,
    processes: int = 1,
    numItermax: int | None = None,
    log: bool = False,
    return_matrix: bool = False,
    center_dual: bool = True,
    numThreads: int | Literal["max"] = 1,
    check_marginals: bool = True,
    potentials_init: tuple[Any, Any] | None = None,
) -> Any:
    """Exact optimal transport cost, as POT's ``ot.emd2``.

    Parameters are those of `emd`, and:

    Parameters
    ----------
    b : array-like, shape (m,) or (m, k)
        With k columns, k problems are solved that share a and M.
    processes : int
        Taken for POT's sake: the problems are solved one after the other, each on `numThreads`.
    return_matrix : bool
        Put the plan into the log as ``G``.

    Returns
    -------
    number, or with `log` or `return_matrix` a number and its log
        A list of k of these for k columns. In the dtype of a, else b, else M, if that is a floating
        one. As a tensor it has gradients: the plan for M, and the potentials u and v without their
        means, as in POT, for a and b.
    """
    edges = sparse_edges(M)
    cost, a_masses = cost_and_masses(M, edges, a)
    columns = _columns(b)
    answers: list[Any] = []
    for column in [b] if columns is None else columns:
        b_masses = other_masses(column, cost, a_masses, check_marginals)
        solution = solve_exact(cost, a_masses, b_masses, numItermax, numThreads, potentials_init)
        value = value_as_given(solution, edges, a, column, M)
        if not (log or return_matrix):
            answers.append(value)
            continue
        entries = log_as_given(solution, a_masses, b_masses, center_dual, (a, b, M))
        if return_matrix:
            entries["G"] = plan_as_given(solution, edges, a, b, M)
        answers.append((value, {"cost": value, **entries}))
    return answers[0] if columns is None else answers


def sinkhorn(
    a: Any,
    b: Any,
    M: Any,
    reg: float,
    method: str = "sinkhorn",
    numItermax: int = 1000,
    stopThr: float = 1e-9,
    verbose: bool = False,
    log: bool = False,
    warn: bool = True,
    warmstart: tuple[Any, Any] | None = None,
    n_threads: int | None = None,
) -> Any:
    """Entropic optimal transport plan, as POT's ``ot.sinkhorn``.

    One stabilised algorithm, Sinkhorn's iteration with Newton steps on its dual, serves every
    method name, so no `reg` underflows and small ones converge.

    Parameters
    ----------
    a : array-like, shape (n,)
        Masses; uniform where the list is empty or None.
    b : array-like, shape (m,) or (m, k)
        With k columns, k problems are solved that share a and M, and their costs are returned.
    M : array-like, shape (n, m)
        Cost.
    reg : float
        Entropic regularisation > 0, in units of the cost.
    method : str
        "sinkhorn", "sinkhorn_log", "greenkhorn", "sinkhorn_stabilized" or
        "sinkhorn_epsilon_scaling".
    numItermax : int
        Most passes over M, or over a plan of its size, those at larger `reg` on the way included.
    stopThr : float
        L2 error of the column marginals at which to stop.
    verbose : bool
        Log the errors at level INFO to the logger ``otbr_fast.ot``.
    log : bool
        Return a dict too: ``err``, ``niter``, ``u``, ``v`` (scalings), ``log_u``, ``log_v`` and
        ``warmstart``. For several b, scalings have k columns, ``err`` and ``niter`` k items.
    warn : bool
        Warn when stopThr is not reached.
    warmstart : (array-like, array-like), optional
        Logarithms of the scalings, as in ``log["warmstart"]``; with or without k columns for
        several b.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Returns
    -------
    array or tensor, shape (n, m), in the dtype of M; for several b the costs, shape (k,)

    Raises
    ------
    ValueError
        As `solve`; a method of another algorithm.
    """
    if _columns(b) is not None:
        return sinkhorn2(
            a, b, M, reg, method, numItermax, stopThr, verbose, log, warn, warmstart, n_threads
        )
    for name, x in (("a", a), ("b", b), ("M", M)):
        refuse_gradient(x, name)
    options = (method, numItermax, stopThr, verbose, warn, warmstart, n_threads)
    result = _solve_entropic(a, b, M, reg, *options)
    plan = as_given(np.asarray(result.dense_plan()), M, a, b)
    return (plan, _entropic_log(result, reg, (a, b, M))) if log else plan


def sinkhorn2(
    a: Any,
    b: Any,
    M: Any,
    reg: float,
    method: str = "sinkhorn",
    numItermax: int = 1000,
    stopThr: float = 1e-9,
    verbose: bool = False,
    log: bool = False,
    warn: bool = False,
    warmstart: tuple[Any, Any] | None = None,
    n_threads: int | None = None,
) -> Any:
    """Cost <P, M> of the entropic optimal transport plan, as POT's ``ot.sinkhorn2``.

    Parameters are those of `sinkhorn`.

    Returns
    -------
    number in the dtype of M, or an array of shape (k,) for several b; with `log` the log too
        As a tensor it has gradients, those of <P, M>; the entropic objective, whose gradients are
        P and the potentials, is ``solve(...).objective``.
    """
    columns = _columns(b)
    options = (method, numItermax, stopThr, verbose, warn)
    results: list[OTResult] = []
    for k, column in enumerate([b] if columns is None else columns):
        start = None if warmstart is None else tuple(_column(x, k) for x in warmstart)
        results.append(_solve_entropic(a, column, M, reg, *options, start, n_threads))
    sources = (a, b, M)
    values = [_entropic_value(result, M, a, b) for result in results]
    if columns is None:
        return (values[0], _entropic_log(results[0], reg, sources)) if log else values[0]
    several = stacked(values)
    return (several, _several_logs(results, reg, sources)) if log else several


def _columns(b: Any) -> list[Any] | None:
    """Several histograms, if b has two dimensions."""
    several = b if is_tensor(b) or b is None else np.asarray(b)
    if several is None or several.ndim != 2:
        return None
    return [several[:, k] for k in range(several.shape[1])]


def _column(x: Any, k: int) -> Any:
    """Return what belongs to the k-th b: a column, or what is for all."""
    return x[:, k] if np.ndim(x) == 2 else x


def _solve_entropic(
    a: Any,
    b: Any,
    M: Any,
    reg: float,
    method: str,
    numItermax: int,
    stopThr: float,
    verbose: bool,
    warn: bool,
    warmstart: tuple[Any, ...] | None,
    n_threads: int | None,
) -> OTResult:
    if method.lower() not in _SINKHORN_METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(_SINKHORN_METHODS)}")
    reg, start = number(reg, "reg"), None
    if warmstart is not None:
        log_u, log_v = (to_numpy(x, "warmstart") for x in warmstart)
        start = (reg * log_u, reg * log_v)
    mass = 1.0 if a is None else to_numpy(constant(a), "a").sum(dtype=np.float64)
    result = solve(
        M,
        a,
        b,
        reg,
        numItermax=numItermax,
        stopThr=stopThr / (mass or 1.0),  # POT's is absolute
        warmstart=start,
        n_threads=n_threads,
    )
    if verbose:
        log_errors(result.errors, result.n_iter)
    if warn and result.status != "converged":
        warn_of_limit(stopThr, numItermax, stacklevel=3)
    return result


def _entropic_value(result: OTResult, *sources: Any) -> Any:
    value = result.value
    return value if is_tensor(value) else number_as_given(value, *sources)


def _entropic_log(result: OTResult, reg: float, sources: tuple[Any, ...]) -> dict[str, Any]:
    log_u, log_v = (np.asarray(x) / reg for x in result.potentials)
    with np.errstate(over="ignore"):  # inf, as in POT, where a scaling is beyond float64
        u, v = np.exp(log_u), np.exp(log_v)
    log_u, log_v, u, v = (like(x, sources) for x in (log_u, log_v, u, v))
    return {
        "err": [] if result.errors is None else result.errors.tolist(),
        "niter": result.n_iter,
        "u": u,
        "v": v,
        "log_u": log_u,
        "log_v": log_v,
        "warmstart": (log_u, log_v),
    }


def _several_logs(results: list[OTResult], reg: float, sources: tuple[Any, ...]) -> dict[str, Any]:
    logs = [_entropic_log(result, reg, ()) for result in results]
    each = {key: [log[key] for log in logs] for key in ("err", "niter")}
    n, m = np.shape(sources[2])
    scalings = {
        key: like(np.array([log[key] for log in logs]).reshape(-1, length).T, sources)
        for key, length in (("u", n), ("v", m), ("log_u", n), ("log_v", m))
    }
    return {**each, **scalings, "warmstart": (scalings["log_u"], scalings["log_v"])}
