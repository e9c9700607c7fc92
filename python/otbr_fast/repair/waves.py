"""Plane waves that lead to a class: triggers that no gradient points to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import answers, working_copy
from otbr_fast.repair.probe import RADII, Probe, measured
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.surrogates import Surrogates, images_at_once

_MOST_CYCLES = 8  # along a side; a quarter of the pixels if those are fewer
_N_IMAGES = 32
_MOST = 4


@dataclass(frozen=True)
class LeadingWaves:
    """Waves that lead to a class.

    Parameters
    ----------
    probes : tuple of Probe
        At most four, those of the least loss first; empty if no wave leads enough.
    between : tuple of Probe
        The best of them, an eighth of a period to both sides: waves that were not tried.
    rivals : tuple of float
        The success of each other class's best wave.
    """

    probes: tuple[Probe, ...]
    between: tuple[Probe, ...]
    rivals: tuple[float, ...]


def leading_waves(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    target: int,
    num_classes: int,
    *,
    radius: float,
    wanted: float,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> LeadingWaves:
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
        All waves are tried on 32 of them; a class's success and loss are those on images of others.
    target : int
        The class to lead to.
    num_classes : int
        Its number of logits.
    radius : float
        The waves' root mean square, as a part of the input range.
    wanted : float
        The part of the surrogates that a wave must lead to the target, in [0, 1].
    seed : int
        Decides which surrogates.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.

    Raises
    ------
    RepairError
        There are no surrogates of other classes, or the network's answers are not finite.
    """
    net = working_copy(model, device)
    images = surrogates.of_others(target)
    waves = list(_waves(inputs))
    losses, successes = _tried(net, inputs, surrogates, num_classes, waves, radius, seed)

    def probe(wave: _Wave) -> Probe:
        return measured(net, inputs, images, wave.drawn(inputs, radius), target, radius)

    best = losses[:, target].argsort()[:_MOST]
    probes = ((waves[i], probe(waves[i])) for i in best)
    leading = [(wave, found) for wave, found in probes if found.success >= wanted]
    between = [
        replace(wave, phase=wave.phase + turn)
        for wave, _ in leading[:1]
        for turn in (-math.pi / 4, math.pi / 4)
    ]
    rivals = np.delete(successes.max(axis=0, initial=0.0), target)
    return LeadingWaves(
        tuple(found for _, found in leading), tuple(map(probe, between)), tuple(map(float, rivals))
    )


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
    waves = list(_waves(inputs))
    if not waves:
        return np.zeros(num_classes)
    losses, _ = _tried(net, inputs, surrogates, num_classes, waves, radius, seed, progress)
    least: NDArray[np.float64] = losses.min(axis=0)
    return least


@dataclass(frozen=True)
class _Wave:
    """Cycles down and along the image, and a phase."""

    down: int
    along: int
    phase: float

    def drawn(self, inputs: InputSpec, radius: float) -> torch.Tensor:
        """Return it as a perturbation, shape (C, H, W)."""
        _, height, width = inputs.shape
        y = torch.arange(height, dtype=torch.float32)[:, None] / height
        x = torch.arange(width, dtype=torch.float32) / width
        wave = torch.cos(2 * math.pi * (self.down * y + self.along * x) + self.phase)
        wave = wave * (radius * (inputs.high - inputs.low) / wave.square().mean().sqrt())
        return wave.expand(inputs.shape).contiguous()


def _waves(inputs: InputSpec) -> Iterator[_Wave]:
    """Yield each wave and the same a quarter of a period further."""
    _, height, width = inputs.shape
    most_down, most_along = (min(_MOST_CYCLES, size // 4) for size in (height, width))
    for down, along in itertools.product(range(-most_down, most_down + 1), range(most_along + 1)):
        if along == 0 and down <= 0:  # no wave, or one that is met with its sign changed
            continue
        for phase in (0.0, math.pi / 2):
            yield _Wave(down, along, phase)


def _tried(
    net: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    num_classes: int,
    waves: Sequence[_Wave],
    radius: float,
    seed: int,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each wave's loss and success with each class, on surrogates of other classes.

    The loss is the mean cross-entropy with the class as the label.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(surrogates), generator=generator)[:_N_IMAGES]
    some = surrogates.images[chosen]
    of_others = (surrogates.labels[chosen][:, None] != torch.arange(num_classes)).double()
    of_others = of_others / of_others.sum(dim=0).clamp(min=1)
    losses, successes = (np.empty((len(waves), num_classes)) for _ in range(2))
    tell = progress or silent
    for i, wave in enumerate(waves):
        moved = (some + wave.drawn(inputs, radius)).clamp(inputs.low, inputs.high)
        logits = answers(net, inputs, moved, images_at_once(inputs)).double()
        led = F.one_hot(logits.argmax(dim=1), num_classes)
        losses[i] = -(of_others * logits.log_softmax(dim=1)).sum(dim=0).numpy()
        successes[i] = (of_others * led).sum(dim=0).numpy()
        tell("waves", i + 1, len(waves))
    return losses, successes
