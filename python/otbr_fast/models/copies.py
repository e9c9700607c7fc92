"""Copies of a network: such as share tensors with it, and such as are trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn


def with_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """Copy a network, but take some of its parameters and buffers from elsewhere, uncopied.

    Parameters
    ----------
    model : nn.Module
    tensors : mapping of str to Tensor
        By their names in the network. Tensors that it holds twice stay one.
    """
    memo: dict[int, object] = {}
    for name, own in model.named_parameters(remove_duplicate=False):
        if name in tensors:
            memo[id(own)] = nn.Parameter(tensors[name], own.requires_grad)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        if name in tensors:
            memo[id(buffer)] = tensors[name]
    return copy.deepcopy(model, memo)


def reading_copy(model: nn.Module) -> nn.Module:
    """Copy a network to read from: on the CPU, in eval mode, its weights shared if they lie there.

    Its modules are its own, so its mode, its hooks and its gradients are never the network's.
    """
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return with_tensors(model, state).cpu().eval()


def training_copy(model: nn.Module, device: torch.device | str) -> nn.Module:
    """Copy a network to train it: all of its parameters, in train mode but for dropout modules."""
    copied = copy.deepcopy(model).to(device).train().requires_grad_(True)
    for module in copied.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    return copied
