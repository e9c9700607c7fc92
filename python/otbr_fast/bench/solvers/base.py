"""What a contestant is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal

from otbr_fast.bench.problem import Problem

Task = Literal["exact", "entropic", "distances"]
"""Exact transport's cost; an entropic plan to an accuracy; a matrix of Euclidean distances."""


@dataclass(frozen=True)
class Setting:
    """What a contestant is asked besides the problem.

    Parameters
    ----------
    threads : int
        How many it may use.
    reg : float, optional
        Entropic: the regularisation, in units of the cost.
    """

    threads: int = 1
    reg: float | None = None

    def entropic_reg(self) -> float:
        """Return the regularisation, which must be there."""
        if self.reg is None:
            raise ValueError("an entropic task needs a regularisation")
        return self.reg


class SolverError(Exception):
    """A contestant gave no result that can be used; the message says why."""


def pot_environment(*backends: str) -> dict[str, str]:
    """Return what keeps POT from importing array libraries other than numpy and these."""
    others = {"PYTORCH", "JAX", "CUPY", "TENSORFLOW"} - set(backends)
    return {f"POT_BACKEND_DISABLE_{name}": "1" for name in others}


Run = Callable[[float], Any]
"""One timed call: the cost (exact), the plan (entropic) or the distances. Its argument is for
entropic solvers: the effort, which is a tolerance or a number of iterations."""

Harder = Callable[[float | None, float | None, float], float | None]
"""From (effort, error, target): the effort to reach the target with, after one that left this
error; the first where effort is None; None where there is no more to try."""


@dataclass(frozen=True)
class Solver:
    """A contestant.

    Parameters
    ----------
    name : str
        As it is chosen on the command line; unique within a task.
    label : str
        As tables show it.
    task : {"exact", "entropic", "distances"}
        What it does.
    module, package : str
        What is imported, and what pip installs for it.
    prepare : callable
        From (problem, setting), imports the module, converts the problem, and returns the call.
    refuses : callable
        From a problem, the reason for which it does not apply, or None.
    harder : callable, optional
        Entropic: how it is asked for more accuracy.
    compiles : bool
        Its first call of a shape compiles, and is not timed.
    is_bound : bool
        It does less than the task: its time is a bound, its result nothing to compare.
    environment : mapping of str to str
        Variables that its process needs.
    """

    name: str
    label: str
    task: Task
    module: str
    package: str
    prepare: Callable[[Problem, Setting], Run]
    refuses: Callable[[Problem], str | None] = lambda problem: None
    harder: Harder | None = None
    compiles: bool = False
    is_bound: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Say what to install, where the module is not there; nothing is imported."""
        if find_spec(self.module) is not None:
            return None
        return f"{self.package} is not installed: pip install {self.package}"

    def version(self) -> str | None:
        """Return the installed version; None for a package without one."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None
