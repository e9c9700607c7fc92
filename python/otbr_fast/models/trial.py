"""A first look whether a network takes the inputs that it is said to take."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from otbr_fast.errors import UnsupportedModelError
from otbr_fast.models.inputs import InputSpec


def require_weights(model: nn.Module) -> None:
    """Refuse a network without parameters, and one whose lazy layers have no shape yet.

    Raises
    ------
    UnsupportedModelError
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    lazy = [name for name, tensor in named if is_lazy(tensor)]
    if lazy:
        raise UnsupportedModelError(f"'{lazy[0]}' has no shape yet: run the network once.")
    if next(model.parameters(), None) is None:
        raise UnsupportedModelError("the network has no parameters: there is nothing to repair.")


@torch.no_grad()
def check_inputs(model: nn.Module, inputs: InputSpec, num_classes: int) -> None:
    """Feed a network two inputs of the middle of its range, and look at its answers' shape.

    Parameters
    ----------
    model : nn.Module
        In eval mode; it is not changed.
    inputs : InputSpec
        What it is said to take.
    num_classes : int
        The number of logits that it is said to have.

    Raises
    ------
    UnsupportedModelError
        The network has no weights, or fails on inputs of this shape, and says why; or it does not
        answer with finite logits of shape (2, num_classes).
    """
    require_weights(model)
    weight = next(model.parameters())
    if weight.dtype.itemsize < torch.float32.itemsize:
        model = copy.deepcopy(model).float()  # not all CPUs convolve in half precision
        weight = next(model.parameters())
    try:
        middle = torch.full((2, *inputs.shape), inputs.low / 2 + inputs.high / 2)
        logits = model(inputs.normalize(middle).to(weight))
    except MemoryError:
        raise
    except Exception as error:  # the network's own code may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsupportedModelError(
            f"the network cannot take inputs of shape {inputs.shape} (channels, height, width): "
            f"{reason}. Give the shape that it was trained on."
        ) from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else ()
    if shape != (2, num_classes):
        raise UnsupportedModelError(
            f"the network answers two inputs with a {type(logits).__name__} of shape {shape}, not "
            f"with logits of shape (2, {num_classes}): give its number of classes (num_classes), "
            "or a network that ends in its logits."
        )
    if not bool(torch.isfinite(logits).all()):
        raise UnsupportedModelError(
            "the network's logits are NaN or infinite for inputs of the middle of its range "
            f"({inputs}): check the range and the normalisation, then the weights."
        )
