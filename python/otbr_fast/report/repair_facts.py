"""From networks, plans and images to what a report holds of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

from otbr_fast.evaluate import Metrics, der, hder
from otbr_fast.repair import LayerReport
from otbr_fast.report.repair_report import LayerFacts, Measured, PlanMap

PLAN_CELLS = 256
"""A plan is shown with this many rows and columns at most."""

PIXELS = 64
"""An image is shown with this many pixels a side at most."""


def measured(metrics: Metrics, before: Metrics | None = None) -> Measured:
    """Return what was measured; DER and hDER where there is a network to compare with."""
    return Measured(
        acc=metrics.acc,
        asr=metrics.asr,
        ra=metrics.ra,
        tcr=metrics.tcr,
        der=None if before is None else der(before, metrics),
        hder=None if before is None else hder(before, metrics),
        recalls=metrics.recalls or (),
    )


def layer_facts(
    reports: Sequence[LayerReport],
    *,
    ranking: Mapping[str, NDArray[np.float64]] | None = None,
    pruned: Mapping[str, NDArray[np.bool_]] | None = None,
    norms: Mapping[str, Mapping[str, NDArray[np.float64]]] | None = None,
) -> tuple[LayerFacts, ...]:
    """Return what is told of each layer.

    Parameters
    ----------
    reports : sequence of LayerReport
        Of a repair.
    ranking : mapping of str to ndarray, shape (n_out,)
        What neurons were ranked by, for each layer's name.
    pruned : mapping of str to ndarray of bool, shape (n_out,)
        Which were pruned.
    norms : mapping of str to mapping of str to ndarray, shape (n_out,)
        Of the neurons of each network, as in ``{"backdoored": {"conv1": ...}, "fused": ...}``.
    """
    return tuple(
        LayerFacts(
            name=report.name,
            n_neurons=report.n_neurons,
            n_pruned=report.n_pruned,
            ranking=() if ranking is None else _values(ranking[report.name]),
            pruned=None if pruned is None else _places(pruned[report.name]),
            norms={
                network: _values(of_layers[report.name])
                for network, of_layers in (norms or {}).items()
            },
            ot_cost=report.ot_cost,
            duality_gap=report.duality_gap,
            seconds=report.seconds,
        )
        for report in reports
    )


def plan_map(layer: str, plan: Any, pruned: NDArray[np.bool_]) -> PlanMap:
    """Return a plan with pruned neurons first, summed over groups where it is too large.

    Parameters
    ----------
    layer : str
        The layer's name.
    plan : sparse array or ndarray, shape (n, n)
        Mass from pruned-network neurons to backdoored ones.
    pruned : ndarray of bool, shape (n,)
        Which neurons are pruned.
    """
    n, n_pruned = pruned.size, int(pruned.sum())
    size = min(n, PLAN_CELLS)
    # Groups hold either pruned neurons or kept ones, so that the border between them is sharp.
    pruned_cells = _share(n_pruned, n, size)
    group = np.empty(n, dtype=np.int64)
    group[pruned] = np.arange(n_pruned) * pruned_cells // max(n_pruned, 1)
    n_kept, kept_cells = n - n_pruned, size - pruned_cells
    group[~pruned] = pruned_cells + np.arange(n_kept) * kept_cells // max(n_kept, 1)
    entries = sparse.coo_array(plan)
    cells = np.zeros((size, size))
    np.add.at(cells, (group[entries.row], group[entries.col]), entries.data)
    return PlanMap(
        layer=layer,
        n_neurons=n,
        n_pruned=n_pruned,
        cells=tuple(map(_values, cells)),
        pruned_cells=pruned_cells,
    )


def png(image: NDArray[Any]) -> str:
    """Return an image as a PNG in base64, made smaller if it has more than `PIXELS` a side.

    Parameters
    ----------
    image : ndarray, shape (C, H, W)
        Grey (C = 1) or in colour (C = 3), uint8 or in [0, 1]; what is outside is clipped.

    Raises
    ------
    ValueError
        The shape is another, or a value is not finite.
    """
    values = np.asarray(image)
    if values.ndim != 3 or values.shape[0] not in (1, 3):
        raise ValueError(f"an image of shape {values.shape} is given; use (1 or 3, height, width)")
    if values.dtype != np.uint8:
        if not np.isfinite(values).all():
            raise ValueError("an image holds values that are not finite; mend them first")
        values = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    picture = Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))
    picture.thumbnail((PIXELS, PIXELS))
    return encoded(picture)


def encoded(picture: Image.Image) -> str:
    """Return a picture as a PNG in base64."""
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode("ascii")


def _share(part: int, whole: int, size: int) -> int:
    """Scale a part of a whole to cells; neither part nor rest vanishes."""
    if part in (0, whole):
        return size if part else 0
    return min(max(round(part * size / whole), 1), size - 1)


def _places(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _values(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(values.tolist())
