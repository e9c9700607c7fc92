"""Rounding a plan to an exact coupling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otbr_fast import ot


@settings(max_examples=200)
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    noise=st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 1e3]),
    mass=st.sampled_from([1e-9, 1.0, 1e9]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_are_met_and_little_is_moved(
    n: int, m: int, noise: float, mass: float, dtype: type, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random(n), rng.random(m)
    a[::3] *= rng.random() < 0.5
    a[-1] += 0.1
    a, b = mass * a / a.sum(), mass * b / b.sum()
    G = (a[:, None] * b / mass * (1 + noise * rng.random((n, m)))).astype(dtype)
    rounded = ot.round_plan(G, a, b)
    assert rounded.dtype == np.float64
    assert (rounded >= 0).all()
    np.testing.assert_allclose(rounded.sum(1), a, rtol=4e-15, atol=4e-15 * mass / n)
    np.testing.assert_allclose(rounded.sum(0), b, rtol=4e-15, atol=4e-15 * mass / m)
    wide = G.astype(np.float64)
    error = np.abs(wide.sum(1) - a).sum() + np.abs(wide.sum(0) - b).sum()
    assert np.abs(rounded - wide).sum() <= 2 * error + 1e-14 * mass


def test_nothing_becomes_the_product() -> None:
    a, b = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    np.testing.assert_allclose(ot.round_plan(np.zeros((2, 2)), a, b), np.outer(a, b))


def test_a_plan_cut_short_becomes_a_coupling() -> None:
    M = np.random.default_rng(0).random((300, 200))
    plan = ot.sinkhorn([], [], M, 1e-3, numItermax=3, warn=False)
    rounded = ot.round_plan(plan)
    np.testing.assert_allclose(rounded.sum(1), 1 / 300, rtol=1e-14)
    np.testing.assert_allclose(rounded.sum(0), 1 / 200, rtol=1e-14)
    np.testing.assert_array_equal(rounded, ot.round_plan(plan, n_threads=1))
    assert isinstance(ot.round_plan(torch.from_numpy(plan)), torch.Tensor)


def test_what_is_no_plan_is_refused() -> None:
    with pytest.raises(ValueError, match=r"G\[0, 1\] is -1"):
        ot.round_plan(np.array([[1.0, -1.0]]))
    with pytest.raises(ValueError, match="NaN"):
        ot.round_plan(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="sums to"):
        ot.round_plan(np.ones((1, 2)), [1.0], [2.0, 2.0])
