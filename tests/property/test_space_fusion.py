"""Fusion along a channel graph, on every family."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.func import functional_call

from channel_families import FAMILIES, build, example
from otbr_fast.channels import Axis, ChannelGraph, Space, channel_graph, permuted
from otbr_fast.repair.space_fusion import (
    SpaceTransport,
    fuse_states,
    space_matrices,
    transport_space,
    transported_spaces,
    without_channels,
)
from otbr_fast.repair.space_matching import fuse_networks

GRAPHS: dict[str, ChannelGraph] = {}
State = dict[str, torch.Tensor]


def graph_of(family: str) -> ChannelGraph:
    if family not in GRAPHS:
        GRAPHS[family] = channel_graph(build(family), example(family))
    return GRAPHS[family]


def drawn(
    space: Space, seed: int, share: float = 0.4
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Draw which channels are pruned, and masses."""
    rng = np.random.default_rng([seed, space.size])
    return rng.random(space.size) < share, rng.uniform(0.1, 1, space.size)


def transports_of(state: State, family: str, seed: int) -> list[SpaceTransport]:
    return [
        transport_space(state, space, [mask], beta)[0]
        for space in transported_spaces(graph_of(family))
        for mask, beta in [drawn(space, seed)]
    ]


def output(family: str, state: State) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = functional_call(build(family), state, example(family, 5))
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lambda_", [0.5, 1.0])
def test_nothing_pruned_and_uniform_masses_change_nothing(family: str, lambda_: float) -> None:
    state = build(family).state_dict()
    transports = [
        transport_space(state, space, [np.zeros(space.size, bool)], np.ones(space.size))[0]
        for space in graph_of(family).spaces
    ]
    fused = fuse_states(state, state, transports, lambda_)
    expected = output(family, dict(state))
    assert torch.allclose(output(family, fused), expected, rtol=1e-9, atol=1e-11)
    assert transports
    assert all(transport.value <= 1e-9 for transport in transports)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_fusion_undoes_a_permutation_of_every_space(family: str, seed: int) -> None:
    graph = graph_of(family)
    target = source = build(family, seed).state_dict()
    generator = torch.Generator().manual_seed(seed)
    for space in graph.spaces:
        order = torch.arange(space.size)
        for members in map(torch.from_numpy, space.members()):
            order[members] = members[torch.randperm(len(members), generator=generator)]
        target = permuted(target, space, order)
    fused = fuse_networks(source, target, graph, 0.5)
    for name in target:  # every weight, not only the output
        if target[name].is_floating_point():
            assert torch.allclose(fused[name], target[name], rtol=1e-9, atol=1e-11), name
    with torch.no_grad():
        inputs = example(family, seed)
        before, after = (functional_call(build(family), s, inputs) for s in (source, fused))
    assert torch.allclose(after, before, rtol=1e-8, atol=1e-10)


def dense_entries(tensor: torch.Tensor, axis: Axis, maps: NDArray[np.float64]) -> torch.Tensor:
    """Apply T along an axis by a dense matrix over all its entries."""
    groups, size = axis.groups, tensor.shape[axis.dim]
    whole = np.eye(groups * size)
    for one, other in itertools.product(range(len(maps)), repeat=2):
        for k, j in zip(axis.entries[one], axis.entries[other], strict=True):
            whole[k, j] = maps[one, other]
    mixing = torch.from_numpy(whole)
    if groups == 1:
        return torch.einsum("k...,kj->j...", tensor.movedim(axis.dim, 0), mixing).movedim(
            0, axis.dim
        )
    parts = []
    for q, part in enumerate(tensor.chunk(groups, 0)):
        own = mixing[q * size : (q + 1) * size, q * size : (q + 1) * size]
        parts.append(torch.einsum("ok...,kj->oj...", part, own))
    return torch.cat(parts)


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_through_the_graph_equal_dense_products(family: str) -> None:
    state = build(family).state_dict()
    transports = transports_of(state, family, seed=3)
    fused = fuse_states(state, state, transports, 0.75)
    expected = without_channels(
        state,
        [transport.space for transport in transports],
        {transport.name: drawn(transport.space, 3)[0] for transport in transports},
    )
    for transport in transports:
        beta = np.concatenate([block.beta for block in transport.blocks])
        order = np.concatenate(list(transport.space.members()))
        own = np.empty_like(beta)
        own[order] = beta
        maps = transport.plan.toarray() / own
        for axis in transport.space.axes:
            expected[axis.tensor] = dense_entries(expected[axis.tensor], axis, maps)
    for name, own_values in state.items():
        if own_values.is_floating_point():
            mixed = 0.75 * expected[name] + 0.25 * own_values
            assert torch.allclose(fused[name], mixed, rtol=1e-9, atol=1e-11), name


@pytest.mark.parametrize("family", FAMILIES)
def test_plans_keep_to_blocks_and_have_their_marginals(family: str) -> None:
    state = build(family).state_dict()
    for transport in transports_of(state, family, seed=4):
        plan, blocks = transport.plan.toarray(), transport.space.blocks
        assert not plan[blocks[:, None] != blocks].any()
        sizes = np.bincount(blocks)[blocks]
        assert np.allclose(plan.sum(axis=1), 1 / sizes)
        _, beta = drawn(transport.space, 4)
        totals = np.bincount(blocks, beta)[blocks]
        assert np.allclose(plan.sum(axis=0), beta / totals)


def test_costs_of_all_writers_are_added() -> None:
    family = "ResNet-18"
    state = build(family).state_dict()
    space = next(space for space in graph_of(family).spaces if space.kind == "stream")
    matrices = space_matrices(state, space)
    assert len(matrices) == len(space.writers) > 1
    (transport,) = transport_space(
        state, space, [np.eye(space.size, dtype=bool)[0]], np.ones(space.size)
    )
    plan = transport.plan.toarray()
    rows = [np.where(np.arange(space.size)[:, None] == 0, 0, matrix) for matrix in matrices]
    cost = sum(
        np.linalg.norm(one[:, None] - other, axis=2)
        for one, other in zip(rows, matrices, strict=True)
    )
    assert transport.value == pytest.approx(float((plan * cost).sum()), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("family", "streams"),
    [("ResNet-18", 2), ("MobileNetV2", 1), ("ViT", 0), ("ConvNeXt", 0), ("text classifier", 0)],
)
def test_a_stream_is_transported_only_if_no_norm_takes_its_channels_together(
    family: str, streams: int
) -> None:
    spaces = transported_spaces(graph_of(family))
    assert sum(space.kind == "stream" for space in spaces) == streams
    assert any(space.kind == "internal" for space in spaces)
    assert all(space.readers for space in spaces)
