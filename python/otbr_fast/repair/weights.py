"""A convolution's weight as a matrix of neurons, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from otbr_fast.errors import RepairError, UnsupportedModelError
from otbr_fast.repair.maps import Floats


def convolution(model: nn.Module, name: str) -> nn.Conv2d:
    """Return a model's convolution by its name."""
    module = model.get_submodule(name)
    if not isinstance(module, nn.Conv2d):
        raise UnsupportedModelError(f"module '{name}' is a {type(module).__name__}, not a Conv2d")
    return module


def kernels(model: nn.Module, name: str) -> Floats:
    """Return a convolution's weight, shape (n_out, n_in, height, width), to be read only.

    float32 and float64 on the CPU are not copied; half precision is widened to float32.
    """
    values = _computable(convolution(model, name).weight.detach())
    values.flags.writeable = False
    return values


def own_kernels(model: nn.Module, name: str) -> Floats | None:
    """Return the memory of a convolution's weight, or None if nothing is computed there."""
    weight = convolution(model, name).weight.detach()
    is_own = weight.dtype in (torch.float32, torch.float64) and weight.is_contiguous()
    return _computable(weight) if is_own and weight.device.type == "cpu" else None


def _computable(weight: torch.Tensor) -> Floats:
    wide = weight.cpu() if weight.dtype == torch.float64 else weight.cpu().float()
    values: Floats = wide.contiguous().numpy()
    return values


def rows(model: nn.Module, name: str) -> Floats:
    """Return a convolution's weight with one row a neuron, as `kernels` does."""
    values = kernels(model, name)
    return values.reshape(len(values), -1)


def set_kernels(model: nn.Module, name: str, values: Floats) -> None:
    """Write a convolution's weight, cast to its own dtype.

    Raises
    ------
    RepairError
        A value is not finite in that dtype; nothing is written.
    """
    target = convolution(model, name).weight
    cast = torch.from_numpy(values).to(target.device, target.dtype)
    if not torch.isfinite(cast).all():
        raise not_finite(f"layer '{name}'", target.dtype)
    with torch.no_grad():
        target.copy_(cast)


def not_finite(what: str, dtype: torch.dtype | np.dtype[Any]) -> RepairError:
    """Tell that a fused weight does not fit its type."""
    return RepairError(
        f"the fused weight of {what} is not finite in {dtype}; check the network's weights, or "
        "convert it to float32"
    )


def empty_like(weight: torch.Tensor) -> torch.Tensor:
    """Return memory for a weight; numpy's on the CPU, whose large pages fill faster."""
    if weight.device.type != "cpu":
        return torch.empty_like(weight, memory_format=torch.contiguous_format)
    memory = np.empty(weight.numel() * weight.element_size(), dtype=np.uint8)
    return torch.from_numpy(memory).view(weight.dtype).view(weight.shape)
