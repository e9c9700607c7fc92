"""Fuse the pruned network into the backdoored one by optimal transport (paper, stage 2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.repair.channels import ConvChain
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.nwc import mass
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.result import LayerReport
from otbr_fast.repair.transport import LayerTransport, transport_layer
from otbr_fast.repair.weights import kernels, rows, set_kernels


def fuse(
    backdoored: nn.Module,
    pruned: Mapping[str, NDArray[np.bool_]],
    nwc: Mapping[str, NDArray[np.float64]],
    chain: ConvChain,
    config: RepairConfig,
    progress: Progress | None = None,
) -> tuple[nn.Module, tuple[LayerReport, ...]]:
    """Transport the pruned network's neurons to the backdoored network's and mix the two.

    With T = P diag(1/β) a layer's map and W1' = W1 T_prev its pruned weight, input channels mixed
    by the map of the layer before (paper, stage 2): W = λ Tᵀ W1' + (1 − λ) W2. Biases, batch
    norms, linear layers and shortcuts are left as they are.

    Parameters
    ----------
    backdoored : nn.Module
        The network to repair; it is not changed.
    pruned : mapping of str to ndarray of bool, shape (n_out,)
        Which neurons of each layer are pruned, from `select_pruned`.
    nwc : mapping of str to ndarray, shape (n_out,)
        Each layer's NWCs, from `neuron_weight_changes`; in paper mode rounded as published.
    chain : ConvChain
        The layers, in order.
    config : RepairConfig
        ``mode``, ``lambda_`` and ``n_threads`` are used.
    progress : callable, optional
        Called after each layer with ``("transport", done, layers)``.

    Returns
    -------
    fused : nn.Module
        A network of the same shape.
    layers : tuple of LayerReport
        One for each layer of the chain.

    Raises
    ------
    RepairError
        λ is no number, a mass is 0 (paper mode), or a fused weight is not finite.
    """
    transports = transport_layers(backdoored, pruned, nwc, chain, config, progress)
    if config.lambda_ == "auto":
        raise RepairError('lambda_="auto" tells no share to fuse with: give a number')
    fused = fuse_transported(backdoored, pruned, transports, config.lambda_)
    return fused, layer_reports(chain, transports)


def transport_layers(
    backdoored: nn.Module,
    pruned: Mapping[str, NDArray[np.bool_]],
    nwc: Mapping[str, NDArray[np.float64]],
    chain: ConvChain,
    config: RepairConfig,
    progress: Progress | None = None,
) -> tuple[LayerTransport, ...]:
    """Find each layer's transport, from the first layer that holds a pruned neuron.

    Transports do not depend on λ, so one call serves any number of `fuse_transported`.
    """
    tell = progress or silent
    touched = [bool(pruned[layer.name].any()) for layer in chain.layers]
    layers = chain.layers[touched.index(True) :] if any(touched) else ()
    transports: list[LayerTransport] = []
    for done, layer in enumerate(layers, start=1):
        name = layer.name
        beta = mass(name, nwc[name], config.mode)
        weights = rows(backdoored, name)
        transports.append(
            transport_layer(
                name, weights, pruned[name], beta, config.mode, n_threads=config.n_threads
            )
        )
        tell("transport", done, len(layers))
    return tuple(transports)


def fuse_transported(
    backdoored: nn.Module,
    pruned: Mapping[str, NDArray[np.bool_]],
    transports: Sequence[LayerTransport],
    lambda_: float,
) -> nn.Module:
    """Fuse along transports that were found before; see `fuse`."""
    fused = copy.deepcopy(backdoored)
    before: LayerTransport | None = None
    for transport in transports:
        original = kernels(backdoored, transport.name)
        moved = np.where(pruned[transport.name][:, None, None, None], 0.0, original)
        if before is not None:
            moved = before.push_inputs(moved)
        moved = transport.push(moved.reshape(len(moved), -1)).reshape(original.shape)
        set_kernels(fused, transport.name, lambda_ * moved + (1 - lambda_) * original)
        before = transport
    return fused


def layer_reports(
    chain: ConvChain, transports: Sequence[LayerTransport]
) -> tuple[LayerReport, ...]:
    """Tell what was done to each layer of the chain."""
    found = {transport.name: transport for transport in transports}
    return tuple(
        LayerReport(layer.name, layer.out_channels, 0, None, None, 0.0)
        if (transport := found.get(layer.name)) is None
        else LayerReport(
            layer.name,
            layer.out_channels,
            transport.n_pruned,
            transport.value,
            transport.duality_gap,
            transport.seconds,
        )
        for layer in chain.layers
    )
