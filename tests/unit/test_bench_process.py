"""Contestants in processes of their own, and what is measured there.

A folder with a package ``ot`` plays the other POT: it does what a test says.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from otbr_fast.bench.families import FAMILIES
from otbr_fast.bench.memory import watch_memory
from otbr_fast.bench.messages import Answer, Order
from otbr_fast.bench.plan import Grid, Plan
from otbr_fast.bench.problem import Problem
from otbr_fast.bench.remote import AbsentError, Remote, TimeLimitError
from otbr_fast.bench.runner import run_plan
from otbr_fast.bench.solvers import SOLVERS, Setting, Solver, SolverError, find_solver
from otbr_fast.bench.worker import prepare


@pytest.fixture
def order(tmp_path: Path) -> Order:
    path = tmp_path / "problem.npz"
    FAMILIES["random"].make(20, 30, 0, "float64").save(path)
    return Order("exact", "pot-old", str(path), 1, 1)


def package(folder: Path, *lines: str) -> Path:
    """Write a package ``ot`` with these lines; those of emd2 are indented by the caller."""
    (folder / "ot").mkdir()
    (folder / "ot" / "__init__.py").write_text("\n".join(lines) + "\n")
    return folder


def emd2(folder: Path, *body: str) -> Path:
    head = ("import os, sys, time, warnings", "def emd2(a, b, M, numItermax):")
    return package(folder, *head, *(f"    {line}" for line in body))


def test_a_contestant_runs_in_its_own_process(order: Order, tmp_path: Path) -> None:
    body = ("assert numItermax == 10**9", "return os.getpid() + float(M.sum())")
    with Remote(order, emd2(tmp_path, *body)) as remote:
        remote.wait_ready()
        answer = remote.run(0, limit=60)
    cost = Problem.load(Path(order.problem)).cost().sum()
    assert answer.value is not None
    assert round(answer.value - cost) != os.getpid()
    assert answer.seconds > 0
    assert answer.cpu_seconds >= 0
    assert answer.error is None


def test_what_libraries_print_does_not_disturb(order: Order, tmp_path: Path) -> None:
    body = ("print('a word')", "os.write(1, b'another')", "return 1.5")
    with Remote(order, emd2(tmp_path, *body)) as remote:
        remote.wait_ready()
        assert [remote.run(0, limit=60).value for _ in range(3)] == [1.5] * 3


def test_threads_are_told_before_anything_is_imported(order: Order, tmp_path: Path) -> None:
    lines = ("import os", "seen = os.environ['OMP_NUM_THREADS']")
    folder = package(tmp_path, *lines, "def emd2(a, b, M, numItermax): return float(seen)")
    with Remote(replace(order, threads=3), folder) as remote:
        remote.wait_ready()
        assert remote.run(0, limit=60).value == 3


def test_who_takes_too_long_is_ended(order: Order, tmp_path: Path) -> None:
    with Remote(order, emd2(tmp_path, "time.sleep(600)")) as remote:
        remote.wait_ready()
        with pytest.raises(TimeLimitError, match=r"more than 0\.2 s"):
            remote.run(0, limit=0.2)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ValueError('no such plan')", "ValueError: no such plan"),
        ("warnings.warn('numItermax reached')", "it warned: numItermax reached"),
        ("warnings.warn('close to 0', RuntimeWarning)", "it warned: close to 0"),
        ("sys.stderr.write('out of luck'); sys.stderr.flush(); os._exit(3)", "out of luck"),
        ("os._exit(3)", "ended with code 3"),
        ("os.kill(os.getpid(), 9)", "memory may have run out"),
    ],
)
def test_a_failure_tells_why(body: str, told: str, order: Order, tmp_path: Path) -> None:
    with Remote(order, emd2(tmp_path, body, "return 1.0")) as remote:
        remote.wait_ready()
        with pytest.raises(SolverError, match=told):
            remote.run(0, limit=60)


def test_a_broken_library_is_not_there(order: Order, tmp_path: Path) -> None:
    folder = package(tmp_path, "raise ImportError('built for another Python')")
    with (
        Remote(order, folder) as remote,
        pytest.raises(AbsentError, match=r"POT cannot be imported: built for another Python"),
    ):
        remote.wait_ready()


def test_a_wrong_peer_is_found_out_among_real_ones(tmp_path: Path) -> None:
    chosen = Plan(
        grids={"exact": Grid(families=("random",), sizes=(12,))},
        solvers=("pot-old", "highs"),
        pot_old=emd2(tmp_path, "return 1e9"),
        repeats=1,
    )
    (cell,) = run_plan(chosen).cells
    assert {e.solver: e.agrees for e in cell.entries} == {
        "otbr_fast": True,
        "highs": True,
        "pot-old": False,
    }
    ours = cell.entry("otbr_fast")
    assert ours is not None
    assert ours.memory is not None
    assert 0 <= ours.memory < 100e6


def test_memory_is_what_the_call_takes() -> None:
    size = 64 * 2**20
    held = np.ones(size // 8)
    watch = watch_memory()
    extra = np.ones(size // 8)
    del extra
    grown = watch()
    if grown is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert held.nbytes == size
    assert 0.9 * size < grown < 2 * size


def test_memory_of_an_earlier_peak_does_not_count() -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak cannot be set back here")
    np.ones(16 * 2**20)
    watch = watch_memory()
    assert (watch() or 0) < 16 * 2**20


def installed(task: str) -> list[Solver]:
    there = (s for s in SOLVERS if s.task == task and s.name != "pot-old")
    return [s for s in there if s.missing() is None]


@pytest.mark.parametrize(
    "solver", [*installed("exact"), *installed("distances")], ids=lambda s: f"{s.task}-{s.name}"
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_installed_solvers_do_their_task(solver: Solver, dtype: str, tmp_path: Path) -> None:
    family = "assignment" if solver.task == "exact" else "I"
    path = tmp_path / "p.npz"
    problem = FAMILIES[family].make(14, 14, 0, dtype).with_cost()
    problem.save(path)
    answer = run(solver, path)
    reference = run(find_solver(solver.task, "otbr_fast"), path)
    if solver.is_bound:
        assert (answer.value, answer.error) == (None, None)
        return
    assert answer.value == pytest.approx(reference.value, rel=1e-5 if dtype == "float32" else 1e-9)
    assert (answer.error or 0) < (1e-4 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("solver", installed("entropic"), ids=lambda s: s.name)
def test_installed_entropic_solvers_reach_an_error(solver: Solver, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    problem = FAMILIES["L"].make(10, 12, 0, "float64").with_cost()
    problem.save(path)
    reg = 0.1 * float(problem.cost().max())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        effort = 2000 if solver.name == "geomloss" else 1e-6
        answer = run(solver, path, reg, effort)
    assert answer.error is not None
    assert answer.error < 1e-3  # of GeomLoss, after so many iterations
    assert answer.value == pytest.approx(_entropic_cost(problem, reg), rel=1e-3)


def run(solver: Solver, path: Path, reg: float | None = None, effort: float = 0) -> Answer:
    return prepare(solver, Order(solver.task, solver.name, str(path), 1, 1, reg))(effort)


def _entropic_cost(problem: Problem, reg: float) -> float:
    """By plain iterations."""
    kernel = np.exp(-problem.cost() / reg)
    v = np.ones(kernel.shape[1])
    for _ in range(2000):
        u = problem.a / (kernel @ v)
        v = problem.b / (kernel.T @ u)
    return float((u[:, None] * kernel * v * problem.cost()).sum())


def test_an_entropic_task_needs_a_regularisation() -> None:
    with pytest.raises(ValueError, match="regularisation"):
        Setting().entropic_reg()
