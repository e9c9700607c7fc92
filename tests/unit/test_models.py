from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F  # noqa: N812

from otbr_fast.errors import CheckpointError, UnsupportedModelError
from otbr_fast.models import (
    VGG,
    InputSpec,
    PreActResNet,
    build_model,
    check_inputs,
    num_classes,
    state_dict_hash,
)
from otbr_fast.repair import RepairConfig, repair


def test_preactresnet_is_rebuilt_from_its_weights(tiny_resnet: PreActResNet) -> None:
    model, name = build_model(tiny_resnet.state_dict())
    x = torch.rand(2, 3, 8, 8)
    assert name == "preactresnet18"
    assert num_classes(model) == 5
    assert not model.training
    torch.testing.assert_close(model(x), tiny_resnet(x), rtol=0, atol=0)


def test_vgg_is_rebuilt_from_its_weights(tiny_vgg: VGG) -> None:
    model, name = build_model(tiny_vgg.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert name == "vgg11_bn"
    assert num_classes(model) == 5
    torch.testing.assert_close(model(x), tiny_vgg(x), rtol=0, atol=0)


def test_preactresnet_computes_the_published_network(tiny_resnet: PreActResNet) -> None:
    """The forward pass again, from parameters by name: stem, 8 blocks, mean, classifier."""
    x = torch.rand(2, 3, 8, 8)
    weights = tiny_resnet.state_dict()

    def activated(x: torch.Tensor, name: str) -> torch.Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.relu(F.batch_norm(x, *(weights[f"{name}.{key}"] for key in keys)))

    expected = F.conv2d(x, weights["conv1.weight"], padding=1)
    for block in (f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)):
        stride = 2 if block in ("layer2.0", "layer3.0", "layer4.0") else 1
        active = activated(expected, f"{block}.bn1")
        shortcut = weights.get(f"{block}.shortcut.0.weight")
        skip = expected if shortcut is None else F.conv2d(active, shortcut, stride=stride)
        inner = F.conv2d(active, weights[f"{block}.conv1.weight"], stride=stride, padding=1)
        inner = activated(inner, f"{block}.bn2")
        expected = F.conv2d(inner, weights[f"{block}.conv2.weight"], padding=1) + skip
    expected = F.linear(expected.mean((2, 3)), weights["linear.weight"], weights["linear.bias"])

    torch.testing.assert_close(tiny_resnet(x), expected, rtol=1e-5, atol=1e-5)


def test_parameter_order_puts_the_shortcut_last(tiny_resnet: PreActResNet) -> None:
    convs = [name for name, p in tiny_resnet.named_parameters() if p.ndim == 4]
    assert convs[5:8] == [
        "layer2.0.conv1.weight",
        "layer2.0.conv2.weight",
        "layer2.0.shortcut.0.weight",
    ]


def test_vgg_has_torchvisions_names() -> None:
    with torch.device("meta"):
        model = VGG(((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3), 3, 10)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes["features.40.weight"] == (512, 512, 3, 3)  # vgg16_bn's last convolution
    assert shapes["features.41.weight"] == (512,)
    assert shapes["classifier.0.weight"] == (4096, 25088)
    assert shapes["classifier.6.weight"] == (10, 4096)


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_vgg"])
def test_models_can_be_traced(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))


def test_unusual_depths_get_the_generic_name() -> None:
    resnet = PreActResNet((1, 1), (4, 4, 6), in_channels=1, num_classes=3)
    vgg = VGG(((4,), (5, 5)), in_channels=1, num_classes=3, pool_size=2, hidden=(6, 6))
    assert build_model(resnet.state_dict())[1] == "preactresnet"
    assert build_model(vgg.state_dict())[1] == "vgg_bn"
    assert build_model(resnet.state_dict(), "preactresnet")[1] == "preactresnet"


def test_building_copies_the_weights_and_draws_no_random_numbers(
    tiny_resnet: PreActResNet,
) -> None:
    weights = tiny_resnet.state_dict()
    before = torch.get_rng_state()
    model, _ = build_model(weights)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        model.get_parameter("conv1.weight").zero_()
    assert bool(weights["conv1.weight"].any())


def test_half_precision_weights_become_float32(tiny_resnet: PreActResNet) -> None:
    model, _ = build_model(tiny_resnet.half().state_dict())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


Weights = dict[str, torch.Tensor]


def _set(name: str, tensor: torch.Tensor) -> Callable[[Weights], None]:
    return lambda weights: weights.update({name: tensor})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w.pop("layer3.1.bn2.bias"), r"missing: layer3\.1\.bn2\.bias"),
        (lambda w: w.pop("linear.bias"), r"missing: linear\.bias"),
        (lambda w: w.pop("conv1.weight"), r"no tensor 'conv1\.weight'"),
        (lambda w: w.pop("layer2.0.conv1.weight"), r"no tensor 'layer2\.0\.conv1\.weight'"),
        (_set("layer9.0.conv1.weight", torch.zeros(4, 4, 3, 3)), r"stages found are"),
        (_set("extra.weight", torch.zeros(1)), r"unexpected: extra\.weight"),
        (_set("linear.weight", torch.zeros(5, 9)), r"linear\.weight .*\(5, 9\).*\(5, 8\)"),
        (_set("linear.weight", torch.zeros(5)), r"'linear\.weight' has shape \(5,\)"),
        (_set("linear.bias", torch.zeros(5, dtype=torch.int32)), r"linear\.bias \(int32"),
        (_set("layer1.0.bn1.bias", torch.full((4,), torch.nan)), r"NaN.*layer1\.0\.bn1\.bias"),
        (_set("layer1.0.bn1.running_var", torch.full((4,), torch.inf)), r"running_var"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tiny_resnet: PreActResNet, damage: Callable[[Weights], None], message: str
) -> None:
    weights = dict(tiny_resnet.state_dict())
    damage(weights)
    with pytest.raises(CheckpointError, match=message):
        build_model(weights)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set("classifier.0.weight", torch.zeros(9, 13)), r"classifier\.0 reads 13 values"),
        (_set("features.6.weight", torch.zeros(6, 6, 3, 3)), r"without batch norm"),
        (lambda w: w.pop("features.0.weight"), r"no known architecture"),
        (lambda w: w.pop("features.1.running_mean"), r"missing: features\.1\.running_mean"),
    ],
)
def test_vgg_weights_that_do_not_fit_are_named(
    tiny_vgg: VGG, damage: Callable[[Weights], None], message: str
) -> None:
    weights = dict(tiny_vgg.state_dict())
    damage(weights)
    with pytest.raises(CheckpointError, match=message):
        build_model(weights)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", r"'resnet50' is not supported; supported are preactresnet18"),
        ("preactresnet34", r"use 'preactresnet18'"),
        ("vgg16_bn", r"features\.0"),
    ],
)
def test_a_wrong_name_is_refused(tiny_resnet: PreActResNet, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        build_model(tiny_resnet.state_dict(), name)


def test_no_weights_at_all_are_refused() -> None:
    with pytest.raises(CheckpointError, match="none at all"):
        build_model({})


def test_classes_cannot_be_told_without_a_linear_layer() -> None:
    with pytest.raises(UnsupportedModelError, match="Conv2d has no linear layer"):
        num_classes(nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": float("nan")},
        {"high": float("inf")},
        {"mean": (float("nan"), 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        {"mean": (0.0, 0.0, 0.0), "std": (1.0, float("inf"), 1.0)},
    ],
)
def test_inputs_of_numbers_that_are_not_finite_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="finite"):
        InputSpec.model_validate({"shape": (3, 8, 8), **wrong})


def test_a_first_look_leaves_the_network_as_it_is(tiny_resnet: PreActResNet) -> None:
    for model in (tiny_resnet, tiny_resnet.half()):
        before = state_dict_hash(model.state_dict())
        check_inputs(model, InputSpec(shape=(3, 8, 8)), 5)
        assert state_dict_hash(model.state_dict()) == before
    with pytest.raises(UnsupportedModelError, match="channels"):
        check_inputs(tiny_resnet, InputSpec(shape=(2, 8, 8)), 5)


def test_inputs_that_a_network_cannot_answer_are_told(tiny_resnet: PreActResNet) -> None:
    no_spread = InputSpec(shape=(3, 8, 8), mean=(0.5,) * 3, std=(1e-300, 1.0, 1.0))
    with pytest.raises(UnsupportedModelError, match=r"NaN or infinite.*range.*normalisation"):
        check_inputs(tiny_resnet, no_spread, 5)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5)),
            "run the network once",
        ),
        (nn.Flatten(), "no parameters"),
    ],
)
def test_a_network_without_weights_is_refused(model: nn.Module, told: str) -> None:
    inputs = InputSpec(shape=(3, 8, 8))
    with pytest.raises(UnsupportedModelError, match=told):
        check_inputs(model, inputs, 5)
    with pytest.raises(UnsupportedModelError, match=told):
        repair(model, inputs, RepairConfig(), num_classes=5)


def test_sparse_and_valueless_weights_are_refused_by_name(tiny_resnet: PreActResNet) -> None:
    weights = tiny_resnet.state_dict()
    for odd in (weights["conv1.weight"].to_sparse(), weights["conv1.weight"].to("meta")):
        with pytest.raises(CheckpointError, match=r"conv1\.weight \("):
            build_model({**weights, "conv1.weight": odd})
