"""What the two stages work on: a chain of convolutions, as published, or spaces of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from otbr_fast.channels import ChannelGraph, Space, channel_graph, check_graph, example_input
from otbr_fast.errors import RepairError, UnsupportedModelError
from otbr_fast.models.copies import with_tensors
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.channels import ConvChain, conv_chain
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.evidence import Evidence
from otbr_fast.repair.fuse import fuse_transported, layer_reports, transport_selections
from otbr_fast.repair.nwc import NeuronValues, mass, neuron_weight_changes, round_as_published
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.prune import PrunedMasks, prune
from otbr_fast.repair.response import probe_response
from otbr_fast.repair.result import LayerReport, Transport
from otbr_fast.repair.space_fusion import (
    SpaceTransport,
    fuse_states,
    space_changes,
    space_norms,
    transport_space,
    transported_spaces,
    without_channels,
)
from otbr_fast.repair.transport import LayerTransport
from otbr_fast.repair.weights import rows


class Stages(Protocol):
    """The two stages of the method, on one network."""

    def weight_changes(self, original: nn.Module, unlearned: nn.Module) -> NeuronValues:
        """Rank neurons by their NWC."""

    def responses(
        self,
        original: nn.Module,
        inputs: InputSpec,
        evidence: Evidence,
        device: torch.device | str,
    ) -> NeuronValues:
        """Rank neurons by their response to probes."""

    def pruned(self, original: nn.Module, masks: PrunedMasks) -> nn.Module:
        """Return a copy without the pruned neurons (stage 1)."""

    def transports(
        self,
        original: nn.Module,
        selections: Sequence[PrunedMasks],
        ranking: NeuronValues,
        config: RepairConfig,
        progress: Progress | None,
    ) -> list[tuple[Transport, ...]]:
        """Find the optimal transports for each selection (stage 2)."""

    def fused(
        self,
        original: nn.Module,
        masks: PrunedMasks,
        transports: Sequence[Transport],
        config: RepairConfig,
    ) -> nn.Module:
        """Fuse along transports (stage 2)."""

    def reports(self, transports: Sequence[Transport]) -> tuple[LayerReport, ...]:
        """Tell what was done to each layer or space."""

    def norms(self, model: nn.Module) -> NeuronValues:
        """Return the norm of each neuron's incoming weights, in a network of this architecture."""


def stages_of(
    model: nn.Module,
    inputs: InputSpec,
    config: RepairConfig,
    channels: ChannelGraph | None = None,
) -> Stages:
    """Find what the stages work on: the chain in paper mode, else the channel graph's spaces.

    Parameters
    ----------
    model : nn.Module
    inputs : InputSpec
        What it is fed.
    config : RepairConfig
        ``mode`` is used.
    channels : ChannelGraph, optional
        Its channels, where they are known; followed through the network when not given.

    Raises
    ------
    ChannelGraphError
        The channels given do not fit the network.
    RepairError
        Channels are given in paper mode.
    UnsupportedModelError
        The network's architecture cannot be handled, or there is nothing in it to repair.
    """
    if config.mode == "paper":
        if channels is not None:
            raise RepairError("paper mode works on a chain of convolutions: give no channels")
        return ChainStages(conv_chain(model))
    example = example_input(model, inputs)
    if channels is None:
        graph = channel_graph(model, example)
    else:
        graph = channels
        check_graph(model, graph, example)
    spaces = transported_spaces(graph)
    if not spaces:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no channels that a repair could transport:\n{graph}"
        )
    return SpaceStages(spaces)


@dataclass(frozen=True)
class ChainStages:
    """The published method, on the convolutions of the main path."""

    chain: ConvChain

    def weight_changes(self, original: nn.Module, unlearned: nn.Module) -> NeuronValues:
        """Rank neurons by their NWC, rounded as published."""
        return round_as_published(neuron_weight_changes(original, unlearned, self.chain))

    def responses(
        self,
        original: nn.Module,
        inputs: InputSpec,
        evidence: Evidence,
        device: torch.device | str,
    ) -> NeuronValues:
        """Refuse: paper mode ranks by NWC."""
        raise NotImplementedError("paper mode ranks by NWC")

    def pruned(self, original: nn.Module, masks: PrunedMasks) -> nn.Module:
        """Return a copy without the pruned neurons."""
        return prune(original, masks)

    def transports(
        self,
        original: nn.Module,
        selections: Sequence[PrunedMasks],
        ranking: NeuronValues,
        config: RepairConfig,
        progress: Progress | None,
    ) -> list[tuple[Transport, ...]]:
        """Find each layer's transports."""
        found = transport_selections(original, selections, ranking, self.chain, config, progress)
        return [tuple(transports) for transports in found]

    def fused(
        self,
        original: nn.Module,
        masks: PrunedMasks,
        transports: Sequence[Transport],
        config: RepairConfig,
    ) -> nn.Module:
        """Fuse layer by layer."""
        along = [each for each in transports if isinstance(each, LayerTransport)]
        n_threads = config.n_threads
        return fuse_transported(original, masks, along, config.lambdas[0], n_threads=n_threads)

    def reports(self, transports: Sequence[Transport]) -> tuple[LayerReport, ...]:
        """Tell what was done to each layer."""
        return layer_reports(
            self.chain, [each for each in transports if isinstance(each, LayerTransport)]
        )

    def norms(self, model: nn.Module) -> NeuronValues:
        """Return the norms of the filters."""
        return {
            layer.name: np.linalg.norm(rows(model, layer.name).astype(np.float64), axis=1)
            for layer in self.chain.layers
        }


@dataclass(frozen=True)
class SpaceStages:
    """The method on spaces of channels, of any architecture."""

    spaces: tuple[Space, ...]

    def weight_changes(self, original: nn.Module, unlearned: nn.Module) -> NeuronValues:
        """Rank channels by their NWC."""
        before, after = original.state_dict(), unlearned.state_dict()
        return {space.name: space_changes(before, after, space) for space in self.spaces}

    def responses(
        self,
        original: nn.Module,
        inputs: InputSpec,
        evidence: Evidence,
        device: torch.device | str,
    ) -> NeuronValues:
        """Rank channels by their response to probes."""
        return probe_response(
            original, inputs, self.spaces, evidence.surrogates, evidence.probes, device=device
        )

    def pruned(self, original: nn.Module, masks: PrunedMasks) -> nn.Module:
        """Return a copy in which what writes the pruned channels is 0."""
        return _with_state(original, without_channels(original.state_dict(), self.spaces, masks))

    def transports(
        self,
        original: nn.Module,
        selections: Sequence[PrunedMasks],
        ranking: NeuronValues,
        config: RepairConfig,
        progress: Progress | None,
    ) -> list[tuple[Transport, ...]]:
        """Find each space's transports, from the first that holds a pruned channel."""
        tell = progress or silent
        state = original.state_dict()
        touched = [
            np.logical_or.accumulate([masks[space.name].any() for space in self.spaces])
            for masks in selections
        ]
        found: list[list[Transport]] = [[] for _ in selections]
        for place, space in enumerate(self.spaces):
            here = [k for k, so_far in enumerate(touched) if so_far[place]]
            beta = mass(space.name, ranking[space.name], "default")
            masks_here = [selections[k][space.name] for k in here]
            made = transport_space(state, space, masks_here, beta, n_threads=config.n_threads)
            for k, transport in zip(here, made, strict=True):
                found[k].append(transport)
            tell("transport", place + 1, len(self.spaces))
        return [tuple(transports) for transports in found]

    def fused(
        self,
        original: nn.Module,
        masks: PrunedMasks,
        transports: Sequence[Transport],
        config: RepairConfig,
    ) -> nn.Module:
        """Fuse along all axes of the spaces."""
        state = original.state_dict()
        along = [each for each in transports if isinstance(each, SpaceTransport)]
        lambda_, n_threads = config.lambdas[0], config.n_threads
        return _with_state(original, fuse_states(state, state, along, lambda_, n_threads=n_threads))

    def reports(self, transports: Sequence[Transport]) -> tuple[LayerReport, ...]:
        """Tell what was done to each space."""
        found = {transport.name: transport for transport in transports}
        return tuple(_report(space, found.get(space.name)) for space in self.spaces)

    def norms(self, model: nn.Module) -> NeuronValues:
        """Return the norms of all rows together that write each channel."""
        state = model.state_dict()
        return {space.name: space_norms(state, space) for space in self.spaces}


def _report(space: Space, transport: Transport | None) -> LayerReport:
    if transport is None:
        return LayerReport(space.name, space.size, 0, None, None, 0.0)
    return LayerReport(
        space.name,
        space.size,
        transport.n_pruned,
        transport.value,
        transport.duality_gap,
        transport.seconds,
    )


def _with_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Copy a network with other values. Those that are not its own become the copy's, uncopied."""
    own = model.state_dict()
    return with_tensors(
        model,
        {
            name: tensor
            for name, tensor in state.items()
            if tensor.data_ptr() != own[name].data_ptr()
        },
    )
