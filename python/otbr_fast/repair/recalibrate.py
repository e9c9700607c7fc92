"""Batch statistics that fit a repaired network, by what surrogates show."""

from __future__ import annotations

import copy

import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import run, working_copy
from otbr_fast.repair.statistics import running, tracking_norms
from otbr_fast.repair.surrogates import Surrogates, images_at_once

_TELLING = 1e-6  # surrogates that vary a channel by less of its variance say nothing about it

_Statistics = dict[str, tuple[torch.Tensor, torch.Tensor]]  # mean and variance, by module


def recalibrate(
    repaired: nn.Module,
    original: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    *,
    share: float = 1.0,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Move the running statistics of a repaired network to where its weights now put them.

    Mixing or pruning neurons shrinks what batch norms read, and statistics that no longer fit cost
    accuracy: the observation of REPAIR (Jordan et al., ICLR 2023, arXiv 2211.08403), which measures
    them anew on training data. Surrogates have not quite the data's statistics, so here
    they only tell by how much these changed. With μ₀, σ₀² the original's running statistics, and
    measured on surrogates μ₁, σ₁² in the original and μ₂, σ₂² in the repaired network, the new
    ones are σ² = σ₀² σ₂²/σ₁² and μ = μ₂ + (μ₀ − μ₁) σ₂/σ₁. Of a channel that surrogates do not
    move in the original network, the ratio is taken as 1.

    Parameters
    ----------
    repaired, original : nn.Module
        Two networks of one architecture; they are not changed.
    inputs : InputSpec
        Shape, range and normalisation of their input.
    surrogates : Surrogates
        At least two; made from the original.
    share : float
        The part of the way that statistics are moved, in (0, 1].
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that; statistics are summed in
        float32.

    Returns
    -------
    nn.Module
        A copy of the repaired network, on the CPU, in eval mode, in its own precision. Batch
        norms without running statistics are left as they are, and so is a network without any.

    Raises
    ------
    RepairError
        A statistic would not be finite, or the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise RepairError(f"share={share} must be in (0, 1]")
    result = copy.deepcopy(repaired).cpu().eval()
    norms = tracking_norms(result)
    if not norms:
        return result
    before = _measured(original, inputs, surrogates, device)
    after = _measured(repaired, inputs, surrogates, device)
    known = tracking_norms(original)
    for name, norm in norms.items():
        mean, var = _moved(_statistics(known[name]), before[name], after[name])
        for buffer, values in zip(running(norm), (mean, var), strict=True):
            buffer.copy_(torch.lerp(buffer.float(), values, share))
            if not bool(torch.isfinite(buffer).all()):
                raise RepairError(
                    f"the recalibrated statistics of batch norm '{name}' are not finite in "
                    f"{buffer.dtype}: check the repaired network's weights"
                )
    return result


def _moved(
    known: tuple[torch.Tensor, torch.Tensor],
    before: tuple[torch.Tensor, torch.Tensor],
    after: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    ratio = torch.where(before[1] > _TELLING * known[1], after[1] / before[1], 1.0)
    return after[0] + (known[0] - before[0]) * ratio.sqrt(), known[1] * ratio


@torch.no_grad()
def _measured(
    model: nn.Module, inputs: InputSpec, surrogates: Surrogates, device: torch.device | str
) -> _Statistics:
    """Return each batch norm's mean and variance, where those before it use the batch's own.

    Both are means over batches; dropout stays off, as it would draw from the global generator.
    """
    net = working_copy(model, device)
    norms = tracking_norms(net)
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # torch then takes the mean over batches
        norm.train()
    images = surrogates.images
    for batch in images.tensor_split(-(-len(images) // images_at_once(inputs))):
        run(net, inputs, batch)
    return {name: _statistics(norm) for name, norm in norms.items()}


def _statistics(norm: nn.modules.batchnorm._BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    mean, var = running(norm)
    return mean.float().cpu(), var.float().cpu()
