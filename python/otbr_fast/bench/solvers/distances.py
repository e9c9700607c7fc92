"""Matrices of Euclidean distances; and a matrix product, which is less than any of them."""

from __future__ import annotations

from typing import Any

from otbr_fast.bench.problem import Problem
from otbr_fast.bench.solvers.base import Run, Setting, Solver, pot_environment


def _ours(problem: Problem, setting: Setting) -> Run:
    from otbr_fast import ot

    def run(effort: float) -> Any:
        return ot.cost_matrix(problem.X, problem.Y, n_threads=setting.threads)

    return run


def _torch_cdist(problem: Problem, setting: Setting) -> Run:
    import torch

    X, Y = map(torch.from_numpy, problem.points())
    return lambda effort: torch.cdist(X, Y)


def _torch_mm(problem: Problem, setting: Setting) -> Run:
    import torch

    X, Y = map(torch.from_numpy, problem.points())
    return lambda effort: torch.mm(X, Y.T)


def _pot(problem: Problem, setting: Setting) -> Run:
    import ot

    return lambda effort: ot.dist(problem.X, problem.Y, metric="euclidean")


def _scipy(problem: Problem, setting: Setting) -> Run:
    from scipy.spatial.distance import cdist

    return lambda effort: cdist(*problem.points())


DISTANCES = (
    Solver("otbr_fast", "otbr_fast", "distances", "otbr_fast", "otbr-fast", _ours),
    Solver("torch-cdist", "torch.cdist", "distances", "torch", "torch", _torch_cdist),
    Solver("pot", "POT dist", "distances", "ot", "POT", _pot, environment=pot_environment()),
    Solver("scipy-cdist", "scipy cdist", "distances", "scipy", "scipy", _scipy),
    Solver("torch-mm", "torch.mm (bound)", "distances", "torch", "torch", _torch_mm, is_bound=True),
)
