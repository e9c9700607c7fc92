"""Pictures of a sweep: what each γ did to accuracy and attack, and what the attack looks like."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from otbr_fast.errors import OtbrFastError
from otbr_fast.io import write_file
from otbr_fast.report.sweep import Row, Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRICS = {"acc": "#1f77b4", "asr": "#d62728", "ra": "#2ca02c", "tcr": "#9467bd"}
_LINES: dict[Stage, str] = {"before": ":", "pruned": "--", "fused": "-"}


def can_draw() -> bool:
    """Tell whether matplotlib is installed (``pip install 'otbr-fast[demo]'``)."""
    return importlib.util.find_spec("matplotlib") is not None


def require_matplotlib() -> None:
    """Raise an `OtbrFastError` that tells the remedy if matplotlib is not installed."""
    if not can_draw():
        raise OtbrFastError("pictures need matplotlib: pip install 'otbr-fast[demo]'")


def write_sweep_picture(rows: Sequence[Row], path: Path, *, overwrite: bool = False) -> None:
    """Write a PNG of the metrics against γ, for each λ.

    Raises
    ------
    OutputExistsError
        The file exists and `overwrite` is false.
    """
    figure = _figure(7, 4.5)
    _draw_metrics(figure.add_subplot(), rows)
    _write(figure, path, overwrite)


def write_demo_picture(
    rows: Sequence[Row],
    images: torch.Tensor,
    triggered: torch.Tensor,
    captions: Sequence[str],
    path: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Write a PNG of example images without and with the trigger, above the metrics against γ.

    Parameters
    ----------
    rows : sequence of Row
        Of the sweep.
    images, triggered : Tensor
        Grey images in [0, 1], shape (K, 1, H, W).
    captions : sequence of str
        One for each pair of images.
    path : Path
        Where to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputExistsError
        The file exists and `overwrite` is false.
    """
    figure = _figure(8, 7)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(2, 3))[:, 0]
    grid = above.subplots(2, len(captions), squeeze=False)
    for column, caption in enumerate(captions):
        for axes, of_row in zip(grid[:, column], (images, triggered), strict=True):
            axes.imshow(of_row[column, 0].numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
        grid[1, column].set_title(caption, fontsize=8, y=-0.3)
    above.suptitle("before the repair: answers without → with the trigger", size=10)
    _draw_metrics(below.add_subplot(), rows)
    _write(figure, path, overwrite)


def _draw_metrics(axes: Axes, rows: Sequence[Row]) -> None:
    lambdas = sorted({row.lambda_ for row in rows if row.lambda_ is not None})
    for metric, color in _METRICS.items():
        before = getattr(rows[0].metrics, metric)
        if before is None:
            continue
        axes.axhline(100 * before, color=color, linestyle=_LINES["before"])
        _draw_line(axes, rows, metric, "pruned", None, f"{metric.upper()} pruned")
        for lambda_ in lambdas:
            told = f" λ={lambda_:g}" if len(lambdas) > 1 else ""
            _draw_line(axes, rows, metric, "fused", lambda_, f"{metric.upper()} fused{told}")
    axes.set(xlabel="γ (fraction of neurons pruned)", ylabel="percent", ylim=(-3, 103))
    axes.set_title("dotted: before; every γ tried is shown", size=9)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_line(
    axes: Axes, rows: Sequence[Row], metric: str, stage: Stage, lambda_: float | None, label: str
) -> None:
    chosen = [row for row in rows if row.stage == stage and row.lambda_ == lambda_]
    axes.plot(
        [row.gamma or 0.0 for row in chosen],
        [100 * getattr(row.metrics, metric) for row in chosen],
        color=_METRICS[metric],
        linestyle=_LINES[stage],
        marker=".",
        label=label,
    )


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _write(figure: Figure, path: Path, overwrite: bool) -> None:
    with write_file(path, overwrite) as draft:
        figure.savefig(draft, format="png")
