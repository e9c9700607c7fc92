"""The process of one contestant: ``python -m otbr_fast.bench.worker``.

It reads an `Order`, prepares, says that it is ready, and then runs once for every effort that it
is sent, until its input ends. It must be light: what it holds counts as the contestant's memory
only from when a run begins, but what it imports takes time.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from otbr_fast.bench.memory import watch_memory
from otbr_fast.bench.messages import Answer, Order, encode
from otbr_fast.bench.problem import Problem
from otbr_fast.bench.reading import read
from otbr_fast.bench.solvers import Setting, Solver, SolverError, find_solver

_DOUBTS = (UserWarning, RuntimeWarning)


def main() -> None:
    """Serve the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner, who ends this process
    channel = _take_stdout()
    order = Order(**json.loads(sys.stdin.readline()))
    solver = find_solver(order.task, order.solver)
    try:
        run = prepare(solver, order)
    except ImportError as error:
        channel.write(encode({"missing": f"{solver.package} cannot be imported: {error}"}))
        return
    channel.write(encode({"ready": solver.version()}))
    for line in sys.stdin:
        try:
            reply = encode(run(json.loads(line)))
        except SolverError as error:
            reply = encode({"failed": str(error)})
        except Exception as error:
            reply = encode({"failed": f"{type(error).__name__}: {error}"})
        channel.write(reply)


def prepare(solver: Solver, order: Order) -> Callable[[float], Answer]:
    """Read the problem and return what runs the contestant on it, at an effort."""
    problem = Problem.load(Path(order.problem))
    setting = Setting(order.threads, order.reg)
    runs = [solver.prepare(part, setting) for part in problem.parts()]
    calls = [runs[i % len(runs)] for i in range(order.calls)]

    def answer(effort: float) -> Answer:
        peak = watch_memory()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cpu, start = time.process_time(), time.perf_counter()
            results = [call(effort) for call in calls]
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        memory = peak()
        if solver.task == "exact":
            _refuse_doubtful(caught)
        if solver.is_bound:
            return Answer(seconds, cpu_seconds, memory, None, None)
        value, error = read(solver.task, problem, results[: len(runs)])
        return Answer(seconds, cpu_seconds, memory, _finite(value), _finite(error))

    return answer


def _refuse_doubtful(caught: list[warnings.WarningMessage]) -> None:
    """Refuse an exact result that came with a warning: a plan cut short comes so."""
    for warning in caught:
        if issubclass(warning.category, _DOUBTS):
            raise SolverError(f"it warned: {warning.message}")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _take_stdout() -> TextIO:
    """Keep stdout for the replies, and let whatever libraries print go to stderr."""
    channel: Any = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return channel  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
