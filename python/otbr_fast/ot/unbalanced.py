"""POT's unbalanced and partial transport; rounding to an exact coupling."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from otbr_fast import _core
from otbr_fast.ot.arrays import Matrix, Vector, count, like, masses, matrix, number
from otbr_fast.ot.solver import solve
from otbr_fast.ot.telling import log_errors, warn_of_limit

_METHODS = (
    "sinkhorn",
    "sinkhorn_stabilized",
    "sinkhorn_reg_scaling",
    "sinkhorn_translation_invariant",
)


def sinkhorn_unbalanced(
    a: Any,
    b: Any,
    M: Any,
    reg: float,
    reg_m: Any,
    method: str = "sinkhorn",
    reg_type: str = "kl",
    c: None = None,
    warmstart: None = None,
    numItermax: int = 1000,
    stopThr: float = 1e-6,
    verbose: bool = False,
    log: bool = False,
    n_threads: int | None = None,
) -> Any:
    """Entropic plan whose marginals are paid for, as POT's ``ot.sinkhorn_unbalanced``.

    Minimises <P, M> + reg KL(P | a b^T) + reg_m1 KL(P 1 | a) + reg_m2 KL(P^T 1 | b) over P >= 0.
    One log-domain algorithm serves every method name, so no `reg` underflows.

    Parameters
    ----------
    a, b : array-like, shapes (n,) and (m,)
        Masses, of any sums; uniform, with sum 1, where the list is empty or None.
    M : array-like, shape (n, m)
        Cost.
    reg : float
        Entropic regularisation > 0, in units of the cost.
    reg_m : float, or one or two of them
        What it costs to miss a marginal, for the rows and for the columns, in units of the cost;
        infinite for a marginal that is met exactly.
    method : str
        "sinkhorn", "sinkhorn_stabilized", "sinkhorn_reg_scaling" or
        "sinkhorn_translation_invariant".
    reg_type : {"kl", "entropy"}
        "entropy" takes the entropy sum P (log P - 1) instead of KL(P | a b^T).
    c, warmstart : None
        POT's other reference measure and its start: not supported.
    numItermax : int
        Most passes over M.
    stopThr : float
        L2 distance of the column sums from those that the potentials ask for, as a part of the
        mass that these have together, at which to stop.
    verbose : bool
        Log the errors at level INFO to the logger ``otbr_fast.ot``.
    log : bool
        Return a dict too: ``err``, ``niter``, ``cost`` <P, M>, ``total_cost`` (the objective, with
        the masses in its divergences, which POT's omits) and the logarithms of the scalings
        ``logu``, ``logv``.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Returns
    -------
    array or tensor, shape (n, m), in the dtype of M

    Raises
    ------
    ValueError
        As `solve`; a method of another algorithm, a `reg_m` that is not positive, several b in
        one array (call it for each), a `c` or a `warmstart`.

    References
    ----------
    Chizat, Peyré, Schmitzer and Vialard, Scaling algorithms for unbalanced optimal transport
    problems, Mathematics of Computation, 2018.
    """
    if method.lower() not in _METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(_METHODS)}")
    for name, value in (("c", c), ("warmstart", warmstart)):
        if value is not None:
            raise ValueError(f"{name} is not supported; leave it out")
    cost, reg = matrix(M, "M"), number(reg, "reg")
    a_masses, b_masses = masses(a, "a", cost.shape[0]), masses(b, "b", cost.shape[1])
    strengths = np.atleast_1d(np.asarray(reg_m, dtype=np.float64))
    if strengths.shape not in {(1,), (2,)}:
        raise ValueError(f"reg_m has shape {strengths.shape}; give one number, or two")
    pair = (float(strengths[0]), float(strengths[-1]))
    threads = count(n_threads, "n_threads", None)
    limit = count(numItermax, "numItermax", 1000)
    kind = reg_type.lower()
    solution = _core.solve_unbalanced(
        cost, a_masses, b_masses, reg, pair, kind, limit, stopThr, threads
    )
    plan = _plan(cost, solution, reg, threads)
    _tell(solution, stopThr, numItermax, verbose)
    if not log:
        return like(plan, (M, a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_u, log_v = solution.f / reg, solution.g / reg
        if kind == "kl":
            log_u = np.where(a_masses > 0, log_u - np.log(a_masses), -np.inf)
            log_v = np.where(b_masses > 0, log_v - np.log(b_masses), -np.inf)
    total = solution.value + _penalty(plan, a_masses, b_masses, reg, pair, kind)
    return like(plan, (M, a, b)), {
        "err": solution.errors.tolist(),
        "niter": solution.n_iter,
        "cost": solution.value,
        "total_cost": total,
        "logu": like(log_u, (M, a, b)),
        "logv": like(log_v, (M, a, b)),
    }


def _penalty(
    plan: Matrix, a: Vector, b: Vector, reg: float, reg_m: tuple[float, float], kind: str
) -> float:
    """Return what an unbalanced plan costs besides <P, M>."""
    wide = plan.astype(np.float64)
    constant = 0 if kind == "kl" else wide.size  # sum P (log P - 1) is KL(P | 1) without it
    reference = a[:, None] * b if kind == "kl" else np.ones_like(wide)
    total = reg * (_kl(wide, reference) - constant)
    for axis, (strength, given) in enumerate(zip(reg_m, (a, b), strict=True)):
        if np.isfinite(strength):
            total += strength * _kl(plan.sum(1 - axis, dtype=np.float64), given)
    return total


def _kl(p: Any, q: Any) -> float:
    """Sum of p log(p / q) - p + q, with 0 log 0 = 0."""
    held = p > 0
    return float((p[held] * np.log(p[held] / q[held])).sum() - p.sum() + q.sum())


def partial_wasserstein(
    a: Any,
    b: Any,
    M: Any,
    m: float | None = None,
    nb_dummies: int = 1,
    log: bool = False,
    numItermax: int | None = None,
    n_threads: int | None = None,
) -> Any:
    """Exact plan that moves a part of the mass, as POT's ``ot.partial.partial_wasserstein``.

    Minimises <P, M> over P >= 0 with P 1 <= a, P^T 1 <= b and sum P = m. A dummy row and a dummy
    column take what is not moved, at no cost; from one to the other nothing goes, which its cost
    ensures for any sign of M.

    Parameters
    ----------
    a, b : array-like, shapes (n,) and (m,)
        Masses, of any sums; uniform, with sum 1, where the list is empty or None.
    M : array-like, shape (n, m)
        Cost.
    m : float, optional
        Mass to be moved, at most the sums of a and of b; the lesser of them by default.
    nb_dummies : int
        Taken for POT's sake: one dummy point is always enough here.
    log : bool
        Return a dict too: ``cost`` and ``partial_w_dist`` <P, M>, ``u``, ``v``, ``warning``,
        ``result_code``.
    numItermax : int, optional
        Most pivots; no limit by default.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Returns
    -------
    array or tensor, shape (n, m)
        In float64.

    Raises
    ------
    ValueError
        As `solve`; an `m` that is negative or too large.

    References
    ----------
    Chapel, Alaya and Gasso, Partial optimal transport with applications on positive-unlabeled
    learning, NeurIPS 2020.
    """
    cost = matrix(M, "M")
    n, k = cost.shape
    a_masses, b_masses = masses(a, "a", n), masses(b, "b", k)
    for name, given, length in (("a", a_masses, n), ("b", b_masses, k)):
        if given.size != length:
            raise ValueError(f"{name} has {given.size} masses, but M has shape {cost.shape}")
    mass = _mass(m, a_masses, b_masses)
    extended = np.zeros((n + 1, k + 1), dtype=cost.dtype)
    extended[:n, :k] = cost
    # Mass that went from dummy to dummy would let less than m be moved. Sending a unit of it by a
    # real row and column instead costs at most the largest entry: dearer than that, it never goes.
    extended[n, k] = 2 * np.abs(cost).max(initial=0) or 1
    result = solve(
        extended,
        np.append(a_masses, max(b_masses.sum() - mass, 0.0)),
        np.append(b_masses, max(a_masses.sum() - mass, 0.0)),
        numItermax=numItermax,
        n_threads=n_threads,
    )
    plan = np.ascontiguousarray(result.dense_plan()[:n, :k])
    warning = None
    if result.status != "optimal":
        warning = f"the plan is not proven optimal (status {result.status}); increase numItermax"
        warnings.warn(warning, stacklevel=2)
    if not log:
        return like(plan, (M, a, b))
    used = plan > 0  # where M is infinite, nothing goes
    value = float(plan[used] @ cost[used])
    return like(plan, (M, a, b)), {
        "cost": value,
        "partial_w_dist": value,
        "u": like(result.potentials[0][:n], (M, a, b)),
        "v": like(result.potentials[1][:k], (M, a, b)),
        "warning": warning,
        "result_code": 1 if warning is None else 3,
    }


def entropic_partial_wasserstein(
    a: Any,
    b: Any,
    M: Any,
    reg: float,
    m: float | None = None,
    method: str = "sinkhorn",
    numItermax: int = 1000,
    stopThr: float = 1e-9,
    verbose: bool = False,
    log: bool = False,
    n_threads: int | None = None,
) -> Any:
    """Entropic plan that moves a part of the mass, as POT's ``ot.partial.entropic_partial_...``.

    Minimises <P, M> + reg sum P (log P - 1) over P with P 1 <= a, P^T 1 <= b and sum P = m, in the
    log domain, so that no `reg` underflows.

    Parameters
    ----------
    a, b, M, m
        As in `partial_wasserstein`.
    reg : float
        Entropic regularisation > 0, in units of the cost.
    method : str
        "sinkhorn" or "sinkhorn_log": the same here.
    numItermax : int
        Most passes over M.
    stopThr : float
        L2 distance of the column sums from what they should be, as a part of `m`, at which to
        stop. (POT's default, 1e-100, always makes all passes.)
    verbose : bool
        Log the errors at level INFO to the logger ``otbr_fast.ot``.
    log : bool
        Return a dict too: ``err``, ``niter``, ``partial_w_dist``.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Returns
    -------
    array or tensor, shape (n, m), in the dtype of M

    Raises
    ------
    ValueError
        As `solve`; an `m` that is not positive or too large, a method of another algorithm.

    References
    ----------
    Benamou, Carlier, Cuturi, Nenna and Peyré, Iterative Bregman projections for regularized
    transportation problems, SIAM Journal on Scientific Computing, 2015.
    """
    if method.lower() not in {"sinkhorn", "sinkhorn_log"}:
        raise ValueError(f'method is {method!r}; choose "sinkhorn" or "sinkhorn_log"')
    cost, reg = matrix(M, "M"), number(reg, "reg")
    a_masses, b_masses = masses(a, "a", cost.shape[0]), masses(b, "b", cost.shape[1])
    mass = _mass(m, a_masses, b_masses)
    threads = count(n_threads, "n_threads", None)
    limit = count(numItermax, "numItermax", 1000)
    solution = _core.solve_partial(cost, a_masses, b_masses, reg, mass, limit, stopThr, threads)
    plan = _plan(cost, solution, reg, threads)
    _tell(solution, stopThr, numItermax, verbose)
    if not log:
        return like(plan, (M, a, b))
    return like(plan, (M, a, b)), {
        "err": solution.errors.tolist(),
        "niter": solution.n_iter,
        "partial_w_dist": solution.value,
    }


def round_plan(G: Any, a: Any = None, b: Any = None, n_threads: int | None = None) -> Any:
    """Make a coupling of a plan that is almost one, such as a Sinkhorn iteration's.

    Rows, then columns, that have too much are scaled down, and what is missing is spread over all
    of the plan. The result has the sums of a and b to rounding, and is no further from `G`, in L1,
    than twice the marginals' error was.

    Parameters
    ----------
    G : array-like, shape (n, m)
        Not negative.
    a, b : array-like, shapes (n,) and (m,), optional
        Masses with equal sums; uniform by default.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Returns
    -------
    array or tensor, shape (n, m)
        In float64, since float32 could not hold the sums.

    Raises
    ------
    ValueError
        A negative or infinite entry, masses that do not fit.

    References
    ----------
    Altschuler, Weed and Rigollet, Near-linear time approximation algorithms for optimal transport
    via Sinkhorn iteration, NeurIPS 2017, algorithm 2.
    """
    plan = matrix(G, "G")
    a_masses, b_masses = masses(a, "a", plan.shape[0]), masses(b, "b", plan.shape[1])
    rounded = np.empty(plan.shape)
    _core.round_plan(plan, a_masses, b_masses, count(n_threads, "n_threads", None), rounded)
    return like(rounded, (G, a, b))


def _plan(
    cost: Matrix, solution: _core.EntropicSolution, reg: float, threads: int | None
) -> Matrix:
    plan = np.empty_like(cost)
    _core.entropic_plan(cost, solution.f, solution.g, reg, threads, plan)
    return plan


def _mass(m: float | None, a: Vector, b: Vector) -> float:
    """Mass to be moved."""
    most = min(a.sum(), b.sum())
    mass = float(most if m is None else m)
    if not 0 <= mass <= most * (1 + 1e-12):
        raise ValueError(f"m is {mass}; it must be from 0 to the lesser sum of a and b, {most}")
    return min(mass, float(most))


def _tell(solution: _core.EntropicSolution, stopThr: float, numItermax: int, verbose: bool) -> None:
    if verbose:
        log_errors(solution.errors, solution.n_iter)
    if not solution.converged:
        warn_of_limit(stopThr, numItermax, stacklevel=3)
