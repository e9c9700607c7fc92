"""What the runner and a contestant's process say to each other: a JSON document a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from otbr_fast.bench.solvers import Task


@dataclass(frozen=True)
class Order:
    """Which contestant a process is, and the problem (a file) that it gets."""

    task: Task
    solver: str
    problem: str
    threads: int
    calls: int
    reg: float | None = None


@dataclass(frozen=True)
class Answer:
    """What one timed run gave.

    Parameters
    ----------
    seconds, cpu_seconds : float
        Wall and processor time of all calls.
    memory : int or None
        By how many bytes the peak resident size grew.
    value, error : float or None
        See `otbr_fast.bench.reading`; None if not finite.
    """

    seconds: float
    cpu_seconds: float
    memory: int | None
    value: float | None
    error: float | None


def encode(document: object) -> str:
    """Return an `Order`, an `Answer` or plain data as a line."""
    plain: Any = asdict(document) if isinstance(document, (Order, Answer)) else document
    return json.dumps(plain, allow_nan=False) + "\n"
