"""Triggers spread over the whole image: blended noise, a sinusoid, low frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from otbr_fast.evaluate.attacks.base import Attack, MaskedAttack, image_shape
from otbr_fast.evaluate.triggers import Trigger


@dataclass(frozen=True)
class Blended(MaskedAttack):
    """A fixed picture of noise shines through (Chen et al., 2017, arXiv 1712.05526).

    Of the paper's two patterns, the random one: it fits any size.

    Parameters
    ----------
    alpha : float
        Share of the pattern; 0.2 in the paper and in BackdoorBench.
    seed : int
        Of the pattern.
    """

    name: ClassVar[str] = "blended"

    alpha: float = 0.2
    seed: int = 0

    def trigger(self, shape: tuple[int, int, int]) -> Trigger:
        """Return mask and pattern for images of this shape (C, H, W)."""
        generator = torch.Generator().manual_seed(self.seed)
        return Trigger(
            mask=torch.full(shape, self.alpha), pattern=torch.rand(shape, generator=generator)
        )


@dataclass(frozen=True)
class Sig(Attack):
    """Vertical stripes of a sinusoid are added (Barni et al., 2019, arXiv 1902.11237).

    The paper poisons images of the target class only and leaves all labels right; here the label
    is changed too, as in all attacks of this package.

    Parameters
    ----------
    delta : float
        Amplitude; BackdoorBench's 40 of 255.
    frequency : int
        Waves from side to side; fewer where a wave would have less than four columns.
    """

    name: ClassVar[str] = "sig"

    delta: float = 40 / 255
    frequency: int = 6

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Add the stripes to images in [0, 1], float, shape (N, C, H, W)."""
        width = images.shape[3]
        column = torch.arange(width).to(images)
        frequency = min(self.frequency, max(1, width // 4))
        wave = torch.sin(2 * math.pi * frequency * column / width)
        return (images + self.delta * wave).clamp(0, 1)


@dataclass(frozen=True)
class LowFrequency(Attack):
    """A fixed, smooth pattern is added (after Zeng et al., 2021, arXiv 2104.03413).

    The paper's point is that a trigger without high frequencies escapes detectors, and it searches
    one for a network. Here it is drawn from the seed: a sum of the lowest waves of the discrete
    cosine transform, each channel its own, the constant left out.

    Parameters
    ----------
    strength : float
        Largest change of a pixel.
    waves : int
        Frequencies 0 ... waves - 1 in each direction.
    seed : int
        Of the pattern.
    """

    name: ClassVar[str] = "low_frequency"

    strength: float = 32 / 255
    waves: int = 4
    seed: int = 0

    def pattern(self, shape: tuple[int, int, int]) -> torch.Tensor:
        """Return what is added to images of this shape (C, H, W)."""
        channels, height, width = shape
        generator = torch.Generator().manual_seed(self.seed)
        weights = torch.randn((channels, self.waves, self.waves), generator=generator)
        weights[:, 0, 0] = 0
        smooth = _cosines(height, self.waves) @ weights @ _cosines(width, self.waves).T
        return self.strength * smooth / smooth.abs().max().clamp_min(1e-12)

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Add the pattern to images in [0, 1], float, shape (N, C, H, W)."""
        return (images + self.pattern(image_shape(images)).to(images)).clamp(0, 1)


def _cosines(size: int, waves: int) -> torch.Tensor:
    """Return the lowest waves of the discrete cosine transform, shape (size, waves)."""
    middle = (torch.arange(size) + 0.5) / size
    return torch.cos(math.pi * middle[:, None] * torch.arange(waves))
