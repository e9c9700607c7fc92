"""Contestants take turns at one problem, so that what disturbs the machine disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from otbr_fast.bench.messages import Answer, Order
from otbr_fast.bench.plan import Plan
from otbr_fast.bench.remote import AbsentError, TimeLimitError
from otbr_fast.bench.results import Entry
from otbr_fast.bench.solvers import Solver, SolverError

_LONG_ENOUGH = 1.0  # seconds after which a first run is no slower than the next, and counts
_ENOUGH = 0.5  # seconds of turns: where they are short, there are up to `_MORE_TURNS` times as many
_MORE_TURNS = 5
_MOST_ATTEMPTS = 20  # at an entropic solver's error


class Worker(Protocol):
    """What runs a contestant: a `otbr_fast.bench.remote.Remote`, or a test's stand-in."""

    def wait_ready(self) -> str | None:
        """Wait until it can run; return its library's version."""

    def run(self, effort: float, limit: float) -> Answer:
        """Let it run once."""

    def close(self) -> None:
        """End it."""


OpenWorker = Callable[[Order], Worker]


class Contestant:
    """A solver in its process, and what it has done so far."""

    def __init__(self, solver: Solver, worker: Worker, plan: Plan) -> None:
        self.entry = Entry(solver=solver.name, label=solver.label, is_bound=solver.is_bound)
        self._solver, self._worker, self._plan = solver, worker, plan

    @property
    def is_running(self) -> bool:
        """Whether it still takes its turns."""
        return self.entry.status == "ok"

    def start(self) -> None:
        """Wait until it is ready; raises `AbsentError` if its library is not."""
        try:
            self.entry.version = self._worker.wait_ready()
        except (SolverError, TimeLimitError) as error:
            self._stop("failed", f"it could not be prepared: {error}")

    def take_turn(self) -> None:
        """Run once, so that the time counts; the first time, warm up and find the effort too."""
        answer = None if self.entry.seconds else self._first()
        if answer is None and self.is_running:
            answer = self._run()
        if answer is None:
            return
        self.entry.seconds.append(answer.seconds)
        self.entry.cpu_seconds.append(answer.cpu_seconds)
        self.entry.value, self.entry.error = answer.value, answer.error

    def _first(self) -> Answer | None:
        """Return the first run that is good enough, if it is one that counts."""
        harder, target = self._solver.harder, self._plan.target
        effort = 0.0 if harder is None else harder(None, None, target)
        error: float | None = None
        for _ in range(_MOST_ATTEMPTS):
            if effort is None:
                break
            self.entry.effort = effort
            answer = self._run()
            if answer is None:
                return None
            if self.entry.memory is None:
                self.entry.memory = answer.memory
            error = answer.error
            if harder is None or (error is not None and error <= target):
                counts = answer.seconds >= _LONG_ENOUGH and not self._solver.compiles
                return answer if counts else None
            effort = harder(effort, error, target)
        told = "not finite" if error is None else f"{error:.1e}"
        self._stop("not_reached", f"its error stayed at {told}")
        return None

    def _run(self) -> Answer | None:
        try:
            return self._worker.run(self.entry.effort, self._plan.time_limit)
        except TimeLimitError as error:
            self._stop("time_limit", str(error))
        except SolverError as error:
            self._stop("failed", str(error))
        return None

    def _stop(self, status: str, reason: str) -> None:
        self.entry = self.entry.model_copy(update={"status": status, "reason": reason})


def compete(
    solvers: list[Solver],
    order: Callable[[Solver], Order],
    plan: Plan,
    open_worker: OpenWorker,
) -> tuple[list[Entry], dict[str, str]]:
    """Let solvers take turns, `plan.repeats` times at least, each time in the opposite order.

    Returns
    -------
    list of Entry
        In the solvers' order.
    dict of str to str
        Why a solver is not there at all, by its name; such have no entry.
    """
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        contestants = []
        for solver in solvers:
            worker = open_worker(order(solver))
            stack.callback(worker.close)
            contestants.append(Contestant(solver, worker, plan))
        for contestant in list(contestants):
            try:
                contestant.start()
            except AbsentError as error:
                absent[contestant.entry.solver] = str(error)
                contestants.remove(contestant)
        start = time.perf_counter()
        for turn in range(plan.repeats * _MORE_TURNS):
            if turn >= plan.repeats and time.perf_counter() - start > _ENOUGH:
                break
            for contestant in contestants if turn % 2 == 0 else reversed(contestants):
                if contestant.is_running:
                    contestant.take_turn()
    return [contestant.entry for contestant in contestants], absent
