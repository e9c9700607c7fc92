"""Channel-Lipschitz pruning: which batch norm belongs to which convolution, and what is pruned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from otbr_fast.errors import UnsupportedModelError
from otbr_fast.evaluate.defences.base import Case
from otbr_fast.evaluate.defences.batch_norms import next_norms, own_norms
from otbr_fast.evaluate.defences.clp import (
    ChannelLipschitzPruning,
    channel_bounds,
    prune_channels,
)
from otbr_fast.models import VGG, InputSpec, PreActResNet

Array = NDArray[np.float64]


def pairs(model: nn.Module) -> dict[str, str]:
    return {pair.conv_name: pair.norm_name for pair in own_norms(model)}


def random(model: nn.Module) -> nn.Module:
    """Weights that differ enough for bounds to tell channels apart."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.2, 3, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(generator=generator)
    return model


def reference_bounds(weights: dict[str, Array], conv: str, norm: str, eps: float) -> Array:
    """The paper's formula in plain numpy, channel by channel."""
    bounds = []
    for k, kernel in enumerate(weights[f"{conv}.weight"]):
        largest = np.linalg.svd(kernel.reshape(len(kernel), -1), compute_uv=False)[0]
        scale = abs(weights[f"{norm}.weight"][k]) / np.sqrt(weights[f"{norm}.running_var"][k] + eps)
        bounds.append(largest * scale)
    return np.array(bounds)


def test_in_a_preactivation_block_only_conv1_has_a_batch_norm_of_its_own(
    tiny_resnet: PreActResNet,
) -> None:
    blocks = [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
    assert pairs(tiny_resnet) == {f"{block}.conv1": f"{block}.bn2" for block in blocks}


def test_in_a_vgg_each_convolution_is_followed_by_its_batch_norm(tiny_vgg: VGG) -> None:
    convs = [
        int(name.split(".")[1])
        for name, module in tiny_vgg.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert pairs(tiny_vgg) == {f"features.{i}": f"features.{i + 1}" for i in convs}


def test_in_the_order_of_modules_the_stream_is_given_to_the_next_block(
    tiny_resnet: PreActResNet, tiny_vgg: VGG
) -> None:
    found = {pair.norm_name: pair.conv_name for pair in next_norms(tiny_resnet)}
    assert found["layer1.0.bn1"] == "conv1"
    assert found["layer1.1.bn1"] == "layer1.0.conv2"
    assert found["layer1.1.bn2"] == "layer1.1.conv1"
    assert found["layer4.1.bn1"] == "layer4.0.shortcut.0"
    assert next_norms(tiny_vgg) == own_norms(tiny_vgg)


def test_a_batch_norm_that_is_not_the_only_reader_is_nobodys() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.conv(x)
            return torch.add(self.norm(y), y)

    assert pairs(Forked()) == {}
    assert pairs(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))) == {}
    assert pairs(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False))) == {}
    shared = nn.Conv2d(3, 3, 3)
    assert pairs(nn.Sequential(shared, nn.BatchNorm2d(3), shared, nn.BatchNorm2d(3))) == {}


@pytest.mark.parametrize("network", ["tiny_resnet", "tiny_vgg"])
def test_bounds_are_those_of_the_paper(network: str, request: pytest.FixtureRequest) -> None:
    model = random(request.getfixturevalue(network))
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    for pair in own_norms(model):
        expected = reference_bounds(weights, pair.conv_name, pair.norm_name, pair.norm.eps)
        np.testing.assert_allclose(channel_bounds(pair.conv, pair.norm), expected, rtol=1e-9)


def test_a_bound_by_hand() -> None:
    """Two kernels of one number each: 3 and 4, scaled by 2 / sqrt(4) and by -1 / sqrt(0.25)."""
    conv, norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, eps=0.0)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([3.0, 4.0]).view(2, 1, 1, 1))
        norm.weight.copy_(torch.tensor([2.0, -1.0]))
        assert norm.running_var is not None
        norm.running_var.copy_(torch.tensor([4.0, 0.25]))
    assert channel_bounds(conv, norm).tolist() == pytest.approx([3, 8])


@pytest.mark.parametrize("u", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("network", ["tiny_resnet", "tiny_vgg"])
def test_what_is_above_the_threshold_is_silenced_and_nothing_else(
    network: str, u: float, request: pytest.FixtureRequest
) -> None:
    model = random(request.getfixturevalue(network))
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for conv, norm in pairs(model).items():
        bounds = reference_bounds(weights, conv, norm, 1e-5)
        above = torch.from_numpy(bounds > bounds.mean() + u * bounds.std(ddof=1))
        expected[f"{norm}.weight"][above] = 0
        expected[f"{norm}.bias"][above] = 0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned = prune_channels(model, u).state_dict()
    assert all(torch.equal(pruned[name], tensor) for name, tensor in expected.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert any(not torch.equal(pruned[name], before[name]) for name in before)


def test_a_planted_channel_is_the_one_that_is_pruned() -> None:
    model = PreActResNet((1, 1), (16, 16, 16), in_channels=3, num_classes=4).eval()
    with torch.no_grad():
        model.get_parameter("layer2.0.conv1.weight")[5] *= 50
        model.get_parameter("layer2.0.conv2.weight")[3] *= 50  # writes into the stream: no bound
    case = Case(model, InputSpec(shape=(3, 8, 8)), 4)
    defence = ChannelLipschitzPruning()
    (method,) = defence.methods
    assert method.fixed is not None
    assert method.fixed.settings == {"u": 3.0}
    ((_, pruned),) = defence.repaired(case, [method.fixed])
    assert isinstance(pruned, nn.Module)
    changed = {
        name: (tensor != before).nonzero().flatten().tolist()
        for (name, tensor), before in zip(
            pruned.state_dict().items(), model.state_dict().values(), strict=True
        )
        if not torch.equal(tensor, before)
    }
    assert changed == {"layer2.0.bn2.weight": [5]}  # its bias was 0


def test_a_network_without_batch_norms_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="no convolution with a batch norm"):
        prune_channels(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), 3)


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    class Undecided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedModelError, match="cannot be traced"):
        prune_channels(Undecided(), 3)
