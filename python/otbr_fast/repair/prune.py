"""Rank neurons by NWC over all layers together and prune the top (paper, stage 1)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.repair.config import Mode
from otbr_fast.repair.weights import convolution

PrunedMasks = dict[str, NDArray[np.bool_]]
"""Which neurons are pruned, shape (n_out,), for each layer's name."""


class RepairWarning(UserWarning):
    """A repair went on, as the published method does, though its result is likely poor."""


def select_pruned(
    nwc: Mapping[str, NDArray[np.float64]], gamma: float, *, mode: Mode = "default"
) -> PrunedMasks:
    """Choose the fraction γ of all neurons whose NWC is largest.

    ``int(gamma * N)`` of the N neurons are chosen; of equal ones the first in the layers' order.

    A layer that would lose all its neurons passes nothing on: what reaches the output is then
    only biases and shortcuts. The published implementation does not notice, so paper mode only
    warns, to keep its numbers comparable; default mode refuses, as no user without test data
    could see the harm.

    Parameters
    ----------
    nwc : mapping of str to ndarray, shape (n_out,)
        Each layer's NWCs, in the network's order.
    gamma : float
        In (0, 1).
    mode : {"default", "paper"}
        What to do about a wholly pruned layer.

    Raises
    ------
    RepairError
        γ is less than one neuron; or, in default mode, a layer would be wholly pruned.
    """
    values = np.concatenate(list(nwc.values()))
    n_pruned = int(gamma * values.size)
    if n_pruned == 0:
        raise RepairError(
            f"gamma={gamma} of {values.size} neurons is less than one neuron, so nothing would "
            f"change; use at least {1 / values.size:.4g}"
        )
    order = np.argsort(-values, kind="stable")
    chosen = np.zeros(values.size, dtype=np.bool_)
    chosen[order[:n_pruned]] = True
    ends = np.cumsum([layer.size for layer in nwc.values()])
    pruned = dict(zip(nwc, np.split(chosen, ends[:-1]), strict=True))
    dead = [name for name, mask in pruned.items() if mask.all()]
    if dead:
        _report_dead(dead, gamma, mode, order, ends)
    return pruned


def prune(model: nn.Module, pruned: Mapping[str, NDArray[np.bool_]]) -> nn.Module:
    """Return a copy of a network with the weights of pruned neurons set to 0.

    Biases are left as they are, as published.
    """
    result = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in pruned.items():
            values = convolution(result, name).weight
            values[torch.from_numpy(mask).to(values.device)] = 0
    return result


def _report_dead(
    dead: list[str], gamma: float, mode: Mode, order: NDArray[np.intp], ends: NDArray[np.intp]
) -> None:
    names = ", ".join(f"'{name}'" for name in dead)
    found = f"gamma={gamma} prunes all neurons of layer {names}, which then passes nothing on"
    if mode == "paper":
        warnings.warn(f"{found}; use a smaller gamma", RepairWarning, stacklevel=3)
        return
    most = _most_prunable(order, ends)
    limit = (most + 0.5) / order.size  # halfway to one neuron more: rounding cannot reach it
    remedy = f"the largest that leaves each layer a neuron is gamma={limit:.6g} ({most} neurons)"
    if most == 0:
        remedy = "no gamma leaves each layer a neuron; use another seed or lr"
    raise RepairError(f"{found}; {remedy}")


def _most_prunable(order: NDArray[np.intp], ends: NDArray[np.intp]) -> int:
    """Return how many neurons can be pruned, in this order, before a layer has lost all."""
    starts = np.concatenate([[0], ends[:-1]])
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return int(np.maximum.reduceat(rank, starts).min())
