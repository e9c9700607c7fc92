from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otbr_fast.repair.statistics import channel_moments

SHAPES = ((2, 1), (7, 5), (2, 3, 1), (3, 2, 9), (1, 4, 2, 3), (5, 3, 4, 7), (2, 3, 2, 1, 5))
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(sorted(TOLERANCE, key=str)),
    channels_last=st.booleans(),
    scale=st.sampled_from((1e-6, 1.0, 1e6)),
    shift=st.sampled_from((0.0, -3.0)),
    seed=st.integers(0, 2**32),
)
def test_moments_and_their_gradients_are_those_of_var_mean(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    channels_last: bool,
    scale: float,
    shift: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = (scale * (torch.randn(shape, generator=generator) + shift)).to(dtype)
    if channels_last and len(shape) == 4:
        values = values.contiguous(memory_format=torch.channels_last)
    weights = torch.randn((2, shape[1]), generator=generator, dtype=torch.float64)
    known = values.double().requires_grad_(True)
    axes = [axis for axis in range(len(shape)) if axis != 1]
    var, mean = torch.var_mean(known, dim=axes, correction=0)
    loss = (weights[0] * mean + weights[1] * var / scale).sum()
    (known_gradient,) = torch.autograd.grad(loss, known)
    moved = values.clone().requires_grad_(True)
    found_mean, found_var = channel_moments(moved)
    loss = (weights[0] * found_mean + weights[1] * found_var / scale).sum()
    (gradient,) = torch.autograd.grad(loss, moved)
    assert found_mean.dtype == found_var.dtype == torch.float32
    assert gradient.dtype == dtype
    for got, wanted, size in (
        (found_mean, mean, scale),
        (found_var, var, scale**2),
        (gradient, known_gradient, 1.0),
    ):
        of = TOLERANCE[dtype if got is gradient else torch.float32]
        torch.testing.assert_close(got.double() / size, wanted / size, rtol=of, atol=of)


@pytest.mark.parametrize("channel", [0.0, 1.0, -1e4])
def test_a_channel_that_does_not_vary_has_no_variance(channel: float) -> None:
    values = torch.full((4, 2, 3, 3), channel, requires_grad=True)
    mean, var = channel_moments(values)
    assert mean.tolist() == [channel, channel]
    assert var.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(var.sum(), values)
    assert not gradient.any()
