"""Solvers of entropic transport: each returns its plan, at an effort.

The error is measured alike for all (`otbr_fast.bench.reading`), after the run. Most solvers stop
at an error of their own, in their own norm: they are asked for the target, and then for as much
less as the measured error was too large. The one that only takes a number of iterations gets twice
as many each time.
"""

from __future__ import annotations

from typing import Any, Literal

from otbr_fast.bench.problem import Problem
from otbr_fast.bench.solvers.base import Run, Setting, Solver, pot_environment

_NO_LIMIT = 10**7
_FIRST_BUDGET, _LAST_BUDGET = 10, 10**6
_LEAST_TOLERANCE = 1e-16
_MARGIN = 0.8


def _tighter(effort: float | None, error: float | None, target: float) -> float | None:
    """Ask for a smaller error of the solver's own."""
    if effort is None:
        return target
    smaller = 0.0 if error is None else _MARGIN * effort * target / error
    return smaller if smaller >= _LEAST_TOLERANCE else None


def _longer(effort: float | None, error: float | None, target: float) -> float | None:
    """Ask for twice as many iterations."""
    if effort is None:
        return _FIRST_BUDGET
    return 2 * effort if effort < _LAST_BUDGET else None


def _masses(problem: Problem) -> tuple[Any, Any]:
    """Return a and b in the cost's dtype, as libraries of one dtype need them."""
    dtype = problem.cost().dtype
    return problem.a.astype(dtype), problem.b.astype(dtype)


def _ours(problem: Problem, setting: Setting) -> Run:
    from otbr_fast import ot

    reg = setting.entropic_reg()

    def run(effort: float) -> Any:
        return ot.sinkhorn(
            problem.a,
            problem.b,
            problem.M,
            reg,
            numItermax=_NO_LIMIT,
            stopThr=effort,
            n_threads=setting.threads,
        )

    return run


def _pot(
    problem: Problem, setting: Setting, method: str, backend: Literal["numpy", "torch"]
) -> Run:
    import ot

    reg = setting.entropic_reg()
    arguments: tuple[Any, ...] = (*_masses(problem), problem.cost())
    if backend == "torch":
        import torch

        arguments = tuple(map(torch.from_numpy, arguments))

    def run(effort: float) -> Any:
        return ot.sinkhorn(*arguments, reg, method=method, numItermax=_NO_LIMIT, stopThr=effort)

    return run


def _ott(problem: Problem, setting: Setting, log_domain: bool) -> Run:
    import jax
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    jax.config.update("jax_enable_x64", True)  # or float64 is cut to float32
    reg = setting.entropic_reg()
    a, b = map(jax.numpy.asarray, _masses(problem))
    M = jax.numpy.asarray(problem.cost())

    def plan(a: Any, b: Any, M: Any, threshold: Any) -> Any:
        solver = Sinkhorn(lse_mode=log_domain, threshold=threshold, max_iterations=_NO_LIMIT)
        return solver(LinearProblem(Geometry(cost_matrix=M, epsilon=reg), a, b)).matrix

    compiled = jax.jit(plan)

    def run(effort: float) -> Any:
        return compiled(a, b, M, effort).block_until_ready()

    return run


def _geomloss(problem: Problem, setting: Setting) -> Run:
    import torch
    from geomloss import ot

    reg = setting.entropic_reg()
    a, b, M = map(torch.from_numpy, (*_masses(problem), problem.cost()))

    def run(effort: float) -> Any:
        return ot.solve(M, reg=reg, a=a, b=b, max_iter=int(effort)).plan

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
        harder=_tighter,
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
        harder=_tighter,
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
        harder=_tighter,
    ),
    _pot_solver("sinkhorn", "numpy"),
    _pot_solver("sinkhorn", "torch"),
    _pot_solver("sinkhorn_log", "numpy"),
    _pot_solver("sinkhorn_log", "torch"),
    _ott_solver("ott-jax", "OTT-JAX", log_domain=True),
    _ott_solver("ott-jax-kernel", "OTT-JAX, kernel", log_domain=False),
    Solver("geomloss", "GeomLoss", "entropic", "geomloss", "geomloss", _geomloss, harder=_longer),
)
