"""What is found on each family: which axes move together, blocks, kinds, what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from otbr_fast.channels import ChannelGraph, Space, channel_graph, check_graph, example_input
from otbr_fast.errors import UnsupportedModelError
from otbr_fast.models import InputSpec, PreActResNet

IMAGES = (torch.zeros(2, 3, 8, 8),)


class Net(nn.Module):
    def __init__(self, body: Callable[[Any, torch.Tensor], Any], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.body = body

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self, x)


def found(body: Callable[[Any, torch.Tensor], Any], **modules: nn.Module) -> ChannelGraph:
    return channel_graph(Net(body, **modules), IMAGES)


def told(axes: tuple[object, ...]) -> list[str]:
    return [str(axis) for axis in axes]


def conv(n_in: int, n_out: int, kernel: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, groups=groups, bias=False)


def head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


def only(graph: ChannelGraph) -> Space:
    (space,) = graph.spaces
    return space


def test_flatten_gives_each_channel_its_pixels() -> None:
    graph = found(lambda net, x: net.fc(net.a(x).flatten(1)), a=conv(3, 4, 7), fc=nn.Linear(16, 3))
    (reader,) = only(graph).readers
    assert np.array_equal(reader.entries, np.arange(16).reshape(4, 4))


def test_concatenation_reads_each_space_at_its_own_columns() -> None:
    graph = found(
        lambda net, x: net.c(torch.cat([net.a(x), net.b(x)], 1)).mean((2, 3)),
        a=conv(3, 2), b=conv(3, 4), c=conv(6, 3),
    )  # fmt: skip
    assert [space.name for space in graph.spaces] == ["a", "b"]
    assert [space.readers[0].entries.ravel().tolist() for space in graph.spaces] == [
        [0, 1],
        [2, 3, 4, 5],
    ]


def test_grouped_convolution_binds_both_sides_to_groups() -> None:
    graph = found(
        lambda net, x: net.c(net.b(net.a(x))).mean((2, 3)), a=conv(3, 6), b=conv(6, 4, groups=2),
        c=conv(4, 3),
    )  # fmt: skip
    made, grouped = graph.spaces
    assert made.blocks.tolist() == [0, 0, 0, 1, 1, 1]
    assert grouped.blocks.tolist() == [0, 0, 1, 1]
    (reader,) = made.readers
    assert (reader.groups, reader.entries.ravel().tolist()) == (2, list(range(6)))


def test_depthwise_filters_are_carried() -> None:
    graph = found(
        lambda net, x: net.c(net.b(net.a(x))).mean((2, 3)), a=conv(3, 4), b=conv(4, 8, groups=4),
        c=conv(8, 3),
    )  # fmt: skip
    space = only(graph)
    assert told(space.writers) == ["a.weight[0]"]
    assert told(space.carried) == ["b.weight[0] x2"]
    assert told(space.readers) == ["c.weight[1] x2"]


def test_halves_that_are_multiplied_move_together() -> None:
    def gated(net: Any, x: torch.Tensor) -> torch.Tensor:
        gate, up = net.both(x.flatten(1)).chunk(2, 1)
        out: torch.Tensor = net.down(gate * up)
        return out

    space = only(found(gated, both=nn.Linear(192, 8), down=nn.Linear(4, 3)))
    assert space.kind == "internal"
    assert told(space.writers) == ["both.weight[0] x2"]
    assert space.writers[0].entries.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_a_half_that_alone_is_used_is_a_space_of_its_own() -> None:
    graph = found(lambda net, x: net.b(net.a(x)[:, :2]).mean((2, 3)), a=conv(3, 6), b=conv(2, 3))
    assert [(space.size, len(space.readers)) for space in graph.spaces] == [(2, 1), (4, 0)]


def test_a_residual_stream_has_all_its_writers() -> None:
    model = PreActResNet((2, 1), (4, 4, 6), in_channels=3, num_classes=3)
    graph = channel_graph(model, example_input(model, InputSpec(shape=(3, 8, 8))))
    stream = graph.space("conv1")
    assert stream.kind == "stream"
    assert told(stream.writers) == [
        "conv1.weight[0]",
        "layer1.0.conv2.weight[0]",
        "layer1.1.conv2.weight[0]",
    ]
    assert [space.kind for space in graph.spaces if space.name.endswith("conv1")] == [
        "stream",
        *["internal"] * 3,
    ]


def test_heads_are_blocks_and_queries_move_with_keys() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    graph = found(
        lambda net, x: net.head(net.attention(x[:, 0], x[:, 0], x[:, 0])[0][:, 0]),
        attention=attention, head=nn.Linear(8, 3),
    )  # fmt: skip
    keys, values = graph.spaces[:2]
    assert keys.size == values.size == 8
    assert keys.n_blocks == values.n_blocks == 2
    assert told(keys.writers) == ["attention.in_proj_weight[0] x2"]
    assert keys.writers[0].entries[0].tolist() == [0, 8]
    assert values.writers[0].entries.ravel().tolist() == list(range(16, 24))
    assert told(values.readers) == ["attention.out_proj.weight[1]"]


def test_tied_weights_are_both_listed() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.up = nn.Embedding(5, 4), nn.Linear(4, 4)
            self.out = nn.Linear(4, 5, bias=False)
            self.out.weight = self.words.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.words(ids)
            out: torch.Tensor = self.out(x + self.up(x))
            return out

    graph = channel_graph(Tied(), (torch.zeros(2, 3, dtype=torch.int64),))
    stream = only(graph)
    assert {"words.weight[1]", "out.weight[1]"} <= set(told(stream.axes))
    assert "rows are looked up" in next(a.why for a in graph.fixed if a.tensor == "words.weight")


def test_positions_input_and_output_stay_in_place() -> None:
    graph = found(
        lambda net, x: net.head(net.a(x) * torch.arange(4.0)[:, None, None]),
        a=conv(3, 4), head=head(4),
    )  # fmt: skip
    reasons = {axis.tensor: axis.why for axis in graph.fixed if axis.dim == 0}
    assert graph.spaces == ()
    assert "aten.mul" in reasons["a.weight"]
    assert reasons["head.2.weight"] == "the network's output"
    inputs = [axis.tensor for axis in graph.fixed if axis.why == "the network's input"]
    assert inputs == ["a.weight"]


def test_constants_that_do_not_vary_do_not_bind() -> None:
    graph = found(lambda net, x: net.head(net.a(x) * 2 + torch.ones(4, 1, 1)), a=conv(3, 4),
                  head=head(4))  # fmt: skip
    assert only(graph).size == 4


def test_an_operation_not_understood_is_named_with_its_module() -> None:
    model = nn.Sequential(conv(3, 4), Net(lambda net, x: torch.sort(x, 1)[0]), head(4))
    with pytest.raises(UnsupportedModelError) as caught:
        channel_graph(model, IMAGES)
    message = str(caught.value)
    assert "'aten.sort.default' in module '1' (Net)" in message
    assert "0.weight[0]" in message
    assert "YAML" in message
    graph = channel_graph(model, IMAGES, leave_unknown=True)
    assert "not understood" in next(
        a.why for a in graph.fixed if a.tensor == "0.weight" and not a.dim
    )


def test_what_depends_on_data_cannot_be_traced() -> None:
    with pytest.raises(UnsupportedModelError, match=r"cannot be traced by torch\.export"):
        found(lambda net, x: net.a(x) if x.sum() > 0 else net.a(-x), a=conv(3, 4))


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), head(4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model[1].eval()
    channel_graph(model, IMAGES)
    assert (model.training, model[1].training) == (True, False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_module_called_twice_has_one_space() -> None:
    graph = found(
        lambda net, x: net.head(F.relu(net.b(F.relu(net.b(net.a(x)))))),
        a=conv(3, 4), b=conv(4, 4), head=head(4),
    )  # fmt: skip
    assert {"a.weight[0]", "b.weight[0]", "b.weight[1]", "head.2.weight[1]"} == set(
        told(only(graph).axes)
    )


def test_the_graph_can_be_read_by_people() -> None:
    graph = found(lambda net, x: net.head(net.a(x)), a=conv(3, 4), head=head(4))
    assert str(graph) == (
        "a: 4 channels, internal\n"
        "  written by a.weight[0]\n"
        "  read by    head.2.weight[1]\n"
        "left in place (the network's input): a.weight[1]\n"
        "left in place (the network's output): head.2.weight[0], head.2.bias[0]"
    )


def test_parameters_that_are_computed_with_before_they_are_used_move_too() -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(192, 6), nn.Linear(6, 3)
            self.shift = nn.Parameter(torch.rand(4))
            self.scale = nn.Parameter(torch.rand(2, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = (self.scale * self.scale.mean(1, keepdim=True)).flatten()
            y = (self.a(x.flatten(1)) + F.pad(self.shift.exp(), (1, 1), value=1.0)) * scale
            out: torch.Tensor = self.b(y)
            return out

    model = Computed()
    graph = channel_graph(model, IMAGES)
    assert graph.n_channels > 0
    check_graph(model, graph, IMAGES)
