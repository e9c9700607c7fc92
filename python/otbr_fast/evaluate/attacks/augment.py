"""Random crops and flips of whole batches, without a loop over images."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812 (the field's name)


def crop_and_flip(
    images: torch.Tensor, generator: torch.Generator, *, pad: int, flip: bool
) -> torch.Tensor:
    """Cut each image at a random place from itself with a black border, and mirror every other.

    Parameters
    ----------
    images : Tensor
        Shape (N, C, H, W), of any type.
    generator : torch.Generator
        On the CPU.
    pad : int
        Width of the border, in pixels.
    flip : bool
        Mirror each image from left to right with probability 1/2.

    Returns
    -------
    Tensor
        Of the same shape, with channels last in memory.
    """
    n, _, height, width = images.shape
    shifts = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=generator)
    rows = shifts[0] + torch.arange(height)
    columns = shifts[1] + torch.arange(width)
    if flip:
        mirrored = torch.rand((n, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    # Index tensors beside a slice put the channels last, where the convolutions want them.
    numbers = torch.arange(n).view(-1, 1, 1)
    index = [i.to(images.device) for i in (numbers, rows[:, :, None], columns[:, None, :])]
    bordered = F.pad(images, (pad, pad, pad, pad))
    return bordered[index[0], :, index[1], index[2]].permute(0, 3, 1, 2)
