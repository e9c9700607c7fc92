"""Metric mode, warm starts and limits: hints and bounds that never cost the optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import ot as pot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from otbr_fast import _core, ot
from strategies import MASSES, Transport, make_masses, transports
from test_exact_ot import check_proof


def optimum(M: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(pot.emd2(a, b, M.astype(np.float64), numItermax=10**9))


@st.composite
def metric_problems(draw: st.DrawFn) -> Transport:
    """Points some of which are shared, between and within the two sides."""
    n, m, points = draw(st.integers(1, 30)), draw(st.integers(1, 30)), draw(st.integers(1, 40))
    dimension, seed = draw(st.integers(1, 4)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 4, (points, dimension)).astype(np.float64)
    X, Y = grid[rng.integers(0, points, n)], grid[rng.integers(0, points, m)]
    left, right = (draw(st.sampled_from(MASSES)) for _ in range(2))
    a, b = make_masses(left, n, rng), make_masses(right, m, rng)
    order = draw(st.sampled_from([1, 2]))
    M = np.linalg.norm(X[:, None] - Y[None], ord=order, axis=2)
    return Transport(M, a, b, f"{n}x{m}, {points} points, masses {left} and {right}, seed {seed}")


@settings(max_examples=1000)
@given(metric_problems())
def test_metric_mode_finds_the_optimum(problem: Transport) -> None:
    result = ot.solve(problem.M, problem.a, problem.b, metric=True)
    check_proof(problem, result)
    expected = optimum(problem.M, problem.a, problem.b)
    assert result.value == pytest.approx(expected, rel=1e-9, abs=1e-13), problem.label


@settings(max_examples=500)
@given(transports())
def test_a_promise_not_kept_costs_no_optimum(problem: Transport) -> None:
    result = ot.solve(problem.M, problem.a, problem.b, metric=True)
    check_proof(problem, result)
    plain = ot.solve(problem.M, problem.a, problem.b)
    scale = float(np.abs(problem.M).max())
    assert result.value == pytest.approx(plain.value, rel=2e-9, abs=1e-13 * scale)


@settings(max_examples=300)
@given(
    transports(),
    st.sampled_from(["core", "whole"]),
    st.sampled_from(["none", "random", "of other costs"]),
    st.integers(0, 2**32 - 1),
)
def test_any_start_leads_to_the_optimum(
    problem: Transport, search: Any, basis: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n, m = problem.M.shape
    scale = float(np.abs(problem.M).max())
    v = np.asarray(rng.standard_normal(m) * scale * 10.0 ** rng.integers(-3, 4))

    def cells(count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        return rng.integers(0, n, count, np.uint32), rng.integers(0, m, count, np.uint32)

    rows, cols = cells(int(rng.integers(0, 4 * (n + m))))
    basis_rows, basis_cols = cells(n + m - 1 if basis == "random" else 0)
    if basis == "of other costs":
        other = np.asarray(rng.permuted(problem.M, axis=1))
        first = _core.solve_exact(other, problem.a, problem.b, 2**62, 1)
        basis_rows, basis_cols = first.basis_rows, first.basis_cols
    start = (v, rows, cols, basis_rows, basis_cols)
    started = _core.solve_exact(
        problem.M, problem.a, problem.b, 2**62, 1, start=start, search=search
    )
    plain = ot.solve(problem.M, problem.a, problem.b)
    assert started.status == "optimal"
    assert started.value == pytest.approx(plain.value, rel=2e-9, abs=1e-13 * scale)


def gaussian_problem(n: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    M = ot.cost_matrix(rng.standard_normal((n, 8)), rng.standard_normal((n, 8)))
    return M, make_masses("lognormal", n, rng)


@pytest.mark.parametrize("what", ["costs", "masses"])
def test_a_result_starts_the_next_problem(what: str) -> None:
    M, b = gaussian_problem(400, 1)
    first = ot.solve(M, None, b)
    if what == "costs":
        M = M * (1 + 0.05 * np.random.default_rng(2).random(M.shape))
    else:
        b = b + b.mean() * (np.arange(len(b)) % 10 == 0)
        b = b / b.sum()
    cold = ot.solve(M, None, b)
    for warmstart in (first, first.potentials):
        warm = ot.solve(M, None, b, warmstart=warmstart)
        assert warm.status == "optimal"
        assert warm.value == pytest.approx(cold.value, rel=1e-9)


@pytest.mark.parametrize("limit", [{"time_limit": 0.0}, {"numItermax": 5}])
@pytest.mark.parametrize("n", [100, 400])
def test_what_is_cut_short_tells_how_far_it_may_be_off(limit: dict[str, Any], n: int) -> None:
    M, b = gaussian_problem(n, 3)
    best = ot.solve(M, None, b)
    cut = ot.solve(M, None, b, **limit)
    assert cut.status == ("time_limit" if "time_limit" in limit else "iteration_limit")
    assert cut.certificate.marginal_error <= 1e-12
    assert 0 < cut.value - best.value <= cut.certificate.duality_gap
    assert cut.n_iter <= 32


@pytest.mark.parametrize("limit", [{"time_limit": 0.0}, {"numItermax": 5}])
def test_a_warm_start_keeps_to_limits(limit: dict[str, Any]) -> None:
    M, b = gaussian_problem(400, 4)
    first = ot.solve(M, None, b)
    other = b[::-1].copy()
    cut = ot.solve(M, None, other, warmstart=first, **limit)
    assert cut.status == ("time_limit" if "time_limit" in limit else "iteration_limit")
    assert cut.certificate.marginal_error <= 1e-12
    best = ot.solve(M, None, other).value
    assert 0 < cut.value - best <= cut.certificate.duality_gap
    assert cut.n_iter <= 64


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_time_limit_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=rf"time_limit is {seconds:g}".replace("nan", "NaN")):
        ot.solve(np.ones((2, 2)), time_limit=seconds)


def test_a_start_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"warmstart has 3 column potentials, expected 2"):
        ot.solve(np.ones((3, 2)), warmstart=(np.zeros(3), np.zeros(3)))
    with pytest.raises(ValueError, match=r"warmstart is NaN"):
        ot.solve(np.ones((3, 2)), warmstart=(np.zeros(3), np.full(2, np.nan)))


@settings(max_examples=500)
@given(transports(costs=("uniform", "integer ties", "negative", "float32")), st.data())
def test_infinite_costs_forbid(problem: Transport, data: st.DataObject) -> None:
    """Costs are those of the problem in which a way around is bought at a high price."""
    M = problem.M.copy()
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    forbidden = rng.random(M.shape) < data.draw(st.sampled_from([0.1, 0.5, 0.9]))
    M[forbidden] = np.inf
    price = 1e6 * (1 + np.abs(problem.M).max())
    bought = ot.solve(
        np.where(forbidden, price, problem.M.astype(np.float64)), problem.a, problem.b
    )
    left = bought.plan.toarray()[forbidden].sum()
    if left > 1e-12:
        with pytest.raises(ValueError, match=r"of the mass has no way .* make more of M finite"):
            ot.solve(M, problem.a, problem.b)
        return
    result = ot.solve(M, problem.a, problem.b)
    assert result.status == "optimal"
    assert not result.plan.toarray()[forbidden].any()
    assert result.certificate.marginal_error <= 1e-11
    assert result.value == pytest.approx(bought.value, rel=1e-9, abs=1e-5)
    allowed = np.where(forbidden, 0, M).astype(np.float64)
    assert (result.plan.toarray() * allowed).sum() == pytest.approx(result.value, abs=1e-9)


def test_a_callback_sees_the_pivots_and_may_end_the_call() -> None:
    X = np.random.default_rng(0).random((3000, 2))
    seen: list[int] = []
    result = ot.solve_sample(X[:1500], X[1500:], callback=seen.append, n_threads=1)
    assert seen == sorted(seen)
    assert all(0 <= k <= result.n_iter for k in seen)

    def stop(_: int) -> None:
        raise RuntimeError("enough")

    M = ot.cost_matrix(X, X[::-1] + 0.01)
    with pytest.raises(RuntimeError, match="enough"):
        ot.solve(M, n_threads=1, callback=stop)
    with pytest.raises(ValueError, match="callback are for exact problems"):
        ot.solve(M[:3, :3], reg=1.0, callback=stop)


@pytest.mark.parametrize("shared", ["M", "a", "b", ""])
def test_a_batch_is_its_problems(shared: str) -> None:
    rng = np.random.default_rng(0)
    k, n, m = 5, 12, 17
    given: dict[str, Any] = {
        "M": rng.random((k, n, m)),
        "a": rng.random((k, n)),
        "b": rng.random((k, m)),
    }
    given["a"] /= given["a"].sum(1, keepdims=True)
    given["b"] /= given["b"].sum(1, keepdims=True)
    if shared:
        given[shared] = given[shared][0]
    results = ot.solve_batch(**given, n_threads=2)
    assert len(results) == k
    for i, result in enumerate(results):
        one = {name: x if name == shared else x[i] for name, x in given.items()}
        assert result.value == ot.solve(**one).value
    lists = {name: x if name == shared else list(x) for name, x in given.items()}
    from_lists = ot.solve_batch(lists["M"], lists["a"], lists["b"])
    assert [r.value for r in from_lists] == [r.value for r in results]


def test_batches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 of M, 2 of a"):
        ot.solve_batch(np.ones((3, 2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="found one of each"):
        ot.solve_batch(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"M\[1, 0\] is NaN"):
        ot.solve_batch([np.ones((2, 2)), np.array([[1, 1], [np.nan, 1]])])
