"""Triggers that are laid over images."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate.npz import read_npz, take

_SLACK = 1e-3  # float32 patterns may leave [0, 1] by rounding


@dataclass(frozen=True)
class Trigger:
    """A pattern and how much of it shows where: ``x * (1 - mask) + pattern * mask``.

    A patch (BadNets) has a mask of 0 and 1; a blend has one value in between everywhere.

    Parameters
    ----------
    mask, pattern : Tensor
        In [0, 1], shape (C, H, W), or (1, H, W) or (H, W) to serve all channels.
    """

    mask: torch.Tensor
    pattern: torch.Tensor

    def __post_init__(self) -> None:
        for name, values in (("mask", self.mask), ("pattern", self.pattern)):
            if values.ndim not in (2, 3):
                raise EvaluationDataError(
                    f"the trigger's {name} has shape {tuple(values.shape)}; "
                    "(C, H, W) or (H, W) is needed."
                )
            if not bool(((values >= -_SLACK) & (values <= 1 + _SLACK)).all()):
                raise EvaluationDataError(
                    f"the trigger's {name} has values outside [0, 1] or not finite."
                )

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Lay the trigger over images in [0, 1], float, shape (N, C, H, W); same shape out."""
        mask, pattern = self.mask.to(x), self.pattern.to(x)
        try:
            blended = x * (1 - mask) + pattern * mask
        except RuntimeError:  # shapes that cannot be broadcast
            blended = None
        if blended is None or blended.shape != x.shape:
            raise EvaluationDataError(
                f"a trigger of shape {tuple(self.pattern.shape)} (mask {tuple(self.mask.shape)}) "
                f"does not fit images of shape {tuple(x.shape[1:])}."
            )
        return blended


def load_trigger(path: str | os.PathLike[str]) -> Trigger:
    """Read a trigger from an npz file with the float arrays ``mask`` and ``pattern``.

    Raises
    ------
    EvaluationDataError
        Names the file and the key at fault.
    """
    arrays = read_npz(path)
    mask, pattern = (
        take(arrays, key, path, kinds="f", n_dims=(2, 3)).astype("float32")
        for key in ("mask", "pattern")
    )
    try:
        return Trigger(torch.from_numpy(mask), torch.from_numpy(pattern))
    except EvaluationDataError as error:
        raise EvaluationDataError(f"{path}: {error}") from error
