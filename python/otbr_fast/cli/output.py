"""What commands show: progress on stderr where a person watches, data on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from otbr_fast.repair import Progress


def print_json(document: object) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def print_text(*paragraphs: str) -> None:
    """Print paragraphs on stdout, wrapped to the terminal."""
    Console().print(*paragraphs, sep="\n\n", markup=False, highlight=False)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a callback of (stage, done, total) that draws a bar a stage on stderr.

    Nothing is drawn where stderr is not a terminal.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage, done, total: None
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            elif done < bars.tasks[tasks[stage]].completed:  # once more, for the next γ
                bars.reset(tasks[stage], total=total)
            bars.update(tasks[stage], completed=done)

        yield tell
