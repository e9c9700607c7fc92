"""Which networks are understood, and how the others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from otbr_fast.errors import UnsupportedModelError
from otbr_fast.models import VGG, PreActResNet
from otbr_fast.repair import ConvLayer, conv_chain

Forward = Callable[[Any, torch.Tensor], Any]


class Net(nn.Module):
    """Modules and a function that calls them: any graph can be written with it."""

    def __init__(self, forward: Forward, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.body = forward

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self, x)


def conv(n_in: int, n_out: int, kernel: int = 3, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, groups=groups)


def head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


def refusal(model: nn.Module) -> str:
    with pytest.raises(UnsupportedModelError) as caught:
        conv_chain(model)
    return str(caught.value)


def test_a_sequential_network_is_its_convolutions_in_order() -> None:
    model = nn.Sequential(
        conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 6, 1), head(6)
    )
    chain = conv_chain(model)
    assert chain.layers == (
        ConvLayer("0", 4, 3, (3, 3), None),
        ConvLayer("4", 6, 4, (1, 1), "0"),
    )
    assert chain.shortcuts == ()
    assert chain.n_neurons == 10
    assert str(chain) == "0: 3 -> 4, kernel 3x3\n4: 4 -> 6, kernel 1x1"


def test_preactresnet18_chain_is_what_the_published_implementation_takes() -> None:
    model = PreActResNet((2, 2, 2, 2), (4, 4, 8, 16, 32), in_channels=3, num_classes=10)
    chain = conv_chain(model)
    published = [
        name.removesuffix(".weight")
        for name, parameter in model.named_parameters()
        if parameter.dim() == 4 and "shortcut" not in name
    ]
    assert [layer.name for layer in chain.layers] == published
    assert len(published) == 17
    assert [layer.reads for layer in chain.layers] == [None, *published[:-1]]
    assert chain.shortcuts == tuple(f"layer{i}.0.shortcut.0" for i in (2, 3, 4))
    assert "layer2.0.shortcut.0: shortcut, left untouched" in str(chain)


def test_vgg_chain_is_all_its_convolutions() -> None:
    model = VGG(((4,), (8, 8)), in_channels=1, num_classes=3, pool_size=1, hidden=(8, 8))
    expected = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert [layer.name for layer in conv_chain(model).layers] == expected


def test_a_shortcut_is_found_by_the_graph_not_by_its_name() -> None:
    model = Net(
        lambda net, x: net.head(torch.relu(net.b(net.a(x)) + net.skip(x))),
        skip=conv(3, 5, 1),
        a=conv(3, 4),
        b=conv(4, 5),
        head=head(5),
    )
    chain = conv_chain(model)
    assert [layer.name for layer in chain.layers] == ["a", "b"]
    assert chain.shortcuts == ("skip",)


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape(x.shape[0], x.shape[1] * 4 * 4),
        lambda x: torch.flatten(F.adaptive_avg_pool2d(F.relu(x), 4), 1),
        lambda x: F.avg_pool2d(F.max_pool2d(x, 1), 1).contiguous().flatten(1),
    ],
)
def test_the_usual_ways_to_flatten_are_understood(
    flatten: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    model = Net(lambda net, x: net.fc(flatten(net.a(x))), a=conv(3, 2), fc=nn.Linear(32, 3))
    assert model(torch.zeros(2, 3, 4, 4)).shape == (2, 3)
    assert [layer.name for layer in conv_chain(model).layers] == ["a"]


def test_concatenation_is_refused() -> None:
    model = Net(
        lambda net, x: net.head(torch.cat([net.a(x), net.b(x)], 1)),
        a=conv(3, 4),
        b=conv(3, 4),
        head=head(8),
    )
    message = refusal(model)
    assert "'cat'" in message
    assert "side by side" in message


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (conv(4, 4, groups=2), "2 groups"),
        (conv(4, 8, groups=4), "4 groups"),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), "transposed"),
        (nn.GroupNorm(2, 4), "several channels together"),
        (nn.PixelShuffle(2), "not known"),
        (nn.RReLU(), "not known"),
    ],
)
def test_a_module_that_does_not_fit_is_refused_by_its_name(module: nn.Module, reason: str) -> None:
    model = nn.Sequential(conv(3, 4))
    model.add_module("odd", module)
    message = refusal(model)
    assert f"module 'odd' ({type(module).__name__})" in message
    assert reason in message


def test_one_dimensional_convolution_is_refused() -> None:
    message = refusal(nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(8, 3)))
    assert "module '0' (Conv1d)" in message
    assert "two-dimensional" in message


def test_attention_and_embedding_are_refused() -> None:
    attention = Net(lambda net, x: net.attention(x, x, x)[0], attention=nn.MultiheadAttention(4, 2))
    assert "'attention' (MultiheadAttention)" in refusal(attention)
    assert "'0' (Embedding)" in refusal(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3)))


@pytest.mark.parametrize(
    ("forward", "operation"),
    [
        (lambda net, x: net.head(net.a(x) * torch.sigmoid(net.a(x))), "'a' (Conv2d)"),
        (lambda net, x: net.head(net.a(x).transpose(1, 2)), "'transpose'"),
        (lambda net, x: net.head(net.a(x)[:, :2]), "'getitem'"),
        (lambda net, x: net.head(F.pad(net.a(x), (1, 1))), "'pad'"),
        (lambda net, x: net.head(F.dropout(net.a(x))), "torch.nn.Dropout"),
        (lambda net, x: net.head(F.conv2d(x, net.a.weight)), "tensor 'a.weight'"),
        (lambda net, x: net.head(net.a(x) + torch.randn(1)), "tensor '_tensor_constant0'"),
        (lambda net, x: net.head(net.a(x).view(x.size(0) / 1, -1)), "'truediv'"),
        (lambda net, x: net.head(net.a(x.flatten(1).view(-1, 3, 4, 4))), "flattened"),
        (lambda net, x: (net.head(net.a(x)), x), "output"),
    ],
)
def test_an_operation_that_does_not_fit_is_refused_by_its_name(
    forward: Forward, operation: str
) -> None:
    assert operation in refusal(Net(forward, a=conv(3, 4), head=head(4)))


def test_a_network_whose_order_depends_on_data_is_refused() -> None:
    def forward(net: Any, x: torch.Tensor) -> Any:
        return net.head(net.a(x) if x.sum() > 0 else net.b(x))

    message = refusal(Net(forward, a=conv(3, 4), b=conv(3, 4), head=head(4)))
    assert "cannot be traced" in message
    assert "must not depend on the data" in message


def test_two_branches_of_equal_length_are_ambiguous() -> None:
    model = Net(
        lambda net, x: net.head(net.a(x) + net.b(x)), a=conv(3, 4), b=conv(3, 4), head=head(4)
    )
    message = refusal(model)
    assert "'a'" in message
    assert "'b'" in message
    assert "neither is a shortcut" in message


def test_a_convolution_that_is_both_main_and_shortcut_is_refused() -> None:
    model = Net(
        lambda net, x: net.head(net.b(net.a(x)) + net.d(net.c(net.skip(x) + net.b(net.a(x))))),
        **{name: conv(3, 3) for name in ("a", "b", "c", "d", "skip")},
        head=head(3),
    )
    assert "called more than once" in refusal(model)
    branches = Net(_shortcut_becomes_main, **{n: conv(3, 3) for n in "abcdef"}, head=head(3))
    assert "main path of one addition and on the shortcut of another" in refusal(branches)


def _shortcut_becomes_main(net: Any, x: torch.Tensor) -> Any:
    short = net.a(x)
    long = net.c(net.b(x))
    joined = long + short
    return net.head(joined + net.f(net.e(net.d(short))))


def test_a_convolution_without_effect_is_refused() -> None:
    model = nn.Sequential(conv(3, 4), head(4))
    unused = Net(lambda net, x: net.model(x), model=model, unused=conv(3, 4))
    assert "module 'unused'" in refusal(unused)


def test_shared_weights_are_refused_by_both_names() -> None:
    model = nn.Sequential(conv(4, 4), nn.ReLU(), conv(4, 4), head(4))
    model[2].weight = model[0].weight
    message = refusal(model)
    assert "'0' and '2'" in message
    assert "share one weight" in message


def test_a_module_called_twice_is_refused() -> None:
    model = Net(lambda net, x: net.head(net.a(net.a(x))), a=conv(3, 3), head=head(3))
    assert "module 'a' (Conv2d)" in refusal(model)


def test_a_network_without_convolutions_is_refused() -> None:
    message = refusal(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
    assert "no convolution" in message


@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.spectral_norm,
    ],
)
def test_a_computed_weight_is_refused(wrap: Callable[[nn.Module], nn.Module]) -> None:
    message = refusal(nn.Sequential(conv(3, 4), wrap(conv(4, 4)), head(4)))
    assert "module '1'" in message
    assert "computed from other tensors" in message


def test_layers_that_do_not_fit_are_refused_by_both_names() -> None:
    # Adding broadcasts the one channel of the long branch over the shortcut's four.
    model = Net(
        lambda net, x: net.head(net.c(net.b(net.a(x)) + net.skip(x))),
        skip=conv(3, 4),
        a=conv(3, 2),
        b=conv(2, 1),
        c=conv(4, 4),
        head=head(4),
    )
    assert model(torch.zeros(1, 3, 4, 4)).shape == (1, 3)
    message = refusal(model)
    assert "module 'c' reads 4 channels" in message.replace(": it", "")
    assert "'b' before it makes 1" in message


def test_two_inputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    assert "one input" in refusal(Two())
