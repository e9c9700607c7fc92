"""Triggers that cover a corner: BadNets' white patch and a colourful one as of TrojanNN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import AttackError
from otbr_fast.evaluate.attacks.base import MaskedAttack
from otbr_fast.evaluate.triggers import Trigger

_PAPERS_SIZE = 32  # of CIFAR-10's images, which the patches' sizes are told for
_SMALLEST_PATCH = 3


@dataclass(frozen=True)
class BadNet(MaskedAttack):
    """A white square in the lower right corner (Gu et al., 2017, arXiv 1708.06733).

    Parameters
    ----------
    size : int
        Rows and columns of the square on an image of 32 x 32. It grows with the image, and is
        never smaller than 3.
    """

    name: ClassVar[str] = "badnet"

    size: int = 3

    def trigger(self, shape: tuple[int, int, int]) -> Trigger:
        """Return mask and pattern for images of this shape (C, H, W)."""
        mask, _ = _corner(shape, self.size)
        return Trigger(mask=mask, pattern=torch.ones(shape))


@dataclass(frozen=True)
class Trojan(MaskedAttack):
    """A colourful square in the lower right corner, in the manner of TrojanNN (Liu et al., 2018).

    TrojanNN optimises its patch to excite chosen neurons of a network that is already there. This
    one is not optimised: it has such patches' looks (saturated colours in blobs of a few pixels),
    drawn from the seed, and is learned from poisoned data as in BackdoorBench.

    Parameters
    ----------
    size : int
        Rows and columns of the square on an image of 32 x 32; it grows with the image.
    seed : int
        Of the pattern.
    """

    name: ClassVar[str] = "trojan"

    size: int = 7
    seed: int = 0

    def trigger(self, shape: tuple[int, int, int]) -> Trigger:
        """Return mask and pattern for images of this shape (C, H, W)."""
        mask, side = _corner(shape, self.size)
        generator = torch.Generator().manual_seed(self.seed)
        cells = torch.randn((1, shape[0], 4, 4), generator=generator)
        patch = F.interpolate(cells, (side, side), mode="bicubic", align_corners=True)[0]
        pattern = torch.zeros(shape)
        pattern[:, -side:, -side:] = torch.sigmoid(4 * patch)
        return Trigger(mask=mask, pattern=pattern)


def _corner(shape: tuple[int, int, int], size: int) -> tuple[torch.Tensor, int]:
    """Return the mask of a square in the lower right corner, and its side."""
    _, height, width = shape
    side = max(_SMALLEST_PATCH, round(size * min(height, width) / _PAPERS_SIZE))
    if side >= min(height, width):
        raise AttackError(
            f"a patch of {side} x {side} does not fit images of {height} x {width}: "
            "use larger images."
        )
    mask = torch.zeros(shape)
    mask[:, -side:, -side:] = 1
    return mask, side
