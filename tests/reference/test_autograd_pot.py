"""Gradients and objectives against those of POT's torch backend."""

from __future__ import annotations

import numpy as np
import ot as pot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbr_fast import ot

SHAPES = st.tuples(st.integers(2, 12), st.integers(2, 12))
SEEDS = st.integers(0, 2**32 - 1)


def leaves(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    M, a, b = rng.random(shape), rng.random(shape[0]) + 0.1, rng.random(shape[1]) + 0.1
    arrays = (M, a / a.sum(), b / b.sum())
    return tuple(torch.tensor(x, requires_grad=True) for x in arrays)  # type: ignore[return-value]


def assert_gradients_agree(
    ours: Tensor, theirs: Tensor, M: Tensor, a: Tensor, b: Tensor, atol: float
) -> None:
    """Up to constants in a and b, which cannot change alone."""
    pairs = zip(
        torch.autograd.grad(ours, (M, a, b)), torch.autograd.grad(theirs, (M, a, b)), strict=True
    )
    for i, (mine, other) in enumerate(pairs):
        if i > 0:
            mine, other = mine - mine.mean(), other - other.mean()
        torch.testing.assert_close(mine, other, atol=atol, rtol=1e-6)


@settings(max_examples=50)
@given(shape=SHAPES, seed=SEEDS)
def test_emd2(shape: tuple[int, int], seed: int) -> None:
    M, a, b = leaves(shape, seed)
    ours, theirs = ot.emd2(a, b, M), pot.emd2(a, b, M)
    torch.testing.assert_close(ours, theirs)
    assert_gradients_agree(ours, theirs, M, a, b, 1e-9)
    assert_gradients_agree(ot.solve(M, a, b).value, pot.solve(M, a, b).value, M, a, b, 1e-9)


@settings(max_examples=30)
@given(shape=SHAPES, seed=SEEDS, reg=st.sampled_from([1.0, 0.2]))
def test_the_objective_and_its_envelope_gradients(
    shape: tuple[int, int], seed: int, reg: float
) -> None:
    M, a, b = leaves(shape, seed)
    ours = ot.solve(M, a, b, reg, stopThr=1e-13).objective
    theirs = pot.solve(M, a, b, reg, grad="envelope", max_iter=10_000, tol=1e-13).value
    assert_gradients_agree(ours, theirs, M, a, b, 1e-7)
    entropies = torch.xlogy(a, a).sum() + torch.xlogy(b, b).sum()
    torch.testing.assert_close(ours + reg * (1 - entropies), theirs, atol=1e-8, rtol=1e-8)
    plain = pot.solve(M, a, b, reg, reg_type="entropy", max_iter=10_000, tol=1e-13).value
    torch.testing.assert_close(ours + reg, plain, atol=1e-8, rtol=1e-8)


@settings(max_examples=30)
@given(shape=SHAPES, seed=SEEDS, reg=st.sampled_from([1.0, 0.2]))
def test_sinkhorn2_differentiated_through_its_iterations(
    shape: tuple[int, int], seed: int, reg: float
) -> None:
    M, a, b = leaves(shape, seed)
    ours = ot.sinkhorn2(a, b, M, reg, stopThr=1e-13)
    theirs = pot.sinkhorn2(a, b, M, reg, method="sinkhorn_log", numItermax=5000, stopThr=1e-13)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    assert_gradients_agree(ours, theirs, M, a, b, 1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_training_loop_reaches_pots_minimum(dtype: torch.dtype) -> None:
    """Move points towards others by the gradient of the exact cost."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(20, 2, generator=generator, dtype=dtype)
    start = torch.randn(15, 2, generator=generator, dtype=dtype)
    ends = []
    for emd2 in (ot.emd2, pot.emd2):
        points = start.clone().requires_grad_()
        for _ in range(30):
            loss = emd2(
                pot.unif(15, type_as=points),
                pot.unif(20, type_as=points),
                torch.cdist(points, target) ** 2,
            )
            (gradient,) = torch.autograd.grad(loss, points)
            points = (points - 2 * gradient).detach().requires_grad_()
        ends.append(points.detach())
    torch.testing.assert_close(ends[0], ends[1], atol=1e-3, rtol=1e-3)
