"""Channel-Lipschitz pruning (Zheng et al., ECCV 2022, arXiv 2208.03111)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from otbr_fast.errors import OtbrFastError, UnsupportedModelError
from otbr_fast.evaluate.defences.base import Case, Method, Trial
from otbr_fast.evaluate.defences.batch_norms import NormedConv, own_norms

Pairing = Callable[[nn.Module], tuple[NormedConv, ...]]

PUBLISHED_U = 3.0
"""What the paper takes for CIFAR-10."""

_US = (0.5, 1.0, 1.5, 2.0, 2.5, PUBLISHED_U, 4.0, 5.0)


@dataclass(frozen=True)
class ChannelLipschitzPruning:
    """Prunes channels whose Lipschitz constant stands out in their layer, from the weights alone.

    Parameters
    ----------
    name : str
        The method's.
    pairing : callable
        Which batch norm scales what a convolution writes. With `own_norms`, the bound is one of
        the channel's, as in the paper; what writes into a residual stream has no batch norm of
        its own and is left as it is, since a channel of the stream is a sum of what several
        convolutions write. With `next_norms` it is what the published code computes; on
        pre-activation networks the bounds of stream channels are then not bounds of anything, but
        what is silenced is a channel as a block reads it.
    """

    name: str = "clp"
    pairing: Pairing = own_norms

    @property
    def methods(self) -> tuple[Method, ...]:
        """The published threshold, and others in hindsight."""
        trials = tuple(Trial(self.name, {"u": u}, f"u {u:g}") for u in _US)
        return (Method(self.name, trials, fixed=trials[_US.index(PUBLISHED_U)]),)

    def repaired(
        self, case: Case, wanted: Sequence[Trial]
    ) -> Iterator[tuple[Trial, nn.Module | OtbrFastError]]:
        """Prune with each wanted threshold."""
        for trial in wanted:
            yield trial, prune_channels(case.model, float(trial.settings["u"] or 0), self.pairing)


def prune_channels(model: nn.Module, u: float, pairing: Pairing = own_norms) -> nn.Module:
    """Return a copy without the channels whose bound is above mean + u std of their layer.

    A pruned channel's batch norm has weight 0 and bias 0, as published: the channel is 0. The
    standard deviation is that of a sample; a layer of one channel is left as it is.

    Raises
    ------
    UnsupportedModelError
        No convolution has a batch norm.
    """
    pruned = copy.deepcopy(model)
    pairs = pairing(pruned)
    if not pairs:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no convolution with a batch norm that reads it alone, and "
            "channel-Lipschitz pruning knows no other."
        )
    for pair in pairs:
        bounds = channel_bounds(pair.conv, pair.norm)
        if len(bounds) > 1:
            outstanding = bounds > bounds.mean() + u * bounds.std()
            with torch.no_grad():
                pair.norm.weight[outstanding] = 0
                pair.norm.bias[outstanding] = 0
    return pruned


@torch.no_grad()
def channel_bounds(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """Return the upper bound of each channel's Lipschitz constant (the paper's UCLC), float64.

    The spectral norm of the channel's kernel, reshaped to (input channels, height * width), times
    how much its batch norm scales it: abs(weight) / sqrt(running_var + eps).
    """
    assert norm.running_var is not None  # as the pairing found it
    kernels = conv.weight.double().flatten(2)
    scale = norm.weight.double().abs() / torch.sqrt(norm.running_var.double() + norm.eps)
    bounds: torch.Tensor = torch.linalg.matrix_norm(kernels, ord=2) * scale
    return bounds
