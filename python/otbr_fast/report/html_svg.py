"""Drawing in SVG: elements, scales and ticks. Colours are classes, which the page's style fills."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup

WIDTH = 360.0
"""Of every chart, in the units of its text: about a phone's width, so that nothing shrinks."""

Point = tuple[float, float]

Box = tuple[float, float, float, float]
"""Left, top, width and height."""


@dataclass(frozen=True)
class Scale:
    """A linear map from values to places; values outside end at the border."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def around(values: Iterable[float | None], *, zero: bool = False) -> tuple[float, float]:
    """Return a range that holds all known values, with some air; with `zero`, 0 as well."""
    known = [value for value in values if value is not None] + ([0.0] if zero else [])
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    air = (high - low) * 0.05
    return (low if zero and low == 0 else low - air, high + air)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers in a range: as many as there can be, but `most` at most.

    Of five, at least two are there.
    """
    unit = 10.0 ** math.floor(math.log10((high - low) / max(most, 1)) - 1e-9)
    for step in (unit * k for k in (1, 2, 5, 10, 20)):
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [k * step for k in range(first, last + 1)]


class Svg:
    """A chart under construction.

    Parameters
    ----------
    title, description : str
        What it shows, and what is to be seen: all that some readers get.
    height : float
        In the units of `WIDTH`.
    """

    def __init__(self, title: str, description: str, height: float) -> None:
        self.height = height
        facts = {
            "viewBox": f"0 0 {_text(WIDTH)} {_text(height)}",
            "role": "img",
            "aria-label": f"{title}. {description}",
            "class": "chart",
        }
        self._root = ElementTree.Element("svg", facts)

    def line(self, a: Point, b: Point, style: str, tip: str = "") -> None:
        """Draw from a to b."""
        places = {"x1": a[0], "y1": a[1], "x2": b[0], "y2": b[1]}
        self._add("line", style, places, tip=tip)

    def rect(self, corner: Point, width: float, height: float, style: str, tip: str = "") -> None:
        """Fill a rectangle; one too thin to be seen is made visible."""
        places = {"x": corner[0], "y": corner[1], "width": max(width, 0.5), "height": height}
        self._add("rect", style, places, tip=tip)

    def rects(self, boxes: Iterable[Box], style: str, opacity: float = 1.0) -> None:
        """Fill many rectangles as one shape, which is ten times as short; none if there is none."""
        steps = [
            f"M{_text(x)} {_text(y)}h{_text(w)}v{_text(h)}h{_text(-w)}z" for x, y, w, h in boxes
        ]
        facts = {} if opacity == 1 else {"fill-opacity": _text(opacity)}
        if steps:
            self._add("path", style, {}, d="".join(steps), **facts)

    def dot(self, at: Point, radius: float, style: str, tip: str = "") -> None:
        """Draw a point."""
        self._add("circle", style, {"cx": at[0], "cy": at[1], "r": radius}, tip=tip)

    def text(self, at: Point, content: str, style: str = "", tip: str = "") -> None:
        """Write; `style` may hold "end" or "middle" for how it is aligned."""
        self._add("text", style, {"x": at[0], "y": at[1]}, content=content, tip=tip)

    def path(self, points: Sequence[Point], style: str, *, closed: bool = False) -> None:
        """Draw through points; a closed one is filled."""
        if not points:
            return
        steps = "L".join(f"{_text(x)} {_text(y)}" for x, y in points)
        self._add("path", style, {}, d=f"M{steps}{'Z' if closed else ''}")

    def image(self, corner: Point, side: float, png: str) -> None:
        """Place a square PNG, given in base64, without smoothing it."""
        places = {"x": corner[0], "y": corner[1], "width": side, "height": side}
        self._add("image", "pixels", places, href=f"data:image/png;base64,{png}")

    def markup(self) -> Markup:
        """Return the drawing; all text in it is escaped."""
        return Markup(ElementTree.tostring(self._root, encoding="unicode"))

    def _add(
        self,
        tag: str,
        style: str,
        places: dict[str, float],
        *,
        content: str = "",
        tip: str = "",
        **facts: str,
    ) -> None:
        numbers = {name: _text(value) for name, value in places.items()}
        attributes = {**({"class": style} if style else {}), **numbers, **facts}
        element = ElementTree.SubElement(self._root, tag, attributes)
        element.text = content
        if tip:
            ElementTree.SubElement(element, "title").text = tip


def _text(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
