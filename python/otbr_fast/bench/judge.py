"""Whether the contestants' results agree."""

from __future__ import annotations

import math
from collections.abc import Mapping

from otbr_fast.bench.results import Cell, Entry
from otbr_fast.bench.solvers import Task

_RELATIVE: dict[tuple[Task, str], float] = {
    ("exact", "float64"): 1e-9,
    ("exact", "float32"): 1e-6,  # POT rounds the cost it returns to the dtype of M
    ("entropic", "float64"): 1e-5,  # plans of equal marginal error, not of equal cost
    ("entropic", "float32"): 1e-5,
}
_DISTANCE_ERROR = {"float64": 1e-9, "float32": 1e-4}
_TIES = 1e-300  # costs of 0 agree


def judge(cell: Cell) -> None:
    """Mark, in each entry that has a result, whether it is right as far as can be told.

    Distances are right if their error is small. Costs are compared with each other: those who
    agree with most are right; where as many agree on another one, nobody is.
    """
    finished = [entry for entry in cell.entries if entry.status == "ok" and not entry.is_bound]
    if cell.task == "distances":
        for entry in finished:
            entry.agrees = entry.error is not None and entry.error <= _DISTANCE_ERROR[cell.dtype]
        return
    wrong = outliers({e.solver: _value(e) for e in finished}, _RELATIVE[cell.task, cell.dtype])
    for entry in finished:
        if entry.solver in wrong:
            entry.agrees = False
        elif len(finished) > 1:
            entry.agrees = True


def outliers(values: Mapping[str, float], relative: float) -> set[str]:
    """Return the names of values that are not close to those that most are close to."""

    def friends(value: float) -> frozenset[str]:
        return frozenset(
            name
            for name, other in values.items()
            if math.isclose(value, other, rel_tol=relative, abs_tol=_TIES)
        )

    groups = {friends(value) for value in values.values()}
    largest = max(map(len, groups), default=0)
    leading = [group for group in groups if len(group) == largest]
    return set(values) - leading[0] if len(leading) == 1 else set(values)


def _value(entry: Entry) -> float:
    return math.nan if entry.value is None else entry.value
