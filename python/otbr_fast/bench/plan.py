"""What is to be compared: tasks, families, sizes, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from otbr_fast.bench.families import FAMILIES
from otbr_fast.bench.layers import layer_problem, layer_rows
from otbr_fast.bench.problem import Problem
from otbr_fast.bench.solvers import Task

LAYERS = "layers"
"""The family whose problems come from the plan's checkpoint; it has sizes of its own."""

DType = Literal["float32", "float64"]

_NO_POINTS = {"random", "ties", "small"}
_NOT_FOR = {"exact": set[str](), "entropic": {"small"}, "distances": _NO_POINTS}


class Grid(BaseModel):
    """The families and sizes that one task goes through."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    families: tuple[str, ...]
    sizes: tuple[Annotated[int, Field(ge=2)], ...]


class Plan(BaseModel):
    """A whole comparison.

    Parameters
    ----------
    grids : dict of str to Grid
        For each task its families and sizes.
    dtypes : tuple of str
        Of the cost, or the points.
    repeats : int
        Timed runs of each contestant, at least.
    threads : tuple of int
        Of each contestant; all is run with each number.
    seed : int
        Of the problems.
    time_limit : float
        Seconds that a run may take; who exceeds it is not asked for larger problems.
    regs : tuple of float
        Entropic: regularisations relative to the largest cost.
    target : float
        Entropic: the L1 error of the marginals to reach.
    calls : int
        Calls in a run of the small problems.
    solvers : tuple of str, optional
        Names of contestants besides ours; all by default.
    pot_old : Path, optional
        The folder in which another version of POT is installed.
    checkpoint : Path, optional
        Whose layers the family ``layers`` takes.
    arch : str, optional
        Its architecture, where it cannot be told.
    share : float
        Share of a layer's neurons that is pruned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    grids: dict[Task, Grid]
    dtypes: tuple[DType, ...] = ("float64",)
    repeats: PositiveInt = 3
    threads: tuple[PositiveInt, ...] = (1,)
    seed: NonNegativeInt = 0
    time_limit: PositiveFloat = 60
    regs: tuple[PositiveFloat, ...] = (0.05, 0.005, 0.0005)
    target: PositiveFloat = 1e-6
    calls: PositiveInt = 10_000
    solvers: tuple[str, ...] | None = None
    pot_old: Path | None = None
    checkpoint: Path | None = None
    arch: str | None = None
    share: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def without_folders(self) -> Plan:
        """Return the plan with names instead of paths, which are nobody else's business."""
        paths = {"pot_old": self.pot_old, "checkpoint": self.checkpoint}
        return self.model_copy(update={k: Path(p.name) for k, p in paths.items() if p})

    @model_validator(mode="after")
    def _check(self) -> Plan:
        for grid in self.grids.values():
            for name in grid.families:
                if name not in FAMILIES and name != LAYERS:
                    known = ", ".join((*FAMILIES, LAYERS))
                    raise ValueError(f"there is no family {name!r}; choose from {known}")
            if LAYERS in grid.families and self.checkpoint is None:
                raise ValueError("the family 'layers' needs a checkpoint")
        return self


@dataclass(frozen=True)
class Case:
    """One problem for one task: what a cell of the results is about.

    Parameters
    ----------
    make : callable
        Makes the problem, without its cost matrix.
    reg : float, optional
        Entropic: relative to the largest cost.
    calls : int
        In one run.
    layer : str, optional
        Where the problem comes from in the checkpoint.
    threads : int
        Of each contestant.
    """

    task: Task
    family: str
    n: int
    m: int
    dtype: DType
    make: Callable[[], Problem]
    reg: float | None = None
    calls: int = 1
    layer: str | None = None
    threads: int = 1


def cases(plan: Plan) -> list[Case]:
    """Return all cases of a plan: for each line of growing problems, small ones first."""
    found: list[Case] = []
    for task, grid in plan.grids.items():
        for family in grid.families:
            if family in _NOT_FOR[task]:
                continue
            for dtype in plan.dtypes:
                line = list(_line(plan, task, family, dtype, grid.sizes))
                for threads in plan.threads:
                    found += [replace(case, threads=threads) for case in line]
    return found


def _line(
    plan: Plan, task: Task, family: str, dtype: DType, sizes: tuple[int, ...]
) -> Iterator[Case]:
    regs = plan.regs if task == "entropic" else (None,)
    if family == LAYERS:
        assert plan.checkpoint is not None
        for name, rows in layer_rows(plan.checkpoint, plan.arch).items():
            n, make = len(rows), partial(layer_problem, rows, plan.share, plan.seed, dtype)
            for reg in regs:
                yield Case(task, family, n, n, dtype, make, reg, layer=name)
        return
    kind = FAMILIES[family]
    for n, m in kind.shapes(sizes):
        for reg in regs:
            calls = plan.calls if kind.small else 1
            made = partial(kind.make, n, m, plan.seed, dtype)
            yield Case(task, family, n, m, dtype, made, reg, calls)
