"""What commands show: progress on stderr where a person watches, data on stdout."""

from __future__ import annotations

import json
import time
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
            task = bars.tasks[tasks[stage]]
            if done < task.completed or total != task.total:  # once more, for the next γ
                bars.reset(tasks[stage], total=total)
            bars.update(tasks[stage], completed=done)

        yield tell


class StageClock:
    """Passes progress on, and adds up what each stage takes: the time since the last call.

    Parameters
    ----------
    tell : callable
        Where the progress goes.
    """

    def __init__(self, tell: Progress) -> None:
        self._tell, self._last = tell, time.perf_counter()
        self._seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Count the time since the last call as this stage's."""
        self._count(stage)
        self._tell(stage, done, total)

    def stop(self) -> dict[str, float]:
        """Return the seconds of each stage, in the order they began."""
        self._count("the rest")
        return dict(self._seconds)

    def _count(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
        self._last = now
