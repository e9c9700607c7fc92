"""Batch norms' running statistics: what the training data left in a network's weights."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)
from torch.nn.modules.batchnorm import _BatchNorm

from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import run


def tracking_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Find the batch norms, of any dimension, that keep running statistics; by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def running(norm: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the running mean and variance of a batch norm that keeps them."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


class StatisticsGap:
    """How far what batch norms read is from their running statistics; a context.

    For each batch norm, the mean over its channels of (μ − μ')² / (σ'² + ε) + (σ/σ' − 1)², where
    μ and σ are of the inputs and μ' and σ' the running ones; then summed over the batch norms.

    Parameters
    ----------
    model : nn.Module
        A working copy, in eval mode: it carries hooks while the context is open.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._norms = tracking_norms(model).values()
        self._terms: list[torch.Tensor] = []

    def __enter__(self) -> StatisticsGap:
        self._handles = [norm.register_forward_pre_hook(self._look) for norm in self._norms]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def run(self, inputs: InputSpec, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the network's logits for raw inputs and the gap, a number.

        The gap is ``None`` in a network without batch norms.
        """
        self._terms = []
        logits = run(self.model, inputs, raw)
        return logits, torch.stack(self._terms).sum() if self._terms else None

    def _look(self, norm: nn.Module, fed: tuple[torch.Tensor]) -> None:
        assert isinstance(norm, _BatchNorm)
        known_mean, known_var = running(norm)
        mean, var = channel_moments(fed[0])
        known_var = known_var + norm.eps
        shift = (mean - known_mean).square() / known_var
        stretch = ((var + norm.eps) / known_var).sqrt() - 1
        self._terms.append((shift + stretch.square()).mean())


def channel_moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each channel's mean and variance over all other axes, in float32, differentiably.

    A batch norm's kernel takes one pass in any memory format, where `torch.var_mean` of
    activations costs more than the convolutions that made them.

    Parameters
    ----------
    values : Tensor, shape (N, C, ...)
        At least two values a channel, in float32 or bfloat16.
    """
    moments: tuple[torch.Tensor, torch.Tensor] = _Moments.apply(values)
    return moments


class _Moments(torch.autograd.Function):
    """A channel's mean μ and variance; those of n values x have gradients 1/n and 2 (x - μ)/n."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n_channels = values.shape[1]
        n = values.numel() // n_channels
        mean, var = torch.zeros((2, n_channels), dtype=torch.float32, device=values.device)
        # With this momentum the running statistics are the batch's own, the variance unbiased.
        F.batch_norm(values, mean, var, training=True, momentum=1.0)
        ctx.save_for_backward(values, mean)
        return mean, var * ((n - 1) / n)

    @staticmethod
    def backward(ctx: Any, of_mean: torch.Tensor, of_var: torch.Tensor) -> torch.Tensor:
        values, mean = ctx.saved_tensors
        n = values.numel() // len(mean)
        slope = 2 * of_var / n
        offset = of_mean / n - slope * mean
        by_channel = (-1, *[1] * (values.ndim - 2))
        gradient: torch.Tensor = values * slope.view(by_channel) + offset.view(by_channel)
        return gradient.to(values.dtype)
