"""Neuron weight changes (NWC), and the masses that transport gives neurons by them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.repair.channels import ConvChain
from otbr_fast.repair.config import Mode
from otbr_fast.repair.maps import Floats
from otbr_fast.repair.weights import rows

NeuronValues = dict[str, NDArray[np.float64]]
"""A value for each neuron, shape (n_out,), for each layer's name."""

_ENTRIES = 1 << 20  # of weights in float64 at a time

MASS_FLOOR = 1e-6
"""Default mode: no neuron's NWC counts for less than this fraction of its layer's mean."""


def neuron_weight_changes(
    original: nn.Module, unlearned: nn.Module, chain: ConvChain
) -> NeuronValues:
    """Sum the absolute weight changes of each neuron of each layer.

    NWC_{l,k} = Σ |θ_unlearned − θ_original| over neuron k's incoming weights (paper, stage 1),
    in float64.

    Raises
    ------
    RepairError
        A change is not finite.
    """
    changes: NeuronValues = {}
    for layer in chain.layers:
        change = _changes(rows(unlearned, layer.name), rows(original, layer.name))
        if not np.isfinite(change).all():
            raise RepairError(f"layer '{layer.name}' has weights that are not finite")
        changes[layer.name] = change
    return changes


def _changes(after: Floats, before: Floats) -> NDArray[np.float64]:
    """Sum absolute changes row by row, in float64, of some rows at a time."""
    together = max(1, _ENTRIES // before.shape[1])
    changes = np.empty(len(before))
    for start in range(0, len(before), together):
        part = slice(start, start + together)
        change = np.subtract(after[part], before[part], dtype=np.float64)
        np.abs(change, out=change).sum(axis=1, out=changes[part])
    return changes


def round_as_published(nwc: Mapping[str, NDArray[np.float64]]) -> NeuronValues:
    """Round NWCs to 4 decimals, as the published implementation does before it uses them."""
    return {name: np.round(values, 4) for name, values in nwc.items()}


def mass(layer: str, nwc: NDArray[np.float64], mode: Mode) -> NDArray[np.float64]:
    """Turn a layer's NWCs into its neurons' masses β, which are positive and sum to 1.

    Parameters
    ----------
    layer : str
        The layer's name, for the error.
    nwc : ndarray, shape (n,)
        Its neurons' NWCs, finite and not negative.
    mode : {"default", "paper"}
        In default mode small NWCs are lifted to `MASS_FLOOR` of the mean, and the masses are
        uniform if nothing changed at all. In paper mode they are taken as they are.

    Raises
    ------
    RepairError
        In paper mode, if a neuron's NWC is 0: the transport would be divided by its mass.
    """
    if mode == "paper":
        still = np.flatnonzero(nwc == 0)
        if still.size:
            raise RepairError(
                f"layer '{layer}': the NWC of neurons {_some(still)} rounds to 0, and the "
                "published method divides by it; use mode='default', or a larger lr or more steps"
            )
        return np.asarray(nwc / nwc.sum())
    mean = nwc.mean()
    if mean == 0:
        return np.full(nwc.size, 1 / nwc.size)
    lifted = np.maximum(nwc / mean, MASS_FLOOR)
    return np.asarray(lifted / lifted.sum())


def _some(neurons: NDArray[np.intp], most: int = 8) -> str:
    more = f" and {neurons.size - most} more" if neurons.size > most else ""
    return ", ".join(str(k) for k in neurons[:most]) + more
