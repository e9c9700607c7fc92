"""Going through a plan, case by case; what is finished is kept whatever happens next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from otbr_fast.bench.contest import OpenWorker, compete
from otbr_fast.bench.judge import judge
from otbr_fast.bench.messages import Order
from otbr_fast.bench.plan import Case, Plan, cases
from otbr_fast.bench.problem import Problem
from otbr_fast.bench.remote import Remote
from otbr_fast.bench.results import Absent, Cell, Entry, Environment, Results
from otbr_fast.bench.solvers import OURS, SOLVERS, Solver

Tell = Callable[[str, int, int], None]
"""Told of (task and family, cases done, cases in all)."""


def run_plan(
    plan: Plan,
    *,
    keep: Callable[[Results], None] = lambda results: None,
    tell: Tell = lambda case, done, total: None,
    solvers: tuple[Solver, ...] = SOLVERS,
    open_worker: OpenWorker | None = None,
) -> Results:
    """Run a plan.

    Parameters
    ----------
    plan : Plan
        What to compare.
    keep : callable
        Given the results so far after each cell, to save them.
    tell : callable
        Told before and after each case.
    solvers : tuple of Solver
        All contestants that there are.
    open_worker : callable, optional
        Starts a contestant; in a process of its own by default.

    Returns
    -------
    Results
        ``complete`` is true unless Ctrl-C ended the run, after which the finished cells are there.
    """
    run = _Runner(plan, solvers, open_worker or (lambda order: Remote(order, plan.pot_old)))
    todo = cases(plan)
    stages = Counter(map(_stage, todo))
    done = Counter[str]()
    try:
        for case in todo:
            stage = _stage(case)
            tell(stage, done[stage], stages[stage])
            run.results.cells.append(run.cell(case))
            done[stage] += 1
            tell(stage, done[stage], stages[stage])
            keep(run.results)
    except KeyboardInterrupt:
        return run.results
    run.results.complete = True
    keep(run.results)
    return run.results


class _Runner:
    def __init__(self, plan: Plan, solvers: tuple[Solver, ...], open_worker: OpenWorker) -> None:
        self._plan, self._open = plan, open_worker
        self._too_slow: dict[tuple[object, ...], Cell] = {}
        self.results = Results(environment=Environment.here(), plan=plan.without_folders())
        self._solvers = []
        for solver in solvers:
            if solver.task not in plan.grids or not _is_chosen(solver, plan):
                continue
            reason = _missing(solver, plan)
            if reason is None:
                self._solvers.append(solver)
            else:
                self._leave_out(solver, reason)

    def cell(self, case: Case) -> Cell:
        """Let everybody who can solve a case do so, and judge."""
        cell = Cell(
            task=case.task,
            family=case.family,
            n=case.n,
            m=case.m,
            dtype=case.dtype,
            reg=case.reg,
            calls=case.calls,
            layer=case.layer,
            threads=case.threads,
        )
        with TemporaryDirectory(prefix="otbr-fast-bench-") as folder:
            path = Path(folder) / "problem.npz"
            able, excused, reg = self._lay_out(case, cell, path)

            def order(solver: Solver) -> Order:
                return Order(case.task, solver.name, str(path), case.threads, case.calls, reg)

            entries, absent = compete(able, order, self._plan, self._open)
        for solver in able:
            if solver.name in absent:
                self._leave_out(solver, absent[solver.name])
                self._solvers.remove(solver)
        cell.entries = [*entries, *excused]
        judge(cell)
        self._remember_slow(cell)
        return cell

    def _lay_out(
        self, case: Case, cell: Cell, path: Path
    ) -> tuple[list[Solver], list[Entry], float | None]:
        """Write a case's problem, which no longer is in memory then.

        Returns
        -------
        list of Solver
            Who is to solve it.
        list of Entry
            Of those who are not.
        float or None
            The regularisation in units of the cost.
        """
        problem = case.make()
        if case.task != "distances":
            problem = problem.with_cost()
        problem.save(path)
        able, excused = [], []
        for solver in self._solvers:
            if solver.task != case.task:
                continue
            entry = self._excuse(solver, cell, problem)
            if entry is None:
                able.append(solver)
            else:
                excused.append(entry)
        reg = None if case.reg is None else case.reg * float(problem.cost().max())
        return able, excused, reg

    def _excuse(self, solver: Solver, cell: Cell, problem: Problem) -> Entry | None:
        """Return the entry of a contestant that does not run this time."""
        reason, status = solver.refuses(problem), "not_applicable"
        before = self._too_slow.get(_line(cell, solver.name))
        if reason is None and before is not None:
            status = "skipped"
            reason = f"took more than {self._plan.time_limit:g} s at {before.n} x {before.m}"
        if reason is None:
            return None
        facts = {"solver": solver.name, "label": solver.label, "status": status, "reason": reason}
        return Entry.model_validate(facts)

    def _remember_slow(self, cell: Cell) -> None:
        for entry in cell.entries:
            if entry.status == "time_limit":
                self._too_slow[_line(cell, entry.solver)] = cell

    def _leave_out(self, solver: Solver, reason: str) -> None:
        absent = Absent(task=solver.task, solver=solver.name, label=solver.label, reason=reason)
        self.results.absent.append(absent)


def _stage(case: Case) -> str:
    return f"{case.task} {case.family}"


def _line(cell: Cell, solver: str) -> tuple[object, ...]:
    return cell.task, cell.family, cell.dtype, cell.reg, cell.threads, solver


def _is_chosen(solver: Solver, plan: Plan) -> bool:
    return plan.solvers is None or solver.name in (OURS, *plan.solvers)


def _missing(solver: Solver, plan: Plan) -> str | None:
    if solver.name == "pot-old":
        return None if plan.pot_old else "no other POT was given: --pot-old FOLDER"
    return solver.missing()
