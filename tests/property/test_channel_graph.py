"""What a channel graph claims holds on every family: exchanging channels leaves the output."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from channel_families import FAMILIES, build, example
from otbr_fast.channels import (
    ChannelGraph,
    Space,
    channel_graph,
    check_graph,
    check_structure,
    permuted,
    rows,
    with_rows,
)
from otbr_fast.io import channels_from_yaml, channels_to_yaml

GRAPHS: dict[str, ChannelGraph] = {}


def graph_of(family: str) -> ChannelGraph:
    if family not in GRAPHS:
        GRAPHS[family] = channel_graph(build(family), example(family))
    return GRAPHS[family]


def order_within_blocks(space: Space, generator: torch.Generator) -> torch.Tensor:
    order = torch.arange(space.size)
    for members in map(torch.from_numpy, space.members()):
        order[members] = members[torch.randperm(len(members), generator=generator)]
    return order


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_channels_exchanged_within_blocks_leave_the_output(family: str, seed: int) -> None:
    model, inputs = build(family, seed), example(family, seed)
    generator = torch.Generator().manual_seed(seed)
    state = before = dict(model.state_dict())
    for space in graph_of(family).spaces:
        state = permuted(state, space, order_within_blocks(space, generator))
    with torch.no_grad():
        expected = functional_call(model, before, inputs)
        found = functional_call(model, state, inputs)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-11)
    assert any(not torch.equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize("family", FAMILIES)
def test_channels_of_one_axis_alone_do_not_leave_the_output(family: str) -> None:
    # Were an axis listed that the network does not care for, this would not see it.
    model, inputs = build(family), example(family)
    state = dict(model.state_dict())
    with torch.no_grad():
        expected = functional_call(model, state, inputs)
        for space in graph_of(family).spaces:
            axis = next(iter(space.readers + space.carried))
            order = order_within_blocks(space, torch.Generator().manual_seed(1))
            if torch.equal(order, torch.arange(space.size)):
                continue
            tensor = state[axis.tensor]
            moved = with_rows(tensor, axis, rows(tensor, axis)[order])
            found = functional_call(model, {**state, axis.tensor: moved}, inputs)
            assert not torch.allclose(found, expected, rtol=1e-9, atol=1e-11), space.name


@pytest.mark.parametrize("family", FAMILIES)
def test_graph_fits_its_network_and_survives_yaml(family: str) -> None:
    graph = graph_of(family)
    assert channels_from_yaml(channels_to_yaml(graph)) == graph
    check_structure(graph, build(family).state_dict())
    check_graph(build(family), graph, example(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_axis_is_in_a_space_or_said_to_be_fixed(family: str) -> None:
    graph = graph_of(family)
    named = {(axis.tensor, axis.dim) for space in graph.spaces for axis in space.axes}
    named |= {(axis.tensor, axis.dim) for axis in graph.fixed}
    for name, parameter in build(family).named_parameters():
        assert any((name, dim) in named for dim in range(parameter.ndim)), name
