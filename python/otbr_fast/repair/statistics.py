"""Batch norms' running statistics: what the training data left in a network's weights."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import nn
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
        values = fed[0].float().transpose(0, 1).flatten(1)
        var, mean = torch.var_mean(values, dim=1, correction=0)
        known_var = known_var + norm.eps
        shift = (mean - known_mean).square() / known_var
        stretch = ((var + norm.eps) / known_var).sqrt() - 1
        self._terms.append((shift + stretch.square()).mean())
