"""Solvers of entropic transport: each returns its plan, at an effort.

Those that stop at an error of their own are asked for ever smaller ones, a quarter of the last,
since each measures it in its own way; the one that only takes a number of iterations gets twice
the last. Whether the error is reached is judged alike for all, see `otbr_fast.bench.reading`.
"""

from __future__ import annotations

from typing import Any, Literal

from otbr_fast.bench.problem import Problem
from otbr_fast.bench.solvers.base import Run, Setting, Solver, pot_environment

_NO_LIMIT = 10**7
_TOLERANCES = 6
_BUDGETS = 18
_FIRST_BUDGET = 10


def _tolerance(target: float, effort: int) -> float:
    return target / 4.0**effort


def _masses(problem: Problem) -> tuple[Any, Any]:
    """Return a and b in the cost's dtype, as libraries of one dtype need them."""
    dtype = problem.cost().dtype
    return problem.a.astype(dtype), problem.b.astype(dtype)


def _ours(problem: Problem, setting: Setting) -> Run:
    from otbr_fast import ot

    reg, target = setting.entropic

    def run(effort: int) -> Any:
        return ot.sinkhorn(
            problem.a,
            problem.b,
            problem.M,
            reg,
            numItermax=_NO_LIMIT,
            stopThr=_tolerance(target, effort),
            n_threads=setting.threads,
        )

    return run


def _pot(
    problem: Problem, setting: Setting, method: str, backend: Literal["numpy", "torch"]
) -> Run:
    import ot

    reg, target = setting.entropic
    arguments: tuple[Any, ...] = (*_masses(problem), problem.cost())
    if backend == "torch":
        import torch

        arguments = tuple(map(torch.from_numpy, arguments))

    def run(effort: int) -> Any:
        stop = _tolerance(target, effort)
        return ot.sinkhorn(*arguments, reg, method=method, numItermax=_NO_LIMIT, stopThr=stop)

    return run


def _ott(problem: Problem, setting: Setting, log_domain: bool) -> Run:
    import jax
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    jax.config.update("jax_enable_x64", True)  # or float64 is cut to float32
    reg, target = setting.entropic
    a, b = map(jax.numpy.asarray, _masses(problem))
    M = jax.numpy.asarray(problem.cost())

    def plan(a: Any, b: Any, M: Any, threshold: Any) -> Any:
        solver = Sinkhorn(lse_mode=log_domain, threshold=threshold, max_iterations=_NO_LIMIT)
        return solver(LinearProblem(Geometry(cost_matrix=M, epsilon=reg), a, b)).matrix

    compiled = jax.jit(plan)

    def run(effort: int) -> Any:
        return compiled(a, b, M, _tolerance(target, effort)).block_until_ready()

    return run


def _geomloss(problem: Problem, setting: Setting) -> Run:
    import torch
    from geomloss import ot

    reg, _ = setting.entropic
    a, b, M = map(torch.from_numpy, (*_masses(problem), problem.cost()))

    def run(effort: int) -> Any:
        return ot.solve(M, reg=reg, a=a, b=b, max_iter=_FIRST_BUDGET * 2**effort).plan

    return run


def _pot_solver(method: str, backend: Literal["numpy", "torch"]) -> Solver:
    kind = "pot-log" if method == "sinkhorn_log" else "pot"
    return Solver(
        kind if backend == "numpy" else f"{kind}-torch",
        f"POT {method}" if backend == "numpy" else f"POT {method}, torch",
        "entropic",
        "ot",
        "POT",
        lambda problem, setting: _pot(problem, setting, method, backend),
        efforts=_TOLERANCES,
        environment=pot_environment(*(["PYTORCH"] if backend == "torch" else [])),
    )


def _ott_solver(name: str, label: str, *, log_domain: bool) -> Solver:
    return Solver(
        name,
        label,
        "entropic",
        "ott",
        "ott-jax",
        lambda problem, setting: _ott(problem, setting, log_domain),
        efforts=_TOLERANCES,
        compiles=True,
    )


ENTROPIC = (
    Solver(
        "otbr_fast",
        "otbr_fast",
        "entropic",
        "otbr_fast",
        "otbr-fast",
        _ours,
        efforts=_TOLERANCES,
    ),
    _pot_solver("sinkhorn", "numpy"),
    _pot_solver("sinkhorn", "torch"),
    _pot_solver("sinkhorn_log", "numpy"),
    _pot_solver("sinkhorn_log", "torch"),
    _ott_solver("ott-jax", "OTT-JAX", log_domain=True),
    _ott_solver("ott-jax-kernel", "OTT-JAX, kernel", log_domain=False),
    Solver("geomloss", "GeomLoss", "entropic", "geomloss", "geomloss", _geomloss, efforts=_BUDGETS),
)
