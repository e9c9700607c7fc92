"""Medians and paired ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from otbr_fast.bench.results import Cell, Entry, Results, counts
from otbr_fast.bench.solvers import OURS, SOLVERS, Task


def median_seconds(entry: Entry) -> float:
    """Return the median time of a run."""
    return statistics.median(entry.seconds)


def ratio(cell: Cell, entry: Entry) -> float | None:
    """Return how many times as long as ours a contestant takes: the median over paired runs.

    None where either's times do not count.
    """
    ours = cell.ours
    if ours is None or not counts(entry):
        return None
    pairs = zip(entry.seconds, ours.seconds, strict=False)
    return statistics.median(theirs / mine for theirs, mine in pairs)


def least_ratio(cell: Cell, entry: Entry, time_limit: float) -> float | None:
    """Return how many times as long as ours a contestant took at least, ended at the limit."""
    if cell.ours is None or entry.status != "time_limit":
        return None
    return time_limit / median_seconds(cell.ours)


def fastest_peer(cell: Cell) -> Entry | None:
    """Return the contestant besides ours with the least median time, if there is one."""
    peers = [
        entry
        for entry in cell.entries
        if entry.solver != OURS and counts(entry) and not entry.is_bound
    ]
    return min(peers, key=median_seconds, default=None)


def cells_of(results: Results, task: Task, dtype: str, threads: int) -> list[Cell]:
    """Return a task's cells in a dtype, with a number of threads."""
    wanted = (task, dtype, threads)
    return [cell for cell in results.cells if (cell.task, cell.dtype, cell.threads) == wanted]


def solvers_in(cells: Sequence[Cell]) -> dict[str, str]:
    """Return name and label of those who took part, in the registry's order."""
    labels = {entry.solver: entry.label for cell in cells for entry in cell.entries}
    tasks = {cell.task for cell in cells}
    known = [solver.name for solver in SOLVERS if solver.task in tasks]
    return dict(sorted(labels.items(), key=lambda item: known.index(item[0])))
