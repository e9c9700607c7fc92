"""Weights seen by channel: an axis of a tensor as one row for each channel, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from otbr_fast.channels.graph import Axis, Space

State = dict[str, torch.Tensor]


def rows(tensor: torch.Tensor, axis: Axis) -> torch.Tensor:
    """Copy what lies on an axis, one row a channel.

    Returns
    -------
    Tensor, shape (n_channels, d)
        All copies of a channel and all that stands at them, side by side.
    """
    by_entry = _by_entry(tensor, axis)
    return by_entry[torch.from_numpy(axis.entries.copy()).to(tensor.device)].flatten(1)


def with_rows(tensor: torch.Tensor, axis: Axis, values: torch.Tensor) -> torch.Tensor:
    """Return a copy of a tensor with other rows on an axis; the inverse of `rows`."""
    by_entry = _by_entry(tensor, axis).clone()
    entries = torch.from_numpy(axis.entries.copy()).to(tensor.device)
    by_entry[entries] = values.reshape(*entries.shape, -1).to(by_entry)
    return _from_entries(by_entry, tensor.shape, axis)


def permuted(state: Mapping[str, torch.Tensor], space: Space, order: torch.Tensor) -> State:
    """Return a state in which each channel k of a space is what channel ``order[k]`` was.

    Tensors that are not on the space are the same objects.

    Parameters
    ----------
    state : mapping of str to Tensor
        A network's state dict.
    space : Space
    order : Tensor of int64, shape (n_channels,)
        A permutation; one that keeps to the space's blocks leaves the network's output as it was.
    """
    result = dict(state)
    for axis in space.axes:
        tensor = result[axis.tensor]
        result[axis.tensor] = with_rows(tensor, axis, rows(tensor, axis)[order])
    return result


def _by_entry(tensor: torch.Tensor, axis: Axis) -> torch.Tensor:
    """View a tensor as a matrix with one row for each entry of an axis."""
    if axis.groups == 1:
        return tensor.movedim(axis.dim, 0).flatten(1) if tensor.ndim > 1 else tensor[:, None]
    filters, size = tensor.shape[:2]
    by_group = tensor.reshape(axis.groups, filters // axis.groups, size, -1)
    return by_group.transpose(1, 2).reshape(axis.groups * size, -1)


def _from_entries(by_entry: torch.Tensor, shape: torch.Size, axis: Axis) -> torch.Tensor:
    if axis.groups == 1:
        moved = [shape[axis.dim], *(size for d, size in enumerate(shape) if d != axis.dim)]
        return by_entry.reshape(moved).movedim(0, axis.dim).contiguous()
    filters, size = shape[:2]
    by_group = by_entry.reshape(axis.groups, size, filters // axis.groups, -1)
    return by_group.transpose(1, 2).reshape(shape)
