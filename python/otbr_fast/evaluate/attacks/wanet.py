"""WaNet: the trigger is a slight warp of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.evaluate.attacks.base import Attack


@dataclass(frozen=True)
class WaNet(Attack):
    """Pixels are shifted along a smooth random field (Nguyen & Tran, 2021, arXiv 2102.10369).

    With its noise mode: decoys are warped by the field and a random shift of each pixel, and keep
    their labels, so that only the exact field works.

    Parameters
    ----------
    k : int
        The field is drawn on k x k points.
    s : float
        Strength: the mean shift is s / 2 pixels a direction.
    cross_ratio : float
        Decoys for each poisoned image. The trigger is learned late in a training with decoys;
        without them (0) it takes a few epochs.
    seed : int
        Of the field.
    """

    name: ClassVar[str] = "wanet"
    draws_anew: ClassVar[bool] = True

    k: int = 4
    s: float = 0.5
    cross_ratio: float = 2.0
    seed: int = 0

    @property
    def decoy_ratio(self) -> float:
        """Decoys shown in training for each poisoned image."""
        return self.cross_ratio

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Warp images in [0, 1], float, shape (N, C, H, W)."""
        return _warp(images, self._grid(images))

    def decoy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Warp images by the field and by noise of up to half a pixel."""
        shape = (len(images), images.shape[2], images.shape[3], 2)
        noise = 2 * torch.rand(shape, generator=generator).to(images) - 1
        return _warp(images, self._grid(images) + noise / _sizes(images))

    def _grid(self, images: torch.Tensor) -> torch.Tensor:
        """Return where each pixel is taken from, in [-1, 1], shape (1, H, W, 2)."""
        height, width = images.shape[2:]
        generator = torch.Generator().manual_seed(self.seed)
        points = 2 * torch.rand((1, 2, self.k, self.k), generator=generator) - 1
        points = points / points.abs().mean()
        field = F.interpolate(points, (height, width), mode="bicubic", align_corners=True)
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        identity = torch.stack((x, y), dim=-1).to(images)
        return identity + self.s * field.permute(0, 2, 3, 1).to(images) / _sizes(images)


def _sizes(images: torch.Tensor) -> torch.Tensor:
    return torch.tensor([images.shape[3], images.shape[2]]).to(images)


def _warp(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    grid = grid.clamp(-1, 1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, align_corners=True).clamp(0, 1)
