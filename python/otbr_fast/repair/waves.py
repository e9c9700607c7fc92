"""Plane waves that lead to a class: triggers that no gradient points to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
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
class TriedWaves:
    """What waves of one size do.

    Parameters
    ----------
    radius : float
        Their root mean square, as a part of the input range.
    losses : ndarray, shape (waves, classes)
        The mean cross-entropy with the class as the label, of surrogates of other classes. There
        are no waves if the images are too small for any.
    successes : ndarray, shape (waves, classes)
        The part of those surrogates that is taken for the class.
    """

    radius: float
    losses: NDArray[np.float64]
    successes: NDArray[np.float64]

    @property
    def least_losses(self) -> NDArray[np.float64]:
        """Of each class's best wave, shape (classes,); 0 for all if there are no waves."""
        least: NDArray[np.float64] = self.losses.min(axis=0, initial=math.inf)
        return np.where(np.isinf(least), 0.0, least)


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


def try_waves(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    num_classes: int,
    *,
    radius: float = RADII[-1],
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> TriedWaves:
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
        The waves are tried on 32 of them; a class's success and loss are those on images of others.
    num_classes : int
        The network's number of logits.
    radius : float
        The waves' root mean square, as a part of the input range.
    seed : int
        Decides which surrogates.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.
    progress : callable, optional
        Called after each wave with ``("waves", done, waves in all)``.

    Raises
    ------
    RepairError
        The network's answers are not finite.
    """
    net = working_copy(model, device)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(surrogates), generator=generator)[:_N_IMAGES]
    some = surrogates.images[chosen]
    of_others = (surrogates.labels[chosen][:, None] != torch.arange(num_classes)).double()
    of_others = of_others / of_others.sum(dim=0).clamp(min=1)
    waves = list(_waves(inputs))
    losses, successes = (np.empty((len(waves), num_classes)) for _ in range(2))
    tell = progress or silent
    for i, wave in enumerate(waves):
        moved = (some + wave.drawn(inputs, radius)).clamp(inputs.low, inputs.high)
        logits = answers(net, inputs, moved, images_at_once(inputs)).double()
        led = F.one_hot(logits.argmax(dim=1), num_classes)
        losses[i] = -(of_others * logits.log_softmax(dim=1)).sum(dim=0).numpy()
        successes[i] = (of_others * led).sum(dim=0).numpy()
        tell("waves", i + 1, len(waves))
    return TriedWaves(radius, losses, successes)


def leading_waves(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    target: int,
    tried: TriedWaves,
    *,
    wanted: float,
    device: torch.device | str = "cpu",
) -> LeadingWaves:
    """Choose the waves that lead to a class best, and measure them on all surrogates of others.

    Parameters are those of `try_waves`, but:

    Parameters
    ----------
    target : int
        The class to lead to.
    tried : TriedWaves
        Of the same network and inputs.
    wanted : float
        The part of the surrogates that a wave must lead to the target, in [0, 1].

    Raises
    ------
    RepairError
        There are no surrogates of other classes, or the network's answers are not finite.
    """
    net = working_copy(model, device)
    images = surrogates.of_others(target)
    waves, radius = list(_waves(inputs)), tried.radius

    def probe(wave: _Wave) -> Probe:
        return measured(net, inputs, images, wave.drawn(inputs, radius), target, radius)

    best = tried.losses[:, target].argsort()[:_MOST]
    probes = ((waves[i], probe(waves[i])) for i in best)
    leading = [(wave, found) for wave, found in probes if found.success >= wanted]
    between = [
        replace(wave, phase=wave.phase + turn)
        for wave, _ in leading[:1]
        for turn in (-math.pi / 4, math.pi / 4)
    ]
    rivals = np.delete(tried.successes.max(axis=0, initial=0.0), target)
    return LeadingWaves(
        tuple(found for _, found in leading), tuple(map(probe, between)), tuple(map(float, rivals))
    )


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
