"""A sample-specific, nearly invisible trigger, made by a fixed convolutional encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.evaluate.attacks.base import Attack

_HIDDEN = 16


@dataclass(frozen=True)
class SsbaLike(Attack):
    """An image-dependent residual hides a message (like Li et al., 2021, arXiv 2012.03816).

    Like, not the same: SSBA trains StegaStamp's encoder with a decoder, on much data. Here the
    encoder has two convolutions with weights drawn from a seed: it reads the image and a message
    of random bits, one for each 4 x 4 pixels, and its answer, without its local mean, is added.
    So the residual differs from image to image, has high frequencies only and is bounded, but
    nobody can read the message back, and it is less hidden than an encoder that learned to hide.

    Parameters
    ----------
    eps : float
        Largest change of a pixel.
    seed : int
        Of the encoder and the message.
    """

    name: ClassVar[str] = "ssba_like"

    eps: float = 16 / 255
    seed: int = 0

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Add its residual to each image in [0, 1], float, shape (N, C, H, W)."""
        return (images + self.residual(images)).clamp(0, 1)

    def residual(self, images: torch.Tensor) -> torch.Tensor:
        """Return what is added to each image, in [-eps, eps]."""
        channels, height, width = images.shape[1:]
        generator = torch.Generator().manual_seed(self.seed)
        first = torch.randn((_HIDDEN, channels + 1, 3, 3), generator=generator).to(images)
        second = torch.randn((channels, _HIDDEN, 3, 3), generator=generator).to(images)
        bits = torch.randint(0, 2, (1, 1, -(-height // 4), -(-width // 4)), generator=generator)
        message = F.interpolate(bits.to(images) - 0.5, (height, width), mode="nearest")
        seen = torch.cat((images - 0.5, message.expand(len(images), -1, -1, -1)), dim=1)
        hidden = F.relu(F.conv2d(_padded(seen), first))
        answer = F.conv2d(_padded(hidden), second)
        fine = answer - F.avg_pool2d(_padded(answer), 3, stride=1)
        scale = fine.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
        return self.eps * torch.tanh(fine / scale)


def _padded(x: torch.Tensor) -> torch.Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")
