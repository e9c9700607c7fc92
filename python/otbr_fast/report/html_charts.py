"""Charts of verdict, recalls and candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from otbr_fast.report.html_svg import WIDTH, Scale, Svg, around, ticks
from otbr_fast.report.html_words import cut, number, p_equals, percent
from otbr_fast.report.repair_report import ClassVerdict, Subject, Verdict

N_COLORS = 6
"""Curves in one chart at most: more cannot be told apart."""

_LEFT, _RIGHT = 100.0, 294.0
_ROW = 19.0
_BOTTOM = 22.0


def verdict_chart(verdict: Verdict, shown: Sequence[ClassVerdict], subject: Subject) -> Markup:
    """Draw a bar a class: its statistic, with the null band behind."""
    band = verdict.null_band
    values = [one.statistic for one in shown]
    low, high = around([*values, *(band or ())], zero=True)
    scale = Scale(low, high, _LEFT, _RIGHT)
    bottom = _ROW * len(shown) + 6
    chart = Svg("Statistic of each class", _verdict_words(verdict, subject), bottom + _BOTTOM)
    if band is not None:
        left, right = (scale(edge) for edge in sorted(band))
        tip = f"null band {number(band[0])} to {number(band[1])}"
        chart.rect((left, 2), right - left, bottom - 2, "band", tip)
    _value_axis(chart, scale, bottom)
    for i, one in enumerate(shown):
        y = 4 + _ROW * i
        name = subject.label(one.index)
        mark = " suspect" if one.suspect else ""
        chart.text((_LEFT - 8, y + 12), cut(name, 14), f"end{mark}", name)
        tip = f"class {name}: {number(one.statistic)}, {p_equals(one.p_value)}"
        if one.statistic is not None:
            left, right = sorted((scale(0.0), scale(one.statistic)))
            chart.rect((left, y + 3), right - left, _ROW - 7, f"bar{mark}", tip)
        chart.text((WIDTH, y + 12), p_equals(one.p_value), f"end small{mark}")
    return chart.markup()


def _verdict_words(verdict: Verdict, subject: Subject) -> str:
    suspects = ", ".join(subject.label(one.index) for one in verdict.suspects)
    return f"Suspected: {suspects or 'none'}. The table beside holds the numbers."


def recall_chart(
    rows: Sequence[tuple[str, float | None, float | None, bool]],
) -> Markup:
    """Draw two dots a class, recall before and after; a row is (name, before, after, marked)."""
    scale = Scale(0.0, 1.0, _LEFT, WIDTH - 12)
    bottom = _ROW * len(rows) + 6
    words = "Recall of each class before and after, in percent"
    chart = Svg("Recall of each class", words, bottom + _BOTTOM)
    _value_axis(chart, scale, bottom, percent_tick)
    for i, (name, before, after, is_marked) in enumerate(rows):
        y = 4 + _ROW * i + _ROW / 2
        chart.text((_LEFT - 8, y + 3), cut(name, 14), f"end {'suspect' if is_marked else ''}", name)
        tip = f"{name}: {percent(before)} before, {percent(after)} after"
        if before is not None and after is not None:
            chart.line((scale(before), y), (scale(after), y), "link", tip)
        if before is not None:
            chart.dot((scale(before), y), 4, "hollow", tip)
        if after is not None:
            chart.dot((scale(after), y), 4, "suspect" if is_marked else "s0", tip)
    return chart.markup()


@dataclass(frozen=True)
class Curve:
    """A line: its colour (0 to `N_COLORS` - 1), its points (x, y, chosen) by growing x."""

    label: str
    color: int
    points: Sequence[tuple[float, float | None, bool]]


def curve_chart(title: str, x_label: str, curves: Sequence[Curve], is_fraction: bool) -> Markup:
    """Draw curves over a common axis; the chosen point is ringed."""
    left, right, top, bottom = 46.0, WIDTH - 10, 10.0, 168.0
    xs = [x for curve in curves for x, _, _ in curve.points]
    ys = [y for curve in curves for _, y, _ in curve.points]
    across = Scale(*around(xs), left, right)
    low, high = _fraction_range(ys) if is_fraction else around(ys)
    up = Scale(low, high, bottom, top)
    told = percent_tick if is_fraction else number
    chart = Svg(title, f"{len(curves)} curves over {x_label}", bottom + 34)
    for tick in ticks(low, high):
        chart.line((left, up(tick)), (right, up(tick)), "grid")
        chart.text((left - 6, up(tick) + 4), told(tick), "end small")
    for tick in ticks(across.low, across.high, 6):
        chart.line((across(tick), bottom), (across(tick), bottom + 4), "axis")
        chart.text((across(tick), bottom + 15), f"{tick:g}", "middle small")
    chart.line((left, bottom), (right, bottom), "axis")
    chart.text(((left + right) / 2, bottom + 30), x_label, "middle small")
    for curve in curves:
        _draw_curve(chart, curve, across, up, told)
    return chart.markup()


def _draw_curve(
    chart: Svg, curve: Curve, across: Scale, up: Scale, told: Callable[[float], str]
) -> None:
    piece: list[tuple[float, float]] = []
    for x, y, _ in curve.points:
        if y is None:
            chart.path(piece, f"curve s{curve.color}")
            piece = []
        else:
            piece.append((across(x), up(y)))
    chart.path(piece, f"curve s{curve.color}")
    for x, y, is_chosen in curve.points:
        if y is None:
            continue
        at = (across(x), up(y))
        chosen = ", chosen" if is_chosen else ""
        tip = f"{curve.label}, at {x:g}: {told(y)}{chosen}"
        if is_chosen:
            chart.dot(at, 7.5, "ring", tip)
        chart.dot(at, 3, f"s{curve.color}", tip)


def percent_tick(value: float) -> str:
    """Write a fraction on an axis."""
    return f"{100 * value:.4g}%"


def _fraction_range(values: Sequence[float | None]) -> tuple[float, float]:
    low, high = around(values)
    return max(low, -0.02), min(high, 1.02)


def _value_axis(
    chart: Svg, scale: Scale, bottom: float, told: Callable[[float], str] = number
) -> None:
    for tick in ticks(scale.low, scale.high, 4):
        chart.line((scale(tick), 2), (scale(tick), bottom), "grid")
        chart.text((scale(tick), bottom + 15), told(tick), "middle small")
