"""Exact solver: proof with every result, POT's objective, exact arithmetic on tiny problems."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import combinations

import numpy as np
import ot as pot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from otbr_fast import ot
from strategies import Transport, transports

RELATIVE = 1e-9


def check_proof(problem: Transport, result: ot.OTResult) -> None:
    """Recompute in numpy what the certificate says."""
    M, total = problem.M.astype(np.float64), problem.a.sum()
    scale = np.abs(M).max()
    plan = result.plan.toarray()
    u, v = result.potentials
    assert result.status == "optimal"
    assert result.plan.nnz <= sum(M.shape) - 1
    assert (result.plan.data > 0).all()
    b = problem.b * (total / problem.b.sum())
    error = np.abs(plan.sum(1) - problem.a).sum() + np.abs(plan.sum(0) - b).sum()
    assert error <= 1e-12 * total
    assert result.certificate.marginal_error <= 1e-12 * total
    assert (plan * M).sum() == pytest.approx(result.value, rel=1e-12, abs=1e-13 * scale * total)
    reduced = M - u[:, None] - v[None]
    rounding = 1e-14 * (scale + np.abs(u).max() + np.abs(v).max())
    assert reduced.min() >= -rounding
    assert np.abs(reduced[plan > 0]).max() <= rounding
    assert 0 <= result.certificate.duality_gap <= RELATIVE * max(abs(result.value), 1e-9 * scale)


@settings(max_examples=3000)
@given(transports())
def test_every_problem_is_solved_with_a_valid_proof_and_pots_objective(problem: Transport) -> None:
    result = ot.solve(problem.M, problem.a, problem.b)
    check_proof(problem, result)
    M = problem.M.astype(np.float64)
    scale = np.abs(M).max() or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = pot.emd2(problem.a, problem.b, M / scale, numItermax=10**9) * scale
    # POT works in float64: its own plan may be off by a few roundings of the largest cost.
    assert result.value == pytest.approx(theirs, rel=RELATIVE, abs=1e-14 * scale), problem.label


# Within the tolerances of a general LP solver, 1e-7 of the largest cost.
PLAIN_COSTS = ("uniform", "gaussian rows", "integer ties", "constant", "equal rows", "negative")
PLAIN_MASSES = ("uniform", "random", "zeros", "integers")


@settings(max_examples=150)
@given(transports(costs=PLAIN_COSTS, masses=PLAIN_MASSES))
def test_agrees_with_a_linear_program(problem: Transport) -> None:
    n, m = problem.M.shape
    M = problem.M.astype(np.float64)
    scale = np.abs(M).max() or 1.0
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    b = problem.b * (problem.a.sum() / problem.b.sum())
    program = linprog(
        (M / scale).ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.r_[problem.a, b]
    )
    assert program.status == 0, program.message
    value = ot.solve(problem.M, problem.a, problem.b).value
    assert value / scale == pytest.approx(program.fun, rel=RELATIVE, abs=1e-12), problem.label


def exact_optimum(M: list[list[int]], a: list[int], b: list[int]) -> Fraction:
    """Least cost over all basic feasible solutions, in rational arithmetic."""
    n, m = len(a), len(b)
    cells = [(i, j) for i in range(n) for j in range(m)]
    best: Fraction | None = None
    for basis in combinations(cells, n + m - 1):
        flows = tree_flows(basis, a, b)
        if flows is not None and min(flows.values()) >= 0:
            value = sum((Fraction(M[i][j]) * f for (i, j), f in flows.items()), Fraction(0))
            best = value if best is None else min(best, value)
    assert best is not None
    return best


def tree_flows(
    basis: tuple[tuple[int, int], ...], a: list[int], b: list[int]
) -> dict[tuple[int, int], Fraction] | None:
    """Flows on a spanning tree, leaf by leaf; None if the cells have a cycle."""
    left = {("row", i): Fraction(x) for i, x in enumerate(a)}
    left |= {("col", j): Fraction(x) for j, x in enumerate(b)}
    cells, flows = set(basis), {}
    while cells:
        for node in left:
            at = [c for c in cells if c[0 if node[0] == "row" else 1] == node[1]]
            if len(at) == 1:
                break
        else:
            return None
        cell, flow = at[0], left[node]
        flows[cell] = flow
        left["row", cell[0]] -= flow
        left["col", cell[1]] -= flow
        cells.remove(cell)
    return flows if not any(left.values()) else None


@settings(max_examples=200)
@given(st.data())
def test_tiny_integer_problems_are_exact(data: st.DataObject) -> None:
    n, m = data.draw(st.sampled_from([(1, 3), (2, 2), (2, 3), (3, 2), (3, 3)]))
    M = [data.draw(st.lists(st.integers(-4, 9), min_size=m, max_size=m)) for _ in range(n)]
    a = data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    b = data.draw(st.lists(st.integers(0, 6), min_size=m, max_size=m))
    a[0] += max(0, sum(b) - sum(a)) + (sum(a) == sum(b) == 0)
    b[-1] += max(0, sum(a) - sum(b))
    assert ot.solve(M, a, b).value == exact_optimum(M, a, b)


@settings(max_examples=100)
@given(transports(), st.integers(2, 4))
def test_threads_do_not_change_a_bit(problem: Transport, n_threads: int) -> None:
    one = ot.solve(problem.M, problem.a, problem.b, n_threads=1)
    many = ot.solve(problem.M, problem.a, problem.b, n_threads=n_threads)
    assert (one.value, one.n_iter, one.certificate) == (many.value, many.n_iter, many.certificate)
    assert (one.plan.toarray() == many.plan.toarray()).all()


BAD_COSTS: list[float] = [np.nan, -np.inf]


@settings(max_examples=200)
@given(transports(), st.sampled_from(BAD_COSTS), st.data())
def test_costs_that_are_not_finite_are_refused_by_place(
    problem: Transport, bad: float, data: st.DataObject
) -> None:
    M = problem.M.copy()
    i, j = (data.draw(st.integers(0, k - 1)) for k in M.shape)
    M[i, j] = bad
    with pytest.raises(ValueError, match=rf"M\[{i}, {j}\] is"):
        ot.solve(M, problem.a, problem.b)
    # Beside infinite costs too.
    M[(i + 1) % M.shape[0]] = np.inf
    M[i, j] = bad
    with pytest.raises(ValueError, match=rf"M\[{i}, {j}\] is"):
        ot.solve(M, problem.a, problem.b)


@settings(max_examples=200)
@given(transports(), st.sampled_from([np.nan, np.inf, -1e-9, -1.0]), st.data())
def test_masses_that_are_no_masses_are_refused_by_place(
    problem: Transport, bad: float, data: st.DataObject
) -> None:
    a: NDArray[np.float64] = problem.a.copy()
    i = data.draw(st.integers(0, len(a) - 1))
    a[i] = bad
    with pytest.raises(ValueError, match=rf"a\[{i}\] is"):
        ot.solve(problem.M, a, problem.b)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1 - 1e-5, 1 + 1e-5, 1e6])
def test_sums_that_differ_are_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=r"sums? to"):
        ot.solve(np.ones((3, 4)), np.ones(3) / 3, factor * np.ones(4) / 4)


@pytest.mark.parametrize(("n", "m"), [(1, 200_000), (2, 64_500), (20_000, 5)])
def test_long_marginals_are_proven_too(n: int, m: int) -> None:
    rng = np.random.default_rng(0)
    for a in (None, rng.random(n)):
        a = a if a is None else a / a.sum()
        result = ot.solve(rng.random((n, m)), a)
        assert result.status == "optimal"
        assert result.certificate.marginal_error <= 1e-14


def test_a_million_cells_of_ties() -> None:
    """Nothing but ties, where a careless simplex cycles."""
    rng = np.random.default_rng(5)
    M = rng.integers(0, 2, (1000, 1000)).astype(np.float32)
    result = ot.solve(M)
    assert result.status == "optimal"
    assert result.value == pytest.approx(pot.emd2([], [], M.astype(float), numItermax=10**9))
