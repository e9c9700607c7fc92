"""Charts of layers: what neurons were ranked by, where pruned ones lie, norms, a plan."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from otbr_fast.report.html_svg import WIDTH, Point, Scale, Svg, ticks
from otbr_fast.report.html_words import count, number, short
from otbr_fast.report.repair_report import LayerFacts, PlanMap

POINTS = 256
"""Neurons, or groups of them, that one curve or strip is made of at most."""

_LEFT, _RIGHT = 100.0, 296.0
_ROW = 22.0
_BOTTOM = 34.0
_BINS = 53
_SHADES = 5  # of a strip's cells that stand for several neurons
_TINT = (46, 111, 214)  # of the plan's cells, on a light page and on a dark one


def ranking_chart(layers: Sequence[LayerFacts], label: str) -> Markup:
    """Draw a ridge a layer: how its neurons' values are distributed, pruned ones on top."""
    known = [_array(layer.ranking) for layer in layers]
    everything = np.concatenate(known)
    finite = everything[np.isfinite(everything)]
    tell, low, high = _axis_of(finite)
    scale = Scale(low, high, _LEFT, _RIGHT)
    words = "How many neurons of each layer have which value; those that were pruned stand out"
    bottom = _ROW * len(layers) + 6
    chart = Svg(f"{label} of neurons, layer by layer", words, bottom + _BOTTOM)
    _axis(chart, scale, bottom, tell is np.log10, label)
    edges = np.linspace(low, high, _BINS + 1)
    for i, (layer, values) in enumerate(zip(layers, known, strict=True)):
        base = 4 + _ROW * (i + 1) - 3
        _name_row(chart, layer, base)
        _ridge(chart, tell(values), _mask(layer), edges, scale, base)
    return chart.markup()


def _ridge(
    chart: Svg,
    values: NDArray[np.float64],
    pruned: NDArray[np.bool_],
    edges: NDArray[np.float64],
    scale: Scale,
    base: float,
) -> None:
    """Stack pruned on kept; heights are square roots, so that single neurons are seen."""
    known = np.isfinite(values)
    inside = np.clip(values, edges[0], edges[-1])
    kept = np.histogram(inside[known & ~pruned], edges)[0]
    gone = np.histogram(inside[known & pruned], edges)[0]
    both = kept + gone
    unit = (_ROW - 4) / max(float(np.sqrt(both.max())), 1.0)
    height = unit * np.sqrt(both)
    share = np.divide(kept, both, out=np.zeros(_BINS), where=both > 0)
    chart.line((_LEFT, base), (_RIGHT, base), "grid")
    width = (scale.end - scale.start) / _BINS
    parts = {"kept": (share * height, 0 * height), "pruned": ((1 - share) * height, share * height)}
    for style, (tall, floor) in parts.items():
        boxes = (
            (scale.start + bin_ * width, base - floor[bin_] - tall[bin_], width - 0.4, tall[bin_])
            for bin_ in np.flatnonzero(tall)
        )
        chart.rects(boxes, style)


def position_chart(layers: Sequence[LayerFacts]) -> Markup:
    """Draw a strip a layer, from its first neuron to its last: where the pruned ones lie."""
    scale = Scale(0.0, 1.0, _LEFT, _RIGHT)
    bottom = _ROW * len(layers) + 6
    words = "Each layer from its first neuron to its last; pruned neurons are marked"
    chart = Svg("Where pruned neurons lie", words, bottom + _BOTTOM)
    for i, layer in enumerate(layers):
        base = 4 + _ROW * (i + 1) - 3
        _name_row(chart, layer, base)
        chart.rect((_LEFT, base - 14), _RIGHT - _LEFT, 14, "strip")
        n = layer.n_neurons
        cells = min(n, POINTS)
        held = np.bincount(np.arange(n) * cells // n, minlength=cells)
        gone = np.bincount(np.array(layer.pruned or (), int) * cells // n, minlength=cells)
        width = (_RIGHT - _LEFT) / cells
        strength = np.ceil(_SHADES * gone / held)
        for shade in range(1, _SHADES + 1):
            places = np.flatnonzero(strength == shade)
            boxes = ((scale(cell / cells), base - 14, width, 14.0) for cell in places)
            chart.rects(boxes, "pruned", shade / _SHADES)
    for share, words in ((0.0, "first neuron"), (1.0, "last")):
        chart.text((scale(share), bottom + 15), words, "small" if share == 0 else "end small")
    return chart.markup()


def norm_chart(layers: Sequence[LayerFacts], networks: Sequence[str]) -> Markup:
    """Draw for each layer and network where the neurons' norms lie: range, middle half, median."""
    step = 7.0
    row = step * len(networks) + 8
    spreads = {
        (layer.name, name): _spread(_array(layer.norms[name]))
        for layer in layers
        for name in networks
        if layer.norms.get(name)
    }
    high = max((float(spread[-1]) for spread in spreads.values()), default=1.0) or 1.0
    scale = Scale(0.0, high * 1.02, _LEFT, WIDTH - 8)
    bottom = row * len(layers) + 6
    words = "Least, middle half, median and largest norm of each layer's neurons, by network"
    chart = Svg("Norms of neurons", words, bottom + _BOTTOM)
    _axis(chart, scale, bottom, False, "Euclidean norm of a neuron's weights")
    for i, layer in enumerate(layers):
        y = 4 + row * i
        chart.text((_LEFT - 8, y + row / 2 + 3), short(layer.name), "end", layer.name)
        for j, name in enumerate(networks):
            if (layer.name, name) not in spreads:
                continue
            spread = spreads[layer.name, name]
            told = ", ".join(number(float(value)) for value in spread)
            at = y + 4 + step * (j + 0.5)
            tip = f"{layer.name}, {name}: {told}"
            places = [scale(float(value)) for value in spread]
            chart.line((places[0], at), (places[4], at), f"thin s{j}", tip)
            chart.line((places[1], at), (places[3], at), f"thick s{j}", tip)
            chart.dot((places[2], at), 2.4, "median", tip)
    return chart.markup()


def order_chart(layer: LayerFacts, networks: Sequence[str], label: str) -> Markup:
    """Draw one layer's norms in each network, neurons in the order of their ranking."""
    order = np.argsort(-_array(layer.ranking), kind="stable")
    left, right, top, bottom = 46.0, WIDTH - 10, 10.0, 168.0
    curves = [_means(_array(layer.norms[name])[order]) for name in networks]
    high = max(float(np.nanmax(curve)) for curve in curves) or 1.0
    up = Scale(0.0, high * 1.05, bottom, top)
    words = f"Neurons by falling {label}; the pruned ones are at the left"
    chart = Svg(f"Norms in {layer.name}", words, bottom + 20)
    for tick in ticks(0.0, up.high, 4):
        chart.line((left, up(tick)), (right, up(tick)), "grid")
        chart.text((left - 6, up(tick) + 4), number(tick), "end small")
    chart.line((left, bottom), (right, bottom), "axis")
    chart.text((left, bottom + 15), f"largest {label}", "small")
    chart.text((right, bottom + 15), "smallest", "end small")
    across = Scale(0, max(len(curves[0]) - 1, 1), left, right)
    for j, curve in enumerate(curves):
        points: list[Point] = [
            (across(k), up(float(value))) for k, value in enumerate(curve) if np.isfinite(value)
        ]
        chart.path(points, f"curve s{j}")
    return chart.markup()


def plan_chart(plan: PlanMap) -> Markup:
    """Draw a plan as a heat map; cells are tinted by the cube root of their mass."""
    side, left, top = WIDTH - 20, 10.0, 24.0
    size = len(plan.cells)
    words = (
        f"Mass from the pruned network's neurons, in rows, to the backdoored one's, in columns; "
        f"{count(plan.n_pruned)} pruned neurons come first"
    )
    chart = Svg(f"Transport plan of {plan.layer}", words, top + side + 20)
    chart.rect((left, top), side, side, "strip")
    chart.image((left, top), side, _heat(plan))
    border = side * plan.pruned_cells / size
    if 0 < plan.pruned_cells < size:
        chart.line((left + border, top - 6), (left + border, top + side), "threshold")
        chart.line((left - 6, top + border), (left + side, top + border), "threshold")
        chart.text((left, top - 9), "pruned", "suspect small")
    chart.text((left + side, top - 9), "columns: to the backdoored network's neurons", "end small")
    chart.text((left, top + side + 15), "rows: from the pruned network's neurons", "small")
    return chart.markup()


def _heat(plan: PlanMap) -> str:
    """Return a PNG whose opacity tells the mass, so that it suits any background."""
    mass = np.array([_array(row) for row in plan.cells])
    strength = np.cbrt(np.clip(np.nan_to_num(mass), 0, None))
    alpha = np.round(255 * strength / (strength.max() or 1.0)).astype(np.uint8)
    palette = Image.fromarray(alpha, mode="P")
    palette.putpalette(_TINT * 256)
    content = io.BytesIO()
    palette.save(content, format="PNG", optimize=True, transparency=bytes(range(256)))
    return base64.b64encode(content.getvalue()).decode("ascii")


def _axis_of(
    values: NDArray[np.float64],
) -> tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float, float]:
    """Return how to tell values apart on an axis, and its ends: by logarithms if they suit."""
    if not values.size:
        return (lambda v: v), 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 20:
        return np.log10, float(np.log10(low)), float(np.log10(high))
    return (lambda v: v), low, high if high > low else low + 1.0


def _axis(chart: Svg, scale: Scale, bottom: float, is_log: bool, label: str) -> None:
    for tick in ticks(scale.low, scale.high, 4):
        told = number(10.0**tick) if is_log else number(tick)
        chart.line((scale(tick), 2), (scale(tick), bottom), "grid")
        chart.text((scale(tick), bottom + 15), told, "middle small")
    told = f"{label}, logarithmic" if is_log else label
    chart.text(((scale.start + scale.end) / 2, bottom + 30), told, "middle small")


def _name_row(chart: Svg, layer: LayerFacts, base: float) -> None:
    chart.text((_LEFT - 8, base - 3), short(layer.name), "end", layer.name)
    told = f"{count(layer.n_pruned)}/{count(layer.n_neurons)}"
    style = "end small" if layer.n_pruned == 0 else "end small suspect"
    chart.text((WIDTH, base - 3), told, style, f"{told} neurons pruned")


def _mask(layer: LayerFacts) -> NDArray[np.bool_]:
    mask = np.zeros(layer.n_neurons, dtype=np.bool_)
    mask[list(layer.pruned or ())] = True
    return mask


def _array(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = values[np.isfinite(values)]
    return np.quantile(known, (0, 0.25, 0.5, 0.75, 1)) if known.size else np.zeros(5)


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over groups of neighbours, where there are too many values to draw."""
    groups = np.array_split(values, min(len(values), POINTS))
    return np.array([np.nan if np.isnan(group).all() else np.nanmean(group) for group in groups])
