"""Normalisation of images whose own is not known."""

from __future__ import annotations

import torch

from otbr_fast.evaluate.images import LabeledImages
from otbr_fast.models import InputSpec


def measured_inputs(data: LabeledImages) -> InputSpec:
    """Return the normalisation to mean 0 and deviation 1 of each channel, rounded to 4 digits."""
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in data.images.unbind(dim=1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        middle = float(share @ values)
        mean.append(round(middle, 4))
        std.append(max(round(float(share @ (values - middle).square()) ** 0.5, 4), 1e-4))
    _, channels, height, width = data.images.shape
    return InputSpec(shape=(channels, height, width), mean=tuple(mean), std=tuple(std))
