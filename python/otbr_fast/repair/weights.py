"""A convolution's weight as a matrix of neurons, and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from otbr_fast.errors import RepairError, UnsupportedModelError


def convolution(model: nn.Module, name: str) -> nn.Conv2d:
    """Return a model's convolution by its name."""
    module = model.get_submodule(name)
    if not isinstance(module, nn.Conv2d):
        raise UnsupportedModelError(f"module '{name}' is a {type(module).__name__}, not a Conv2d")
    return module


def kernels(model: nn.Module, name: str) -> NDArray[np.float64]:
    """Copy a convolution's weight, shape (n_out, n_in, height, width), in float64."""
    return np.array(convolution(model, name).weight.detach().cpu().double().numpy())


def rows(model: nn.Module, name: str) -> NDArray[np.float64]:
    """Copy a convolution's weight with one row a neuron, shape (n_out, n_in * height * width)."""
    values = kernels(model, name)
    return values.reshape(len(values), -1)


def set_kernels(model: nn.Module, name: str, values: NDArray[np.float64]) -> None:
    """Write a convolution's weight, cast to its own dtype.

    Raises
    ------
    RepairError
        A value is not finite in that dtype; nothing is written.
    """
    target = convolution(model, name).weight
    cast = torch.from_numpy(values).to(target.device, target.dtype)
    if not torch.isfinite(cast).all():
        raise RepairError(
            f"the fused weight of layer '{name}' is not finite in {target.dtype}; check the "
            "network's weights, or convert it to float32"
        )
    with torch.no_grad():
        target.copy_(cast)
