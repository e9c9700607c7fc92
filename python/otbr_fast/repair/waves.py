"""Plane waves that lead to a class: triggers that no gradient points to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import answers, working_copy
from otbr_fast.repair.probe import RADII, Probe, measured
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.surrogates import Surrogates, images_at_once

_MOST_CYCLES = 8  # along a side; a quarter of the pixels if those are fewer
_N_IMAGES = 32
_MOST = 4


def leading_waves(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    target: int,
    *,
    radius: float,
    wanted: float,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Probe, ...]:
    """Try grey plane waves, of all directions and up to 8 cycles along a side, as perturbations.

    A trigger of few frequencies, such as SIG's stripes (Barni et al., ICIP 2019), acts only near
    its full size: there is no gradient towards it at the images themselves, so a search that
    starts from nothing finds other, weaker ways. But the waves can all be tried. Single Fourier
    directions as universal perturbations are from Tsuzuku & Sato (CVPR 2019, arXiv 1809.04098).

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    surrogates : Surrogates
        Those made for the target are left out; all waves are tried on 32 of the others.
    target : int
        The class to lead to.
    radius : float
        The waves' root mean square, as a part of the input range.
    wanted : float
        The part of the surrogates that a wave must lead to the target, in [0, 1].
    seed : int
        Decides which surrogates.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.

    Returns
    -------
    tuple of Probe
        At most four, those of the least loss first; empty if no wave leads enough.

    Raises
    ------
    RepairError
        There are no surrogates of other classes, or the network's answers are not finite.
    """
    net = working_copy(model, device)
    images = surrogates.of_others(target)
    some = images[_drawn(len(images), seed)]
    waves = list(_waves(inputs, radius))
    losses = [float(_losses(net, inputs, some, wave)[:, target].mean()) for wave in waves]
    best = sorted(range(len(waves)), key=losses.__getitem__)[:_MOST]
    probes = [measured(net, inputs, images, waves[i], target, radius) for i in best]
    return tuple(probe for probe in probes if probe.success >= wanted)


def wave_losses(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    num_classes: int,
    *,
    radius: float = RADII[-1],
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Measure how near the best of the waves leads to each class.

    Parameters are those of `leading_waves`; of all classes' surrogates, 32 are drawn. Progress is
    told of after each wave with ``("waves", done, waves in all)``.

    Returns
    -------
    ndarray, shape (num_classes,)
        The least, over the waves, of the mean cross-entropy with the class as the label, of
        surrogates of other classes; 0 for all if the images are too small for a wave.
    """
    net = working_copy(model, device)
    chosen = _drawn(len(surrogates), seed)
    some = surrogates.images[chosen]
    of_others = surrogates.labels[chosen][:, None] != torch.arange(num_classes)
    least = np.full(num_classes, np.inf)
    tell, waves = progress or silent, list(_waves(inputs, radius))
    for done, wave in enumerate(waves, start=1):
        losses = _losses(net, inputs, some, wave)
        means = (losses * of_others).sum(dim=0) / of_others.sum(dim=0)
        least = np.minimum(least, means.double().numpy())
        tell("waves", done, len(waves))
    return np.where(np.isinf(least), 0.0, least)


def _drawn(count: int, seed: int) -> torch.Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:_N_IMAGES]


def _losses(
    net: nn.Module, inputs: InputSpec, images: torch.Tensor, wave: torch.Tensor
) -> torch.Tensor:
    """Return each image's cross-entropy with each class as the label, with the wave added."""
    moved = (images + wave).clamp(inputs.low, inputs.high)
    return -answers(net, inputs, moved, images_at_once(inputs)).log_softmax(dim=1)


def _waves(inputs: InputSpec, radius: float) -> Iterator[torch.Tensor]:
    """Yield each wave and the same a quarter of a period further, shape (C, H, W)."""
    _, height, width = inputs.shape
    most_down, most_along = (min(_MOST_CYCLES, size // 4) for size in (height, width))
    y = torch.arange(height, dtype=torch.float32)[:, None] / height
    x = torch.arange(width, dtype=torch.float32) / width
    for down, along in itertools.product(range(-most_down, most_down + 1), range(most_along + 1)):
        if along == 0 and down <= 0:  # no wave, or one that is met with its sign changed
            continue
        for shift in (0.0, math.pi / 2):
            wave = torch.cos(2 * math.pi * (down * y + along * x) + shift)
            wave = wave * (radius * (inputs.high - inputs.low) / wave.square().mean().sqrt())
            yield wave.expand(inputs.shape).contiguous()
