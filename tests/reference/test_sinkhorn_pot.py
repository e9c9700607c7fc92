"""Entropic solver against POT's sinkhorn_log."""

from __future__ import annotations

import warnings

import numpy as np
import ot as pot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otbr_fast import ot


@settings(max_examples=100)
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    relative_reg=st.sampled_from([1.0, 0.3, 0.1, 0.03]),
    seed=st.integers(0, 2**32 - 1),
)
def test_marginals_and_cost_agree(n: int, m: int, relative_reg: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    M, a, b = rng.random((n, m)), rng.random(n) + 0.05, rng.random(m) + 0.05
    a, b, reg = a / a.sum(), b / b.sum(), relative_reg * M.max()
    theirs = pot.sinkhorn(a, b, M, reg, method="sinkhorn_log", numItermax=100_000, stopThr=1e-12)
    ours = ot.sinkhorn(a, b, M, reg, numItermax=100_000, stopThr=1e-12)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    np.testing.assert_allclose(ours.sum(1), a, atol=1e-11)
    np.testing.assert_allclose(ours.sum(0), b, atol=1e-11)
    result = ot.solve(M, a, b, reg, stopThr=1e-12)
    assert result.value == pytest.approx((theirs * M).sum(), rel=1e-8)


@pytest.mark.parametrize("relative_reg", [1e-2, 1e-3, 1e-4])
def test_small_regularisation_agrees_too(relative_reg: float) -> None:
    """An assignment whose best answer is far ahead, so that POT converges at any reg."""
    rng = np.random.default_rng(2)
    M = rng.random((30, 30)) + 1.5
    M[np.arange(30), rng.permutation(30)] -= 1.4
    reg = relative_reg * M.max()
    uniform = np.full(30, 1 / 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = pot.sinkhorn(uniform, uniform, M, reg, method="sinkhorn_log", numItermax=100_000)
    result = ot.solve(M, uniform, uniform, reg)
    assert result.status == "converged"
    np.testing.assert_allclose(result.dense_plan(), theirs, atol=1e-8)
    assert result.value == pytest.approx((theirs * M).sum(), rel=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("relative_reg", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("family", ["gaussian", "ties", "far column", "zero masses"])
def test_no_regularisation_gives_nan(family: str, relative_reg: float, dtype: type) -> None:
    rng = np.random.default_rng(1)
    n, m = 23, 31
    M, a, b = rng.standard_normal((n, m)) ** 2, np.ones(n) / n, np.ones(m) / m
    if family == "ties":
        M = np.round(M)
    if family == "far column":
        M[:, 0] += 100 * M.max()
    if family == "zero masses":
        a[::2] = b[::3] = 0
        a, b = a / a.sum(), b / b.sum()
    M = M.astype(dtype)
    reg = relative_reg * float(M.max())
    result = ot.solve(M, a, b, reg, numItermax=3000)
    plan = result.dense_plan()
    assert plan.dtype == dtype
    assert np.isfinite(plan).all()
    assert (plan >= 0).all()
    assert np.isfinite(result.value)
    np.testing.assert_allclose(plan.sum(1), a, atol=1e-6 if dtype is np.float32 else 1e-12)
    if result.status == "converged":
        np.testing.assert_allclose(plan.sum(0), b, atol=1e-6 if dtype is np.float32 else 1e-8)
    exact = ot.solve(M, a, b).value
    entropy_bound = reg * np.log(n * m)
    if result.status == "converged":
        assert exact - 1e-6 <= result.value <= exact + entropy_bound + 1e-6


def test_what_does_not_converge_says_so() -> None:
    M = np.random.default_rng(0).random((50, 50))
    for passes in (1, 5, 40):
        with pytest.warns(UserWarning, match="did not reach stopThr"):
            plan, log = ot.sinkhorn([], [], M, 1e-4, numItermax=passes, log=True)
        np.testing.assert_allclose(plan.sum(1), 1 / 50, rtol=1e-12)
        assert log["niter"] == passes
        assert len(log["err"]) >= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ot.sinkhorn([], [], M, 1e-3, numItermax=5, warn=False)
    assert ot.solve(M, reg=1e-3, numItermax=5).status == "iteration_limit"


def test_warm_start_continues_where_it_ended() -> None:
    M = np.random.default_rng(0).random((60, 50))
    _, log = ot.sinkhorn([], [], M, 0.05, log=True, stopThr=1e-10)
    _, again = ot.sinkhorn([], [], M, 0.05, log=True, stopThr=1e-9, warmstart=log["warmstart"])
    assert again["niter"] == 1
    first = ot.solve(M, reg=0.05, stopThr=1e-10)
    assert ot.solve(M, reg=0.05, warmstart=first.potentials).n_iter == 1
