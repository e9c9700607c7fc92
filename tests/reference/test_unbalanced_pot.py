"""Unbalanced and partial transport against POT and against what defines their solutions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import ot as pot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import kl_div

from otbr_fast import ot

Problem = tuple[Any, Any, Any]


@st.composite
def problems(draw: st.DrawFn, zeros: bool = True) -> Problem:
    """Masses of any sum, some of them zero, and costs, some of them equal."""
    n, m = draw(st.integers(1, 15)), draw(st.integers(1, 15))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    M = rng.random((n, m))
    if draw(st.booleans()):
        M = np.round(4 * M) / 4
    a, b = rng.random(n) + 0.05, rng.random(m) + 0.05
    if zeros and draw(st.booleans()):
        a[1::3] = b[1::2] = 0
    return a, b * draw(st.sampled_from([0.2, 1.0, 5.0])), M


def objective(P: Any, problem: Problem, reg: float, rho: tuple[float, float], kind: str) -> float:
    a, b, M = problem
    entropy = kl_div(P, np.outer(a, b)).sum() if kind == "kl" else (P * np.log(P) - P).sum()
    relaxed = rho[0] * kl_div(P.sum(1), a).sum() + rho[1] * kl_div(P.sum(0), b).sum()
    return float((P * M).sum() + reg * entropy + relaxed)


@settings(max_examples=200)
@given(
    problems(zeros=False),
    st.sampled_from([1.0, 0.2, 0.05]),
    st.sampled_from([10.0, 1.0, 0.1]),
    st.sampled_from([10.0, 1.0, 0.1]),
    st.sampled_from(["kl", "entropy"]),
)
def test_unbalanced_agrees(
    problem: Problem, reg: float, rho_1: float, rho_2: float, kind: str
) -> None:
    a, b, M = problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # POT warns that it makes the reference measure itself
        theirs, their_log = pot.sinkhorn_unbalanced(
            a, b, M, reg, (rho_1, rho_2), reg_type=kind, numItermax=50_000, stopThr=1e-15, log=True
        )
    ours, log = ot.sinkhorn_unbalanced(
        a, b, M, reg, (rho_1, rho_2), reg_type=kind, stopThr=1e-12, log=True
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-12)
    assert log["cost"] == pytest.approx(their_log["cost"], rel=1e-8)
    assert log["total_cost"] == pytest.approx(objective(ours, problem, reg, (rho_1, rho_2), kind))
    np.testing.assert_allclose(log["logu"], their_log["logu"], atol=1e-6)
    np.testing.assert_allclose(log["logv"], their_log["logv"], atol=1e-6)


@settings(max_examples=100)
@given(
    problems(),
    st.sampled_from([1e-1, 1e-2, 1e-3, 1e-4]),
    st.sampled_from([(1.0, 1.0), (np.inf, 0.5), (0.5, np.inf), (0.01, 3.0)]),
    st.sampled_from([np.float32, np.float64]),
)
def test_unbalanced_solves_its_optimality_conditions(
    problem: Problem, reg: float, reg_m: tuple[float, float], dtype: type
) -> None:
    """P 1 = a exp(-f / rho_1), P^T 1 = b exp(-g / rho_2) at any reg, where POT underflows."""
    a, b, M = problem
    plan, log = ot.sinkhorn_unbalanced(
        a, b, M.astype(dtype), reg, reg_m, numItermax=5000, stopThr=1e-9, log=True
    )
    assert np.isfinite(plan).all()
    tolerance = 1e-5 if dtype is np.float32 else 1e-6
    for axis, (given_, potential, rho) in enumerate(
        zip((a, b), (log["logu"], log["logv"]), reg_m, strict=True)
    ):
        held = given_ > 0
        wanted = given_[held] * np.exp(-reg * potential[held] / rho)
        found = plan.sum(1 - axis, dtype=np.float64)
        np.testing.assert_allclose(found[held], wanted, rtol=tolerance, atol=tolerance)
        assert (found[~held] == 0).all()


def test_exact_marginals_are_the_limit_and_the_infinite_case() -> None:
    rng = np.random.default_rng(0)
    M, a, b = rng.random((20, 30)), rng.random(20), rng.random(30)
    b *= a.sum() / b.sum()
    balanced = ot.sinkhorn(a, b, M, 0.02, stopThr=1e-12)
    infinite = ot.sinkhorn_unbalanced(a, b, M, 0.02, np.inf, stopThr=1e-12)
    strict = ot.sinkhorn_unbalanced(a, b, M, 0.02, 1e7, stopThr=1e-12)
    np.testing.assert_allclose(infinite, balanced, atol=1e-10)
    np.testing.assert_allclose(strict, balanced, atol=1e-6)


@pytest.mark.parametrize("reg_m", [0.0, -1.0, np.nan, [1.0, 2.0, 3.0], []])
def test_unbalanced_refuses_what_is_no_strength(reg_m: Any) -> None:
    with pytest.raises(ValueError, match="reg_m"):
        ot.sinkhorn_unbalanced([], [], np.ones((2, 2)), 1.0, reg_m)
    with pytest.raises(ValueError, match="translation"):
        ot.sinkhorn_unbalanced([], [], np.ones((2, 2)), 1.0, 1.0, method="greenkhorn")


@settings(max_examples=200)
@given(problems(), st.floats(0, 1), st.sampled_from([0.0, -0.5, -2.0]))
def test_partial_agrees(problem: Problem, part: float, shift: float) -> None:
    a, b, M = problem
    M = M + shift
    mass = part * min(a.sum(), b.sum())
    plan, log = ot.partial_wasserstein(a, b, M, m=mass, log=True)
    assert (plan >= 0).all()
    assert plan.sum() == pytest.approx(mass, rel=1e-12, abs=1e-12)
    assert (plan.sum(1) <= a + 1e-12).all()
    assert (plan.sum(0) <= b + 1e-12).all()
    # POT's dummy cost, 2 max(M), is too small for costs of either sign; a shift moves the value by
    # its product with the mass.
    theirs = pot.partial.partial_wasserstein2(a, b, M - M.min(), m=mass, numItermax=10**9)
    assert log["partial_w_dist"] == pytest.approx(theirs + mass * M.min(), rel=1e-9, abs=1e-9)
    assert log["result_code"] == 1


def test_partial_moves_all_it_can_by_default() -> None:
    a, b, M = [0.1, 0.2], [0.1, 0.1], [[0.0, 1.0], [2.0, 2.5]]  # no other plan costs as little
    whole = np.array([[0.1, 0.0], [0.0, 0.1]])
    np.testing.assert_allclose(ot.partial_wasserstein(a, b, M), whole, atol=1e-15)
    part = ot.partial_wasserstein(a, b, M, m=0.1)
    np.testing.assert_allclose(part, np.array([[0.1, 0.0], [0.0, 0.0]]), atol=1e-15)
    assert (ot.partial_wasserstein(a, b, np.zeros((2, 2)), m=0.05).sum()) == pytest.approx(0.05)
    for m in (-0.1, 0.3, np.nan):
        with pytest.raises(ValueError, match="m is"):
            ot.partial_wasserstein(a, b, M, m=m)


@settings(max_examples=100)
@given(problems(zeros=False), st.floats(0.05, 0.95), st.sampled_from([1.0, 0.2, 0.05]))
def test_entropic_partial_agrees(problem: Problem, part: float, reg: float) -> None:
    a, b, M = problem
    mass = part * min(a.sum(), b.sum())
    theirs = pot.partial.entropic_partial_wasserstein(
        a, b, M, reg, m=mass, numItermax=20_000, stopThr=1e-15
    )
    ours = ot.entropic_partial_wasserstein(a, b, M, reg, m=mass, numItermax=20_000, stopThr=1e-12)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)


@settings(max_examples=60)
@given(problems(), st.floats(0.1, 1.0), st.sampled_from([1e-1, 1e-2, 1e-3]))
def test_entropic_partial_keeps_its_limits(problem: Problem, part: float, reg: float) -> None:
    a, b, M = problem
    mass = part * min(a.sum(), b.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan, log = ot.entropic_partial_wasserstein(
            a, b, M, reg, m=mass, numItermax=3000, stopThr=1e-9, log=True
        )
    assert np.isfinite(plan).all()
    assert (plan >= 0).all()
    assert plan.sum() == pytest.approx(mass, rel=1e-9)
    assert (plan.sum(0) <= b * (1 + 1e-9) + 1e-12).all()
    if log["err"][-1] <= 1e-9:
        assert (plan.sum(1) <= a + 1e-7).all()
        exact = ot.partial_wasserstein(a, b, M, m=mass, log=True)[1]["partial_w_dist"]
        assert log["partial_w_dist"] >= exact - 1e-6
        assert log["partial_w_dist"] <= exact + mass * reg * np.log(plan.size) + 1e-6
