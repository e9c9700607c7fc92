"""The runner with contestants that do what a test says, without processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from otbr_fast.bench.contest import OpenWorker, Worker
from otbr_fast.bench.messages import Answer, Order
from otbr_fast.bench.plan import Grid, Plan
from otbr_fast.bench.remote import AbsentError, TimeLimitError
from otbr_fast.bench.results import Cell, Entry, Results
from otbr_fast.bench.runner import run_plan
from otbr_fast.bench.solvers import Solver, SolverError, find_solver
from otbr_fast.bench.worker import prepare

Act = Callable[[float], Answer]
"""What a contestant does at an effort."""


@dataclass
class Scripted:
    """A contestant that does what it is told."""

    act: Act
    ready: Exception | None = None
    closed: bool = False

    def wait_ready(self) -> str | None:
        if self.ready is not None:
            raise self.ready
        return "1.0"

    def run(self, effort: float, limit: float) -> Answer:
        assert not self.closed
        return self.act(effort)

    def close(self) -> None:
        self.closed = True


def answer(seconds: float = 2.0, value: float | None = 1.0, error: float | None = None) -> Answer:
    return Answer(seconds, seconds, 1000, value, error)


def steady(seconds: float = 2.0, value: float | None = 1.0) -> Worker:
    return Scripted(lambda effort: answer(seconds, value))


def failing(error: Exception, *, ready: bool = True) -> Worker:
    def act(effort: float) -> Answer:
        raise error

    return Scripted(act, None if ready else error)


def plan(task: str = "exact", sizes: tuple[int, ...] = (4,), **settings: object) -> Plan:
    grid = Grid(families=("random",) if task == "exact" else ("I",), sizes=sizes)
    chosen = {"grids": {task: grid}, "solvers": ("pot", "sparse-ot"), "repeats": 2, **settings}
    return Plan.model_validate(chosen)


def opener(**workers: Callable[[], Worker]) -> OpenWorker:
    """Open contestants by name, "_" for "-"; whoever is not named is steady."""
    return lambda order: workers.get(order.solver.replace("-", "_"), steady)()


def contestants(*names: str, task: str = "exact") -> tuple[Solver, ...]:
    """Solvers whose module is there, whatever is installed."""
    from dataclasses import replace

    found = (find_solver(task, name) for name in names)  # type: ignore[arg-type]
    return tuple(replace(solver, module="otbr_fast") for solver in found)


THREE = contestants("otbr_fast", "pot", "sparse-ot")


def only_cell(results: Results) -> Cell:
    (cell,) = results.cells
    return cell


def entry(results: Results, solver: str) -> Entry:
    found = only_cell(results).entry(solver)
    assert found is not None
    return found


def test_everybody_runs_as_often_as_told_and_agrees() -> None:
    results = run_plan(plan(repeats=3), solvers=THREE, open_worker=opener())
    assert results.complete
    assert [e.solver for e in only_cell(results).entries] == ["otbr_fast", "pot", "sparse-ot"]
    for found in only_cell(results).entries:
        assert found.status == "ok"
        assert found.agrees is True
        assert found.version == "1.0"
        assert found.memory == 1000
        assert len(found.seconds) == len(found.cpu_seconds) >= 3


def test_a_wrong_solver_is_marked() -> None:
    wrong = opener(pot=lambda: steady(value=1 + 1e-7))
    results = run_plan(plan(), solvers=THREE, open_worker=wrong)
    assert entry(results, "pot").agrees is False
    assert entry(results, "otbr_fast").agrees is True
    assert entry(results, "sparse-ot").agrees is True


def test_a_real_solver_of_a_wrong_cost_is_marked() -> None:
    """Nothing scripted but the error: problems from their file, our solver, a peer that lies."""

    @dataclass
    class InProcess(Scripted):
        order: Order | None = None

        def wait_ready(self) -> str | None:
            assert self.order is not None
            self.act = prepare(find_solver(self.order.task, "otbr_fast"), self.order)
            return None

        def run(self, effort: float, limit: float) -> Answer:
            assert self.order is not None
            honest = self.act(effort)
            lie = 1.001 if self.order.solver == "pot" else 1.0
            return Answer(**{**vars(honest), "value": lie * (honest.value or 0)})

    results = run_plan(plan(), solvers=THREE, open_worker=lambda o: InProcess(steady, order=o))  # type: ignore[arg-type]
    assert [e.agrees for e in only_cell(results).entries] == [True, False, True]


def test_who_takes_too_long_is_not_asked_for_larger_problems() -> None:
    opened: list[tuple[str, str]] = []

    def open_worker(order: Order) -> Worker:
        opened.append((order.solver, order.problem))
        if order.solver == "pot":
            return failing(TimeLimitError("more than 60 s"))
        return steady()

    results = run_plan(plan(sizes=(8, 4, 6)), solvers=THREE, open_worker=open_worker)
    assert [cell.n for cell in results.cells] == [4, 6, 8]
    found = [cell.entry("pot") for cell in results.cells]
    assert [e.status for e in found if e] == ["time_limit", "skipped", "skipped"]
    assert found[1] is not None
    assert found[1].reason == "took more than 60 s at 4 x 4"
    assert sum(solver == "pot" for solver, _ in opened) == 1


def test_a_time_limit_in_one_family_says_nothing_of_another() -> None:
    grids = {"exact": Grid(families=("random", "ties"), sizes=(4,))}
    slow = opener(pot=lambda: failing(TimeLimitError("more than 60 s")))
    results = run_plan(plan(grids=grids), solvers=THREE, open_worker=slow)
    found = [cell.entry("pot") for cell in results.cells]
    assert [e.status for e in found if e] == ["time_limit", "time_limit"]


def test_everything_is_run_with_each_number_of_threads() -> None:
    asked: list[int] = []

    def open_worker(order: Order) -> Worker:
        asked.append(order.threads)
        return steady()

    chosen = plan(sizes=(4, 5), threads=(1, 2))
    results = run_plan(chosen, solvers=THREE[:1], open_worker=open_worker)
    assert [(cell.threads, cell.n) for cell in results.cells] == [(1, 4), (1, 5), (2, 4), (2, 5)]
    assert asked == [1, 1, 2, 2]


@pytest.mark.parametrize("ready", [True, False])
def test_a_failure_is_told_and_the_others_go_on(ready: bool) -> None:
    broken = opener(pot=lambda: failing(SolverError("it warned: cut short"), ready=ready))
    results = run_plan(plan(), solvers=THREE, open_worker=broken)
    found = entry(results, "pot")
    assert found.status == "failed"
    assert found.reason is not None
    assert "it warned: cut short" in found.reason
    assert found.agrees is None
    assert entry(results, "sparse-ot").agrees is True


def test_a_library_that_cannot_be_imported_is_named_once() -> None:
    absent = opener(pot=lambda: failing(AbsentError("POT cannot be imported: no"), ready=False))
    results = run_plan(plan(sizes=(4, 5)), solvers=THREE, open_worker=absent)
    assert [a.reason for a in results.absent] == ["POT cannot be imported: no"]
    assert all(cell.entry("pot") is None for cell in results.cells)
    assert all(len(cell.entries) == 2 for cell in results.cells)


def test_a_library_that_is_not_installed_is_named_with_the_remedy() -> None:
    from dataclasses import replace

    solvers = (THREE[0], replace(THREE[1], module="no_such_module"))
    results = run_plan(plan(), solvers=solvers, open_worker=opener())
    (absent,) = results.absent
    assert (absent.solver, absent.reason) == ("pot", "POT is not installed: pip install POT")


def test_old_pot_is_named_when_it_is_not_given() -> None:
    solvers = contestants("otbr_fast", "pot-old")
    results = run_plan(plan(solvers=None), solvers=solvers, open_worker=opener())
    assert "--pot-old" in results.absent[0].reason
    given = run_plan(
        plan(solvers=None, pot_old=Path("elsewhere")), solvers=solvers, open_worker=opener()
    )
    assert not given.absent


def test_who_does_not_apply_says_why_and_is_not_started() -> None:
    solvers = contestants("otbr_fast", "lapx", "highs")
    opened = []

    def open_worker(order: Order) -> Worker:
        opened.append(order.solver)
        return steady()

    results = run_plan(plan(solvers=None), solvers=solvers, open_worker=open_worker)
    assert entry(results, "lapx").status == "not_applicable"
    assert "uniform" in (entry(results, "lapx").reason or "")
    assert opened == ["otbr_fast", "highs"]


def test_ctrl_c_keeps_the_finished_cells_and_ends_the_others() -> None:
    workers: list[Scripted] = []
    kept: list[str] = []

    def interrupted(effort: float) -> Answer:
        raise KeyboardInterrupt

    def open_worker(order: Order) -> Worker:
        in_second_cell = len(workers) > len(THREE)
        workers.append(Scripted(interrupted if in_second_cell else lambda effort: answer()))
        return workers[-1]

    results = run_plan(
        plan(sizes=(4, 5)),
        solvers=THREE,
        open_worker=open_worker,
        keep=lambda r: kept.append(r.to_json()),
    )
    assert not results.complete
    assert [cell.n for cell in results.cells] == [4]
    assert len(kept) == 1
    assert Results.model_validate_json(kept[0]) == results
    assert all(worker.closed for worker in workers)


def test_an_entropic_solver_is_asked_for_less_until_the_error_is_reached() -> None:
    """Its own error is a tenth of the one that counts."""
    efforts: list[float] = []

    def act(effort: float) -> Answer:
        efforts.append(effort)
        return answer(error=10 * effort)

    solvers = contestants("otbr_fast", "pot", task="entropic")
    workers = opener(pot=lambda: Scripted(act), otbr_fast=lambda: Scripted(accurate))
    results = run_plan(plan("entropic", regs=(0.1,)), solvers=solvers, open_worker=workers)
    found = entry(results, "pot")
    assert efforts[:2] == [1e-6, pytest.approx(0.8e-7)]
    assert set(efforts[1:]) == {found.effort}
    assert found.error == pytest.approx(0.8e-6)
    assert found.agrees is True


def test_an_entropic_solver_without_tolerance_gets_more_iterations() -> None:
    budgets: list[float] = []

    def act(effort: float) -> Answer:
        budgets.append(effort)
        return answer(error=1e-4 / effort)

    solvers = contestants("otbr_fast", "geomloss", task="entropic")
    workers = opener(geomloss=lambda: Scripted(act), otbr_fast=lambda: Scripted(accurate))
    chosen = plan("entropic", regs=(0.1,), solvers=None)
    found = entry(run_plan(chosen, solvers=solvers, open_worker=workers), "geomloss")
    assert budgets[:5] == [10, 20, 40, 80, 160]
    assert found.effort == 160


def accurate(effort: float) -> Answer:
    return answer(error=1e-9)


@pytest.mark.parametrize(
    ("error", "told"), [(1e-3, "1.0e-03"), (1.01e-6, "1.0e-06"), (None, "not finite")]
)
def test_an_entropic_solver_that_never_gets_there_is_told_so(
    error: float | None, told: str
) -> None:
    solvers = contestants("otbr_fast", "pot", task="entropic")
    workers = opener(
        otbr_fast=lambda: Scripted(accurate),
        pot=lambda: Scripted(lambda effort: answer(value=None, error=error)),
    )
    chosen = plan("entropic", regs=(0.1,))
    results = run_plan(chosen, solvers=solvers, open_worker=workers)
    found = entry(results, "pot")
    assert (found.status, found.seconds, found.agrees) == ("not_reached", [], None)
    assert found.reason == f"its error stayed at {told}"


def test_the_regularisation_is_relative_to_the_largest_cost() -> None:
    regs: list[float | None] = []

    def open_worker(order: Order) -> Worker:
        from otbr_fast.bench.problem import Problem

        largest = Problem.load(Path(order.problem)).cost().max()
        regs.append(order.reg and order.reg / largest)
        return Scripted(accurate)

    solvers = contestants("otbr_fast", task="entropic")
    run_plan(plan("entropic", regs=(0.1, 0.01)), solvers=solvers, open_worker=open_worker)
    assert regs == pytest.approx([0.1, 0.01])


@pytest.mark.parametrize("quick", [True, False])
def test_the_first_run_counts_if_it_is_long(quick: bool) -> None:
    calls: Iterator[int] = count()
    seconds = 0.1 if quick else 30.0

    def act(effort: float) -> Answer:
        return answer(seconds if next(calls) else seconds + 0.5)

    workers = opener(pot=lambda: Scripted(act))
    results = run_plan(plan(repeats=1), solvers=THREE, open_worker=workers)
    times = entry(results, "pot").seconds
    assert times[0] == (seconds if quick else seconds + 0.5)


def test_problems_of_several_calls_and_families_without_points() -> None:
    grids = {
        "exact": Grid(families=("small",), sizes=(4,)),
        "entropic": Grid(families=("small", "ties"), sizes=(4,)),
        "distances": Grid(families=("random", "small", "L"), sizes=(4,)),
    }
    solvers = tuple(
        solver
        for task in ("exact", "entropic", "distances")
        for solver in contestants("otbr_fast", task=task)
    )
    orders: list[Order] = []

    def open_worker(order: Order) -> Worker:
        orders.append(order)
        return Scripted(accurate)

    chosen = plan(grids=grids, calls=7, regs=(0.1,))
    results = run_plan(chosen, solvers=solvers, open_worker=open_worker)
    cells = [(cell.task, cell.family, cell.calls) for cell in results.cells]
    assert cells == [("exact", "small", 7), ("entropic", "ties", 1), ("distances", "L", 1)]
    assert [order.calls for order in orders] == [7, 1, 1]
