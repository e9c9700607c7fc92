"""The page's section on the choice: candidates, their curves, and the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from otbr_fast.report.html_blocks import Block, Figure, Figures, Row, Section, Table, Text
from otbr_fast.report.html_charts import N_COLORS, Curve, curve_chart
from otbr_fast.report.html_sections import RATES
from otbr_fast.report.html_words import (
    UNKNOWN,
    count,
    join_sentences,
    left_out,
    number,
    percent,
)
from otbr_fast.report.repair_report import Candidate, Choice, RepairReport

N_CANDIDATES = 60
"""Candidates that the table shows at most, and points that a curve has."""

N_PANELS = 12
"""Charts of one kind at most."""

_Value = Callable[[Candidate], float | None]
_Family = float | None  # the λ that the candidates of one curve share


def choice_section(report: RepairReport) -> Section | None:
    """Show what could have been chosen, and what was."""
    choice = report.choice
    if choice is None or not choice.candidates:
        return None
    blocks: list[Block] = [Text(choice.rule)] if choice.rule else []
    families = _families(choice)
    colors = {family: k for k, family in enumerate(families)}
    legend = [(f"s{k}", _name(family)) for family, k in colors.items()]
    if choice.chosen is not None:
        legend.append(("ring", "chosen"))
    by_proxy, by_data = _panels(report, choice, colors)
    if by_proxy:
        blocks.append(Figures(by_proxy, "Without data: what the choice went by", legend))
    if by_data:
        title = "With data: the candidates as measured, never used for the choice"
        blocks.append(Figures(by_data, title, legend))
    blocks.append(_table(report, choice))
    n_families = len({_family(candidate) for candidate in choice.candidates})
    note = left_out(len(families), n_families, "curves")
    if note and (by_proxy or by_data):
        blocks.append(Text(note, is_quiet=True))
    return Section("choice", "The choice", blocks)


def _family(candidate: Candidate) -> _Family:
    return candidate.lambda_


def _name(family: _Family) -> str:
    return "candidates" if family is None else f"λ = {family:g}"


def _families(choice: Choice) -> list[_Family]:
    """Return what the curves are of: the chosen one's first if not all can be drawn."""
    there = list(dict.fromkeys(_family(candidate) for candidate in choice.candidates))
    if len(there) > N_COLORS:
        chosen = [] if choice.chosen is None else [_family(choice.chosen)]
        there = [*chosen, *(family for family in there if family not in chosen)][:N_COLORS]
    return there


def _panels(
    report: RepairReport, choice: Choice, colors: dict[_Family, int]
) -> tuple[list[Figure], list[Figure]]:
    score = f"{choice.score_label} (higher is better)"
    wanted: list[tuple[str, bool, _Value]] = [(score, False, lambda c: c.score)]
    for proxy in report.proxies[: N_PANELS - 1]:
        title = f"{proxy.label} ({proxy.better} is better)" if proxy.better else proxy.label
        wanted.append((title, True, _proxy(proxy.key)))
    rates: list[tuple[str, bool, _Value]] = [(RATES[key], True, _rate(key)) for key in RATES]
    return tuple(  # type: ignore[return-value]
        [
            figure
            for title, is_fraction, value in kind
            if (figure := _panel(title, choice.candidates, value, is_fraction, colors))
        ]
        for kind in (wanted, rates)
    )


def _proxy(key: str) -> _Value:
    return lambda candidate: candidate.proxies.get(key)


def _rate(key: str) -> _Value:
    return lambda candidate: getattr(candidate.measured, key) if candidate.measured else None


def _panel(
    title: str,
    candidates: Sequence[Candidate],
    value: _Value,
    is_fraction: bool,
    colors: dict[_Family, int],
) -> Figure | None:
    """Draw a figure against γ; nothing if it is known of no candidate that has a γ."""
    curves = []
    for family, color in colors.items():
        points = [
            (candidate.gamma, value(candidate), candidate.chosen)
            for candidate in candidates
            if candidate.gamma is not None and _family(candidate) == family
        ]
        points = sorted(_thinned(points), key=lambda point: point[0])
        if any(y is not None for _, y, _ in points):
            curves.append(Curve(_name(family), color, points))
    return Figure(curve_chart(title, "γ", curves, is_fraction), title) if curves else None


def _thinned(
    points: Sequence[tuple[float, float | None, bool]],
) -> list[tuple[float, float | None, bool]]:
    step = -(-len(points) // N_CANDIDATES) or 1
    return [point for k, point in enumerate(points) if k % step == 0 or point[2]]


def _table(report: RepairReport, choice: Choice) -> Table:
    candidates = choice.candidates
    shown = [c for k, c in enumerate(candidates) if k < N_CANDIDATES or c.chosen]
    numbers: dict[str, Callable[[Candidate], str]] = {
        "γ": lambda c: number(c.gamma),
        "λ": lambda c: number(c.lambda_),
        "pruned": lambda c: count(c.n_pruned),
        choice.score_label: lambda c: number(c.score),
    }
    for proxy in report.proxies[: N_PANELS - 1]:
        numbers[f"{proxy.label}, %"] = _told(_proxy(proxy.key), percent)
    for key, name in RATES.items():
        numbers[f"{name}, %"] = _told(_rate(key), percent)
    notes: dict[str, Callable[[Candidate], str]] = {"note": lambda c: "chosen" if c.chosen else ""}
    columns = {
        name: cell
        for name, cell in {**numbers, **notes}.items()
        if any(cell(candidate) not in ("", UNKNOWN) for candidate in shown)
    }
    return Table(
        "Candidates",
        list(columns),
        [Row([cell(c) for cell in columns.values()], "marked" if c.chosen else "") for c in shown],
        n_text=0,
        n_notes=int("note" in columns),
        note=join_sentences(left_out(len(shown), len(candidates), "candidates")),
    )


def _told(value: _Value, tell: Callable[[float | None], str]) -> Callable[[Candidate], str]:
    return lambda candidate: tell(value(candidate))
