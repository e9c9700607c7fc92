"""POT's `emd`, `emd2` and `sinkhorn`: the same arguments, returns and log keys.

What differs from POT 0.9: `numItermax` of the exact solvers has no limit by default, so no plan is
cut short unasked; a float32 cost is not copied to float64; a problem that is not finite is refused.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from otbr_fast.ot.arrays import Matrix, Vector, is_tensor, like, masses, matrix, to_numpy
from otbr_fast.ot.result import OTResult
from otbr_fast.ot.solver import solve

_LOGGER = logging.getLogger("otbr_fast.ot")

_SINKHORN_METHODS = (
    "sinkhorn",
    "sinkhorn_log",
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
    M : array-like, shape (n, m)
        Cost.
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
        Taken for POT's sake: a start changes the time, not the result, and this solver does not
        use one yet.

    Returns
    -------
    array or tensor, shape (n, m)
        In the dtype of a, else b, else M, if that is a floating one.

    Raises
    ------
    ValueError
        As `solve`.
    """
    cost, a_masses, b_masses = _problem(a, b, M, check_marginals)
    result = _exact(cost, a_masses, b_masses, numItermax, numThreads)
    plan = _as_given(result.dense_plan(), a, b, M)
    return (plan, _exact_log(result, a_masses, b_masses, center_dual, (a, b, M))) if log else plan


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
    float, or array of shape (k,)
        With `log` or `return_matrix` also the log, or a list of k logs.
    """
    several = b is not None and len(b) > 0 and np.ndim(b) == 2
    columns = to_numpy(b, "b").T if several else [b]
    costs: list[float] = []
    logs: list[dict[str, Any]] = []
    for column in columns:
        cost, a_masses, b_masses = _problem(a, column, M, check_marginals)
        result = _exact(cost, a_masses, b_masses, numItermax, numThreads)
        costs.append(result.value)
        if log or return_matrix:
            logs.append(_exact_log(result, a_masses, b_masses, center_dual, (a, b, M)))
        if return_matrix:
            logs[-1]["G"] = _as_given(result.dense_plan(), a, b, M)
    value = _as_given(np.array(costs) if several else np.array(costs[0]), a, b, M)
    if not several and not is_tensor(value):
        value = float(value)
    if log or return_matrix:
        return value, (logs if several else logs[0])
    return value


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
        "sinkhorn", "sinkhorn_log", "sinkhorn_stabilized" or "sinkhorn_epsilon_scaling".
    numItermax : int
        Most passes over M, or over a plan of its size, those at larger `reg` on the way included.
    stopThr : float
        L2 error of the column marginals at which to stop.
    verbose : bool
        Log the errors at level INFO to the logger ``otbr_fast.ot``.
    log : bool
        Return a dict too: ``err``, ``niter``, ``u``, ``v`` (scalings), ``log_u``, ``log_v`` and
        ``warmstart``.
    warn : bool
        Warn when stopThr is not reached.
    warmstart : (array-like, array-like), optional
        Logarithms of the scalings, as in ``log["warmstart"]``.
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
    if method.lower() not in _SINKHORN_METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(_SINKHORN_METHODS)}")
    sources = (a, b, M)
    start = None
    if warmstart is not None:
        log_u, log_v = (to_numpy(x, "warmstart") for x in warmstart)
        start = (reg * log_u, reg * log_v)

    def one(column: Any) -> OTResult:
        cost, a_masses, b_masses = _problem(a, column, M, check_marginals=True)
        result = solve(
            cost,
            a_masses,
            b_masses,
            reg,
            numItermax=numItermax,
            stopThr=stopThr / (a_masses.sum() or 1.0),  # POT's is absolute
            warmstart=start,
            n_threads=n_threads,
        )
        if verbose:
            _LOGGER.info("sinkhorn: error %s after %d passes", result.errors, result.n_iter)
        if warn and result.status != "converged":
            warnings.warn(
                f"Sinkhorn did not reach stopThr = {stopThr} in {numItermax} iterations; increase "
                "numItermax or reg.",
                stacklevel=3,
            )
        return result

    if b is not None and len(b) > 0 and np.ndim(b) == 2:
        results = [one(column) for column in to_numpy(b, "b").T]
        values = _as_given(np.array([r.value for r in results]), M, a, b)
        return (values, _several_logs(results, reg, sources)) if log else values
    result = one(b)
    plan = _as_given(result.dense_plan(), M, a, b)
    return (plan, _entropic_log(result, reg, sources)) if log else plan


def _problem(a: Any, b: Any, M: Any, check_marginals: bool) -> tuple[Matrix, Vector, Vector]:
    cost = matrix(M, "M")
    a_masses = masses(a, "a", cost.shape[0])
    b_masses = masses(b, "b", cost.shape[1])
    if not check_marginals and b_masses.sum() > 0:
        b_masses = b_masses * (a_masses.sum() / b_masses.sum())
    return cost, a_masses, b_masses


def _exact(
    cost: Matrix, a: Vector, b: Vector, numItermax: int | None, numThreads: int | Literal["max"]
) -> OTResult:
    n_threads = None if numThreads == "max" else numThreads
    result = solve(cost, a, b, numItermax=numItermax, n_threads=n_threads)
    if result.status != "optimal":
        warnings.warn(_not_optimal(result), stacklevel=3)
    return result


def _not_optimal(result: OTResult) -> str:
    limited = result.status == "iteration_limit"
    what = "numItermax reached" if limited else "the plan is not proven optimal, please report"
    remedy = "; increase numItermax." if limited else "."
    return (
        f"{what} after {result.n_iter} pivots: the cost {result.value} is above the optimum by at "
        f"most {result.certificate.duality_gap}{remedy}"
    )


def _exact_log(
    result: OTResult, a: Vector, b: Vector, center_dual: bool, sources: tuple[Any, ...]
) -> dict[str, Any]:
    u, v = result.potentials
    if center_dual:
        shift = (b @ v - a @ u) / (a.sum() + b.sum())
        u, v = u + shift, v - shift
    optimal = result.status == "optimal"
    return {
        "cost": result.value,
        "u": _as_given(u, *sources),
        "v": _as_given(v, *sources),
        "warning": None if optimal else _not_optimal(result),
        "result_code": 1 if optimal else 3,
    }


def _entropic_log(result: OTResult, reg: float, sources: tuple[Any, ...]) -> dict[str, Any]:
    log_u, log_v = (x / reg for x in result.potentials)
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
    stacked = {key: np.stack([log[key] for log in logs], 1) for key in ("log_u", "log_v", "u", "v")}
    return {key: like(value, sources) for key, value in stacked.items()}


def _as_given(values: NDArray[Any], *sources: Any) -> Any:
    """Cast to the dtype of the first source that has a floating one; a tensor if any is."""
    for x in sources:
        if x is not None and len(x) > 0:
            dtype = to_numpy(x, "argument").dtype
            if dtype.kind == "f":
                return like(values.astype(dtype, copy=False), sources)
    return like(values, sources)
