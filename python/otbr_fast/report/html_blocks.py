"""What a page is made of: sections of blocks, which the template knows how to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from markupsafe import Markup


@dataclass(frozen=True)
class Text:
    """A paragraph; a quiet one is in small print."""

    kind: ClassVar[str] = "text"
    text: str
    is_quiet: bool = False


@dataclass(frozen=True)
class Tile:
    """One figure to catch the eye, with what it was before."""

    label: str
    value: str
    was: str = ""
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """A row of tiles."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Row:
    """Cells of a table; a row stands out if it is "marked" or the "total"."""

    cells: Sequence[str]
    style: Literal["", "marked", "total"] = ""


@dataclass(frozen=True)
class Table:
    """A table that scrolls in its box.

    Parameters
    ----------
    caption : str
        What it holds.
    columns : sequence of str
        Headings.
    rows : sequence of Row
        As many cells as headings.
    n_text, n_notes : int
        How many columns, from the left and from the right, are words and not numbers.
    note : str
        Small print below.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    n_text: int = 1
    n_notes: int = 0
    note: str = ""

    def style(self, place: int) -> str:
        """Tell what a column, counted from 0, holds: numbers, notes or short words."""
        if place >= len(self.columns) - self.n_notes:
            return "note"
        return "word" if place < self.n_text else "number"


@dataclass(frozen=True)
class Figure:
    """A chart, what is above and below it, what its colours mean: (class of a swatch, words)."""

    chart: Markup
    title: str = ""
    caption: str = ""
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Figures:
    """Charts side by side, or below each other on a phone."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]
    title: str = ""
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Card:
    """Images (PNG in base64, and words for who cannot see them) above a few lines."""

    images: Sequence[tuple[str, str]]
    lines: Sequence[str]
    is_marked: bool = False


@dataclass(frozen=True)
class Gallery:
    """Cards side by side."""

    kind: ClassVar[str] = "gallery"
    title: str
    cards: Sequence[Card]
    note: str = ""


@dataclass(frozen=True)
class Code:
    """Text as it is, in a box that scrolls."""

    kind: ClassVar[str] = "code"
    label: str
    text: str


@dataclass(frozen=True)
class Terms:
    """Words and their meanings."""

    kind: ClassVar[str] = "terms"
    terms: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Beside:
    """Blocks side by side, or below each other on a phone."""

    kind: ClassVar[str] = "beside"
    blocks: Sequence[Block]


Block: TypeAlias = "Text | Tiles | Table | Figures | Gallery | Code | Terms | Beside"


@dataclass(frozen=True)
class Section:
    """A part of the page, with a place that links lead to."""

    anchor: str
    title: str
    blocks: Sequence[Block]
