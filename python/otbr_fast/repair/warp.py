"""Warps that lead to a class: every pixel is taken from a little beside."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.probe import Probe, descended
from otbr_fast.repair.surrogates import Surrogates

SHIFTS = (0.25 / 32, 0.5 / 32, 0.75 / 32, 1 / 32)
"""Parts of the image's side by which pixels may be shifted: a quarter to one of 32 pixels."""

_POINTS = 6  # a side, of the field


def warp_perturbation(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    target: int,
    *,
    shift: float,
    steps: int = 30,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Probe:
    """Search a smooth field of shifts that leads surrogates of other classes to one.

    WaNet's trigger (Nguyen & Tran, ICLR 2021, arXiv 2102.10369) is such a field. What it adds to
    an image differs from image to image, so nothing that is added to all of them is like it.

    Parameters and errors are those of `universal_perturbation`, and:

    Parameters
    ----------
    shift : float
        Bound of the shifts' root mean square, in either direction, as a part of the image's side.

    Returns
    -------
    Probe
        Its ``perturbation`` are the shifts along and down the image, as parts of its sides, at
        6 x 6 points, shape (2, 6, 6); its ``radius`` is the bound.
    """
    if not shift > 0:
        raise RepairError(f"shift={shift}: a warp needs a positive one")

    def project(values: torch.Tensor, done: float) -> torch.Tensor:
        size = _field(values[None], inputs.shape[1:]).square().mean().sqrt()
        return values * (shift / size) if size > shift else values

    start = torch.zeros(2, _POINTS, _POINTS, dtype=torch.float32)
    found = descended(
        model,
        inputs,
        surrogates,
        target,
        start,
        project,
        shift * start.numel() ** 0.5,
        change=warped,
        radius=shift,
        steps=steps,
        seed=seed,
        device=device,
    )
    return replace(found, largest=SHIFTS[-1])


def warped(x: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Take each pixel from a little beside, between pixels by bilinear interpolation.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
        Inputs; beyond their edges lie copies of the outermost pixels.
    shifts : Tensor, shape (N, 2, k, k) or (1, 2, k, k)
        By which parts of the sides, along and down; between the points bicubic.
    """
    sides = x.shape[2:]
    unmoved = torch.eye(2, 3, dtype=shifts.dtype, device=x.device)[None]
    grid = F.affine_grid(unmoved, [1, 1, *sides], align_corners=False)
    # The grid's coordinates are -1 and 1 at the image's edges, so a side has a length of 2.
    grid = grid + 2 * _field(shifts, sides).movedim(1, -1)
    grid = grid.expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _field(shifts: torch.Tensor, sides: tuple[int, ...]) -> torch.Tensor:
    """Return the shifts of all pixels, shape (N, 2, H, W)."""
    return F.interpolate(shifts, size=sides, mode="bicubic", align_corners=True)
