"""Pictures of a comparison: time and ratio against size, and time to accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otbr_fast.bench.results import Cell, Entry, Results, counts
from otbr_fast.bench.solvers import OURS
from otbr_fast.bench.summary import cells_of, median_seconds, ratio, solvers_in
from otbr_fast.io import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = ("time.png", "ratio.png", "entropic.png")
"""The files that `write_pictures` may leave."""

_COLUMNS = 3
_Value = Callable[[Cell, Entry], float]


def write_pictures(results: Results, folder: Path, *, overwrite: bool = False) -> None:
    """Write PNG files of the first dtype and number of threads; none for a task not run."""
    first = results.plan.dtypes[0], results.plan.threads[0]
    exact, entropic = (cells_of(results, task, *first) for task in ("exact", "entropic"))
    figures = (
        _figure(_by_family(exact), _size, _seconds, ("n", "seconds a call")),
        _figure(_by_family(exact), _size, _ratio, ("n", "times as long as ours")),
        _figure(_by_size(entropic), _reg, _seconds, ("reg / max(M)", "seconds to the error")),
    )
    for name, figure in zip(PICTURES, figures, strict=True):
        if figure is not None:
            with write_file(folder / name, overwrite) as draft:
                figure.savefig(draft, format="png")


def _figure(
    groups: dict[str, list[Cell]],
    place: Callable[[Cell], float],
    value: _Value,
    labels: tuple[str, str],
) -> Figure | None:
    """Draw a panel a group, a line a contestant; return None where there is nothing to draw."""
    if not groups:
        return None
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    n_columns = min(_COLUMNS, len(groups))
    n_rows = -(-len(groups) // n_columns)
    figure = Figure(figsize=(4 * n_columns, 3 * n_rows + 0.6), dpi=150, layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    solvers = solvers_in([cell for cells in groups.values() for cell in cells])
    for axes, (title, cells) in zip(panels, groups.items(), strict=False):
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1], xscale="log", yscale="log")
        _draw(axes, cells, solvers, place, value)
    for axes in panels[len(groups) :]:
        axes.set_axis_off()
    handles = {h.get_label(): h for axes in panels for h in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _draw(
    axes: Axes,
    cells: Sequence[Cell],
    solvers: dict[str, str],
    place: Callable[[Cell], float],
    value: _Value,
) -> None:
    for i, (name, label) in enumerate(solvers.items()):
        entries = ((cell, cell.entry(name)) for cell in cells)
        known = [(cell, entry) for cell, entry in entries if entry is not None and counts(entry)]
        points = sorted((place(cell), value(cell, entry)) for cell, entry in known)
        if points:
            x, y = zip(*points, strict=True)
            width = 2.5 if name == OURS else 1.2
            axes.plot(x, y, marker=".", color=f"C{i}", linewidth=width, label=label)
    ticks = sorted({place(cell) for cell in cells})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)


def _by_family(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.family, []).append(cell)
    return groups


def _by_size(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(f"{cell.family} {cell.n} x {cell.m}", []).append(cell)
    return groups


def _size(cell: Cell) -> float:
    return max(cell.n, cell.m)


def _reg(cell: Cell) -> float:
    return cell.reg or 0.0


def _seconds(cell: Cell, entry: Entry) -> float:
    return median_seconds(entry) / cell.calls


def _ratio(cell: Cell, entry: Entry) -> float:
    return ratio(cell, entry) or math.nan  # nan: no point is drawn
