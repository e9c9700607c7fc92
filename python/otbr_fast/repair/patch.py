"""Patches that lead to a class: few pixels side by side, of any value."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.probe import Probe, descended
from otbr_fast.repair.surrogates import Surrogates

AREAS = (0.0125, 0.025, 0.05, 0.1)
"""Parts of the image that patches may cover: 13 to 102 of 32 x 32 pixels."""

_FIRST_AREA = 0.7  # from which the patch shrinks in the first half of the search
_NEIGHBOURS = 1.5 / 32  # standard deviation of what joins pixels, in parts of the smaller side


def patch_perturbation(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    target: int,
    *,
    area: float,
    steps: int = 20,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Probe:
    """Search few pixels that lead surrogates of other classes to one, whatever they hold.

    A patch that is stuck onto images is a large change of few pixels; a perturbation of small L2
    norm is something else, and rather made of the class's own features. Neural Cleanse (Wang et
    al., IEEE S&P 2019) seeks a mask of small L1 norm; here the number of pixels is given, and
    those with most of the perturbation in their neighbourhood are kept after each step: at first
    most of the image, ever fewer until half of the search is done.

    Parameters and errors are those of `universal_perturbation`, and:

    Parameters
    ----------
    area : float
        The part of the image's pixels that may change, in (0, 1].

    Returns
    -------
    Probe
        Its ``radius`` is the root mean square of what was found, over the whole image.
    """
    if not 0 < area <= 1:
        raise RepairError(f"area={area}: a patch covers a part of the image, in (0, 1]")
    channels, height, width = inputs.shape
    n_pixels = height * width
    scale = inputs.high - inputs.low

    def project(values: torch.Tensor, done: float) -> torch.Tensor:
        covered = area + max(0.0, _FIRST_AREA - area) * max(0.0, 1 - 2 * done)
        kept = torch.zeros(n_pixels, dtype=torch.bool, device=values.device)
        kept[_spread(values).flatten().topk(max(1, round(covered * n_pixels))).indices] = True
        return (values * kept.view(height, width)).clamp(-scale, scale)

    bound = scale * (channels * area * n_pixels) ** 0.5
    return descended(
        model,
        inputs,
        surrogates,
        target,
        torch.zeros(inputs.shape, dtype=torch.float32),
        project,
        bound,
        steps=steps,
        seed=seed,
        device=device,
    )


def _spread(values: torch.Tensor) -> torch.Tensor:
    """Return how much of a perturbation, shape (C, H, W), is in each pixel's neighbourhood."""
    height, width = values.shape[1:]
    deviation = _NEIGHBOURS * min(height, width)
    reach = math.ceil(2.5 * deviation)
    steps = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    weights = torch.exp(-steps.square() / (2 * deviation**2))
    size = values.abs().sum(dim=0)[None, None]
    down = F.conv2d(size, weights.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(down, weights.view(1, 1, 1, -1), padding=(0, reach))[0, 0]
