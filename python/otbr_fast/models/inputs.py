"""What a model expects to be fed: shape, range and normalisation of its input."""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, model_validator

_MOST_VALUES = 2**60  # more than torch can count the bytes of


class InputSpec(BaseModel):
    """Shape, range and normalisation of a model's input.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width.
    low, high : float
        Range of a raw input, before normalisation. Images read from files are in [0, 1].
    mean, std : tuple of float, optional
        Per channel; the model is fed ``(x - mean) / std``. ``None`` means no normalisation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shape: tuple[int, int, int]
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> InputSpec:
        if min(self.shape) < 1:
            raise ValueError(f"input shape {self.shape} must be three positive numbers: C, H, W")
        if math.prod(self.shape) > _MOST_VALUES:
            raise ValueError(f"input shape {self.shape}: no memory holds such an input")
        if not self.low < self.high:
            raise ValueError(f"input range [{self.low}, {self.high}] is empty; low must be < high")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both or neither")
        if self.mean is not None and self.std is not None:
            for name, values in (("mean", self.mean), ("std", self.std)):
                if len(values) != self.shape[0]:
                    raise ValueError(
                        f"{name} has {len(values)} values for an input of {self.shape[0]} channels"
                    )
            if min(self.std) <= 0:
                raise ValueError(f"std {self.std} must be positive")
        return self

    def raw(self, parts: torch.Tensor) -> torch.Tensor:
        """Spread parts of the input range, in [0, 1], over it: raw inputs in [low, high]."""
        return self.low + (self.high - self.low) * parts

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Bring raw inputs, shape (N, C, H, W) in [low, high], into what the model is fed."""
        if self.mean is None or self.std is None:
            return x
        mean = torch.tensor(self.mean, dtype=x.dtype, device=x.device).view(-1, 1, 1)
        std = torch.tensor(self.std, dtype=x.dtype, device=x.device).view(-1, 1, 1)
        return (x - mean) / std
