"""Fuse the pruned network into the backdoored one by optimal transport (paper, stage 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.copies import with_tensors
from otbr_fast.repair.blend import blend
from otbr_fast.repair.channels import ConvChain
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.costs import neuron_costs
from otbr_fast.repair.maps import Floats
from otbr_fast.repair.nwc import mass
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.result import LayerReport
from otbr_fast.repair.transport import (
    LayerTransport,
    refused,
    transport_layer,
    transport_neurons,
)
from otbr_fast.repair.weights import (
    empty_like,
    kernels,
    not_finite,
    own_kernels,
    rows,
    set_kernels,
)


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
    fused = fuse_transported(
        backdoored, pruned, transports, config.lambda_, n_threads=config.n_threads
    )
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
    return transport_selections(backdoored, [pruned], nwc, chain, config, progress)[0]


def transport_selections(
    backdoored: nn.Module,
    selections: Sequence[Mapping[str, NDArray[np.bool_]]],
    nwc: Mapping[str, NDArray[np.float64]],
    chain: ConvChain,
    config: RepairConfig,
    progress: Progress | None = None,
) -> list[tuple[LayerTransport, ...]]:
    """Find each layer's transports for several selections of pruned neurons, as of several γ.

    The distances between a layer's neurons, which cost the most, are found once for all of them,
    and dropped before the next layer's.
    """
    tell = progress or silent
    first = [_first_touched(pruned, chain) for pruned in selections]
    layers = list(enumerate(chain.layers))[min(first, default=len(chain.layers)) :]
    found: list[list[LayerTransport]] = [[] for _ in selections]
    for done, (place, layer) in enumerate(layers, start=1):
        here = [k for k, start in enumerate(first) if start <= place]
        masks = [selections[k][layer.name] for k in here]
        transports = _transport_layer(backdoored, layer.name, masks, nwc[layer.name], config)
        for k, transport in zip(here, transports, strict=True):
            found[k].append(transport)
        tell("transport", done, len(layers))
    return [tuple(transports) for transports in found]


def _first_touched(pruned: Mapping[str, NDArray[np.bool_]], chain: ConvChain) -> int:
    """Return the place of the first layer that holds a pruned neuron."""
    touched = (k for k, layer in enumerate(chain.layers) if pruned[layer.name].any())
    return next(touched, len(chain.layers))


def _transport_layer(
    backdoored: nn.Module,
    name: str,
    masks: Sequence[NDArray[np.bool_]],
    nwc: NDArray[np.float64],
    config: RepairConfig,
) -> list[LayerTransport]:
    """Find one layer's transports; the published way shares nothing among them."""
    n_threads = config.n_threads
    beta = mass(name, nwc, config.mode)
    weights = rows(backdoored, name)
    if config.mode == "paper":
        return [
            transport_layer(name, weights, mask, beta, "paper", n_threads=n_threads)
            for mask in masks
        ]
    with refused(name):
        costs = neuron_costs([weights], n_threads=n_threads)
    found: list[LayerTransport] = []
    for mask in masks:
        warm = found[-1] if found else None
        found.append(transport_neurons(name, costs, mask, beta, warm=warm, n_threads=n_threads))
    return found


def fuse_transported(
    backdoored: nn.Module,
    pruned: Mapping[str, NDArray[np.bool_]],
    transports: Sequence[LayerTransport],
    lambda_: float,
    *,
    n_threads: int | None = None,
) -> nn.Module:
    """Fuse along transports that were found before; see `fuse`."""
    names = [f"{transport.name}.weight" for transport in transports]
    room = {name: empty_like(backdoored.get_parameter(name)) for name in names}
    fused = with_tensors(backdoored, room)
    before: LayerTransport | None = None
    for transport in transports:
        name = transport.name
        original, own = kernels(backdoored, name), own_kernels(fused, name)
        if transport.mode == "paper":
            published = _published(original, pruned[name], transport, before, lambda_)
            set_kernels(fused, name, published)
        else:
            wide = np.empty_like(original) if own is None else own
            _blend_layer(name, original, transport, before, lambda_, wide, n_threads)
            if own is None:
                set_kernels(fused, name, wide)
        before = transport
    return fused


def _blend_layer(
    name: str,
    original: Floats,
    transport: LayerTransport,
    before: LayerTransport | None,
    lambda_: float,
    out: Floats,
    n_threads: int | None,
) -> None:
    """Write a layer's fused weight in its own type."""
    n_out, n_in = original.shape[:2]
    weight, into = original.reshape(n_out, n_in, -1), out.reshape(n_out, n_in, -1)
    inputs = None if before is None else before.map
    rows = transport.map_of_kept
    if not blend(weight, weight, rows, inputs, lambda_, into, n_threads=n_threads):
        raise not_finite(f"layer '{name}'", original.dtype)


def _published(
    original: Floats,
    pruned: NDArray[np.bool_],
    transport: LayerTransport,
    before: LayerTransport | None,
    lambda_: float,
) -> Floats:
    """Return a layer's fused weight by the published products, in float64."""
    original = original.astype(np.float64)
    moved = np.where(pruned[:, None, None, None], 0.0, original)
    if before is not None:
        moved = before.push_inputs(moved)
    return np.asarray(lambda_ * transport.push(moved) + (1 - lambda_) * original)


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
