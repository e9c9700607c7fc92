"""What was found, as tables: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otbr_fast.bench.results import Cell, Entry, Results
from otbr_fast.bench.solvers import OURS, Task
from otbr_fast.bench.summary import (
    cells_of,
    fastest_peer,
    least_ratio,
    median_seconds,
    ratio,
    solvers_in,
)

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_TITLES: dict[Task, str] = {
    "exact": "Exact transport",
    "entropic": "Entropic transport, time to an L1 marginal error of {target:g}",
    "distances": "Euclidean distances",
}
_REFERENCES: dict[Task, str] = {
    "exact": "pot",
    "entropic": "pot-log",
    "distances": "torch-cdist",
}
_WORDS = {
    "failed": "failed",
    "not_reached": "not reached",
    "skipped": "skipped",
    "not_applicable": "–",
}

_NOT_PACKAGES = ("platform", "threads", "build_profile")


@dataclass(frozen=True)
class Table:
    """A table of text; the first columns up to `n_names` are names, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_names: int
    notes: tuple[str, ...] = ()


def wide_tables(results: Results) -> list[Table]:
    """Return, for each task and dtype, times and memory with a column a contestant."""
    tables = []
    for title, cells in _chapters(results):
        tables += [_times(results, title, cells), _memory(title, cells)]
    return tables


def long_tables(results: Results) -> list[Table]:
    """Return, for each task and dtype, a table with a row a contestant, for narrow terminals."""
    return [_long(results, title, cells) for title, cells in _chapters(results)]


def summary_tables(results: Results) -> list[Table]:
    """Return, for each task, how many times as fast as its best-known peer ours is."""
    dtype = results.plan.dtypes[0]
    chapters = _chapters(results)
    return [_summary(results, title, cells) for title, cells in chapters if cells[0].dtype == dtype]


def environment_text(results: Results) -> str:
    """Return in a sentence or two where the results come from, and who was not there."""
    facts, plan = results.environment, results.plan
    machine = [facts.cpu, f"{facts.cores} cores", facts.versions.get("platform")]
    if facts.memory is not None:
        machine.insert(2, f"{facts.memory / 2**30:.0f} GiB")
    if facts.load is not None:
        machine.append(f"load {facts.load:.1f} at the start")
    told = (
        f"{facts.date[:10]}; {', '.join(map(str, machine))}; {', '.join(_versions(results))}. "
        f"Medians of {plan.repeats} or more paired runs. Command: {facts.command}."
    )
    if not results.complete:
        told += " Interrupted: what was finished is shown."
    absent = [f"{entry.label} ({entry.task}: {entry.reason})" for entry in results.absent]
    return f"{told} Not there: {'; '.join(absent)}." if absent else told


def to_markdown(table: Table) -> str:
    """Return a table as Markdown, its notes below."""
    rule = ["---"] * table.n_names + ["---:"] * (len(table.header) - table.n_names)
    lines = [_markdown_row(row) for row in (table.header, tuple(rule), *table.rows)]
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"**{table.title}**", "", *lines, *([""] if notes else []), *notes])


def to_rich(table: Table) -> RichTable:
    """Return a table for a terminal, its notes as the caption."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = RichTable(
        title=escape(table.title),
        caption=escape("\n".join(table.notes)) or None,
        box=box.SIMPLE_HEAD,
        header_style="bold",
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
    for i, name in enumerate(table.header):
        shown.add_column(name, justify="left" if i < table.n_names else "right")
    for row in table.rows:
        shown.add_row(*map(escape, row))
    return shown


def _versions(results: Results) -> list[str]:
    facts = results.environment.versions
    packages = {k: v for k, v in facts.items() if v and k not in _NOT_PACKAGES}
    entries = (entry for cell in results.cells for entry in cell.entries)
    old = {entry.label: entry.version for entry in entries if entry.solver == "pot-old"}
    return [f"{name} {version}" for name, version in {**packages, **old}.items() if version]


def _chapters(results: Results) -> Iterator[tuple[str, list[Cell]]]:
    for task in results.plan.grids:
        for dtype in results.plan.dtypes:
            for threads in results.plan.threads:
                cells = cells_of(results, task, dtype, threads)
                if cells:
                    s = "" if threads == 1 else "s"
                    yield f"{_title(results, task)}, {dtype}, {threads} thread{s}", cells


def _long(results: Results, title: str, cells: Sequence[Cell]) -> Table:
    names, limit = _name_header(cells), results.plan.time_limit
    rows = []
    for cell in cells:
        taking_part = [entry for entry in cell.entries if entry.status != "not_applicable"]
        for i, entry in enumerate(taking_part):
            texts = _seconds_text(cell, entry, limit), _ratio_text(cell, entry, limit)
            memory = "" if entry.memory is None else _number(entry.memory / 1e6)
            shown = _names(cell) if i == 0 else ("",) * len(names)
            rows.append((*shown, entry.label, *texts, memory))
    return Table(
        title,
        (*names, "solver", _unit(cells), "times ours", "MB"),
        tuple(rows),
        len(names) + 1,
        _notes(cells),
    )


def _times(results: Results, title: str, cells: Sequence[Cell]) -> Table:
    solvers = solvers_in(cells)
    limit = results.plan.time_limit
    rows = []
    for cell in cells:
        texts = (_time_text(cell, cell.entry(name), limit) for name in solvers)
        rows.append((*_names(cell), *texts))
    return Table(
        f"{title}: {_unit(cells)} (times ours)",
        (*_name_header(cells), *solvers.values()),
        tuple(rows),
        len(_name_header(cells)),
        _notes(cells),
    )


def _memory(title: str, cells: Sequence[Cell]) -> Table:
    solvers = solvers_in(cells)
    rows = []
    for cell in cells:
        texts = (_memory_text(cell, cell.entry(name)) for name in solvers)
        rows.append((*_names(cell), *texts))
    return Table(
        f"{title}: memory beyond the problem's own, MB (times a matrix of its size)",
        (*_name_header(cells), *solvers.values()),
        tuple(rows),
        len(_name_header(cells)),
    )


def _summary(results: Results, title: str, cells: Sequence[Cell]) -> Table:
    task = cells[0].task
    reference = _REFERENCES[task]
    label = solvers_in(cells).get(reference, reference)
    sizes = sorted({max(cell.n, cell.m) for cell in cells})
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    for cell in cells:
        texts = rows.setdefault(_kind(cell), {})
        texts[max(cell.n, cell.m)] = _summary_text(cell, reference, results.plan.time_limit)
    named = ("problem", "reg / max(M)") if task == "entropic" else ("problem",)
    return Table(
        f"{title}: times as fast as {label} (and as the fastest other peer)",
        (*named, *(f"n = {size}" for size in sizes)),
        tuple((*kind, *(texts.get(size, "") for size in sizes)) for kind, texts in rows.items()),
        len(named),
    )


def _summary_text(cell: Cell, reference: str, limit: float) -> str:
    if cell.ours is None:
        return _failure(cell.entry(OURS))
    entry, peer = cell.entry(reference), fastest_peer(cell)
    against = "–" if entry is None else _ratio_text(cell, entry, limit) or _failure(entry)
    if peer is None or peer.solver == reference:
        return against
    return f"{against} ({peer.label}: {_ratio_text(cell, peer, limit)})"


def _time_text(cell: Cell, entry: Entry | None, limit: float) -> str:
    if entry is None:
        return "–"
    compared = "" if entry.solver == OURS else _ratio_text(cell, entry, limit)
    told = f" ({compared})" if compared else ""
    return _seconds_text(cell, entry, limit) + told


def _seconds_text(cell: Cell, entry: Entry, limit: float) -> str:
    if entry.status == "time_limit":
        return f"> {limit:g} s"
    if entry.status != "ok" or entry.agrees is False:
        return _failure(entry)
    seconds = median_seconds(entry)
    return _number(seconds) if cell.calls == 1 else f"{cell.calls / seconds:,.0f}/s"


def _unit(cells: Sequence[Cell]) -> str:
    return "seconds" if all(cell.calls == 1 for cell in cells) else "seconds (or calls/s)"


def _memory_text(cell: Cell, entry: Entry | None) -> str:
    if entry is None or entry.memory is None:
        return "–"
    matrix = cell.n * cell.m * (4 if cell.dtype == "float32" else 8)
    return f"{_number(entry.memory / 1e6)} ({_number(entry.memory / matrix)})"


def _ratio_text(cell: Cell, entry: Entry, limit: float) -> str:
    exactly, least = ratio(cell, entry), least_ratio(cell, entry, limit)
    if exactly is not None:
        return _number(exactly)
    return "" if least is None else f"> {_number(least)}"


def _number(value: float) -> str:
    """Return three digits that count, and never an exponent."""
    return (
        f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):.10f}".rstrip("0").rstrip(".")
    )


def _failure(entry: Entry | None) -> str:
    if entry is None:
        return "–"
    return "disagrees" if entry.agrees is False else _WORDS.get(entry.status, "time limit")


def _notes(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Say why somebody's times are not there, where it is not the kind of problem."""
    notes: dict[str, None] = {}
    for cell in cells:
        for entry in cell.entries:
            where = f"{entry.label}, {' '.join(_names(cell))}"
            if entry.agrees is False:
                notes[f"{where}: its result {entry.value!r} is not that of the others"] = None
            elif entry.status in ("failed", "not_reached", "skipped"):
                notes[f"{where}: {entry.reason}"] = None
    return tuple(notes)


def _title(results: Results, task: Task) -> str:
    return _TITLES[task].format(target=results.plan.target)


def _kind(cell: Cell) -> tuple[str, ...]:
    family = cell.family if cell.layer is None else f"{cell.family}: {cell.layer}"
    return (family,) if cell.reg is None else (family, f"{cell.reg:g}")


def _names(cell: Cell) -> tuple[str, ...]:
    family, *reg = _kind(cell)
    return family, str(cell.n) if cell.n == cell.m else f"{cell.n} x {cell.m}", *reg


def _name_header(cells: Sequence[Cell]) -> tuple[str, ...]:
    return ("problem", "size", "reg / max(M)")[: len(_names(cells[0]))]


def _markdown_row(texts: Sequence[str]) -> str:
    escaped = (text.replace("|", "\\|") for text in texts)
    return f"| {' | '.join(escaped)} |"
