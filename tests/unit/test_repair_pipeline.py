"""A repair by neuron weight changes, in both modes: what comes out, and what must not change."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pydantic
import pytest
import torch
from torch import nn

import otbr_fast
from otbr_fast.channels import channel_graph, example_input
from otbr_fast.errors import RepairError, UnsupportedModelError
from otbr_fast.io import state_dict_hash
from otbr_fast.models import VGG, InputSpec, PreActResNet
from otbr_fast.repair import (
    Mode,
    RepairConfig,
    RepairResult,
    conv_chain,
    fuse,
    neuron_weight_changes,
    prune,
    random_unlearn,
    repair,
    round_as_published,
    select_pruned,
    stages_of,
    sweep,
    transport_layer,
)

INPUTS = InputSpec(shape=(3, 8, 8), mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
FAST = RepairConfig(
    gamma=0.1, ranking="nwc", recalibrate=False, distil_steps=0, steps=2, batch_size=8, lr=0.01
)
PAPER = FAST.but(mode="paper", gamma=0.05)


@pytest.fixture
def resnet() -> PreActResNet:
    """A PreAct-ResNet18, 8 to 16 channels wide, with torch's usual first weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PreActResNet((2, 2, 2, 2), (8, 8, 12, 12, 16), in_channels=3, num_classes=5).eval()


def assert_finite(model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all(), name


def weights(result: RepairResult) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in result.model.state_dict().values()])


def pruned_rows(
    model: nn.Module, config: RepairConfig, result: RepairResult
) -> dict[str, tuple[int, int]]:
    """Count each layer's or space's neurons, and those of which all incoming weights are 0."""
    if config.mode == "paper":
        names = {layer.name: [f"{layer.name}.weight"] for layer in conv_chain(model).layers}
    else:
        graph = channel_graph(model, example_input(model, INPUTS))
        names = {space.name: [axis.tensor for axis in space.writers] for space in graph.spaces}
    found = {}
    for name, writers in names.items():
        weights = [result.pruned_model.get_parameter(each).flatten(1) for each in writers]
        gone = (torch.cat(weights, dim=1) == 0).all(dim=1)
        found[name] = (gone.numel(), int(gone.sum()))
    return found


@pytest.mark.parametrize("config", [FAST, PAPER], ids=["default", "paper"])
def test_a_repair_and_its_report(resnet: PreActResNet, config: RepairConfig) -> None:
    result = repair(resnet, INPUTS, config)
    layers = pruned_rows(resnet, config, result)
    assert_finite(result.model)
    assert not result.model.training
    assert torch.isfinite(result.model(torch.rand(4, 3, 8, 8))).all()
    assert [layer.name for layer in result.layers] == list(layers)
    assert result.n_pruned == int(config.gamma * result.n_neurons)
    for layer in result.layers:
        assert layers[layer.name] == (layer.n_neurons, layer.n_pruned)
        assert layer.ot_cost is None or layer.ot_cost >= 0
        assert layer.seconds >= 0
    assert result.ot_cost == pytest.approx(sum(layer.ot_cost or 0 for layer in result.layers))
    assert result.config == config.but(lambda_=0.5)  # the only one that comes into question
    assert result.evidence is None
    assert result.candidates == ()
    assert result.seed == config.seed
    assert result.input_hash == state_dict_hash(resnet.state_dict())
    assert result.output_hash == state_dict_hash(result.model.state_dict())
    assert result.input_hash != result.output_hash
    assert result.versions == otbr_fast.show_versions()
    assert result.device == "cpu"
    assert result.to_dict()["device"] == "cpu"


@pytest.mark.parametrize("config", [FAST, PAPER], ids=["default", "paper"])
def test_a_repair_is_its_public_stages(resnet: PreActResNet, config: RepairConfig) -> None:
    stages = stages_of(resnet, INPUTS, config)
    nwc = stages.weight_changes(resnet, random_unlearn(resnet, INPUTS, 5, config))
    pruned = select_pruned(nwc, config.gammas[0], mode=config.mode)
    (transports,) = stages.transports(resnet, [pruned], nwc, config, None)
    model = stages.fused(resnet, pruned, transports, config.but(lambda_=0.5))
    result = repair(resnet, INPUTS, config)
    assert result.output_hash == state_dict_hash(model.state_dict())
    costs = [layer.ot_cost for layer in stages.reports(transports)]
    assert [layer.ot_cost for layer in result.layers] == costs
    pruned_model = stages.pruned(resnet, pruned)
    assert state_dict_hash(result.pruned_model.state_dict()) == state_dict_hash(
        pruned_model.state_dict()
    )


def test_paper_mode_is_the_published_functions(resnet: PreActResNet) -> None:
    chain = conv_chain(resnet)
    unlearned = random_unlearn(resnet, INPUTS, 5, PAPER)
    nwc = round_as_published(neuron_weight_changes(resnet, unlearned, chain))
    pruned = select_pruned(nwc, PAPER.gammas[0], mode="paper")
    model, layers = fuse(resnet, pruned, nwc, chain, PAPER.but(lambda_=0.5))
    result = repair(resnet, INPUTS, PAPER)
    assert result.output_hash == state_dict_hash(model.state_dict())
    assert [layer.ot_cost for layer in result.layers] == [layer.ot_cost for layer in layers]
    expected = prune(resnet, pruned).state_dict()
    assert state_dict_hash(result.pruned_model.state_dict()) == state_dict_hash(expected)


def test_the_report_is_json(resnet: PreActResNet) -> None:
    result = repair(resnet, INPUTS, FAST)
    report = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert report["config"]["lambda_"] == 0.5
    assert RepairConfig.model_validate(report["config"]) == result.config
    assert len(report["layers"]) == 12  # four streams and eight blocks
    assert set(report["layers"][0]) == {
        "name", "n_neurons", "n_pruned", "ot_cost", "duality_gap", "seconds"
    }  # fmt: skip
    assert report["n_pruned"] == result.n_pruned
    assert report["output_hash"] == result.output_hash


@pytest.mark.parametrize("config", [FAST, PAPER], ids=["default", "paper"])
def test_the_input_model_keeps_weights_mode_and_gradients(
    resnet: PreActResNet, config: RepairConfig
) -> None:
    resnet.train()
    before = copy.deepcopy(resnet.state_dict())
    state = torch.random.get_rng_state()
    repair(resnet, INPUTS, config)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert resnet.training
    assert all(torch.equal(resnet.state_dict()[name], before[name]) for name in before)
    assert all(p.grad is None and p.requires_grad for p in resnet.parameters())


@pytest.mark.parametrize("config", [FAST, PAPER], ids=["default", "paper"])
def test_the_same_seed_gives_the_same_bits(resnet: PreActResNet, config: RepairConfig) -> None:
    one = repair(resnet, INPUTS, config)
    torch.manual_seed(123)
    again = repair(resnet, INPUTS, config.but(n_threads=1))
    other = repair(resnet, INPUTS, config.but(seed=1))
    assert one.output_hash == again.output_hash
    assert one.output_hash != other.output_hash


def test_a_vgg_is_repaired_without_its_dropout_touching_the_global_generator(
    tiny_vgg: VGG,
) -> None:
    state = torch.random.get_rng_state()
    result = repair(tiny_vgg, InputSpec(shape=(3, 32, 32)), FAST)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_finite(result.model)


def test_a_sweep_unlearns_once_and_gives_what_single_repairs_give(
    resnet: PreActResNet,
) -> None:
    stages: list[str] = []
    results = list(
        sweep(
            resnet,
            INPUTS,
            FAST,
            gammas=[0.05, 0.2],
            lambdas=[0.0, 0.5, 1.0],
            progress=lambda stage, done, total: stages.append(stage),
        )
    )
    settings = [(result.config.gamma, result.config.lambda_) for result in results]
    assert settings == [(g, lambda_) for g in (0.05, 0.2) for lambda_ in (0.0, 0.5, 1.0)]
    assert stages.count("unlearn") == FAST.steps
    for result in results:
        alone = repair(resnet, INPUTS, result.config)
        assert result.output_hash == alone.output_hash
    assert results[0].output_hash == results[0].input_hash  # λ = 0
    middle = (weights(results[3]) + weights(results[5])) / 2  # fusion is linear in λ
    torch.testing.assert_close(weights(results[4]), middle, rtol=1e-6, atol=1e-7)


def test_a_sweep_refuses_bad_settings_before_it_works(resnet: PreActResNet) -> None:
    told: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        told.append(stage)

    with pytest.raises(pydantic.ValidationError, match="gamma"):
        sweep(resnet, INPUTS, FAST, gammas=[0.1, 1.5], progress=progress)
    with pytest.raises(pydantic.ValidationError, match="lambda_"):
        sweep(resnet, INPUTS, FAST, gammas=[0.1], lambdas=[-1], progress=progress)
    assert not told
    with pytest.raises(RepairError, match=r"gamma=0\.001"):
        sweep(resnet, INPUTS, FAST, gammas=[0.1, 0.001], progress=progress)
    assert "transport" not in told


def test_default_mode_is_finite_where_paper_mode_would_divide_by_zero(
    resnet: PreActResNet,
) -> None:
    tiny_steps = FAST.but(lr=1e-9, gamma=0.02)
    assert_finite(repair(resnet, INPUTS, tiny_steps).model)
    with pytest.raises(RepairError, match=r"rounds to 0.*mode='default'"):
        repair(resnet, INPUTS, tiny_steps.but(mode="paper"))


def test_nothing_learned_at_all_is_still_finite(resnet: PreActResNet) -> None:
    result = repair(resnet, INPUTS, FAST.but(lr=1e-45, gamma=0.02))
    assert_finite(result.model)
    assert math.isfinite(result.ot_cost)


def test_weights_that_are_not_finite_are_refused_by_name(resnet: PreActResNet) -> None:
    with torch.no_grad():
        resnet.get_parameter("layer2.0.conv1.weight")[0, 0, 0, 0] = np.nan
    told = r"layer2\.0\.conv1\.weight: the model handed in is broken"
    with pytest.raises(RepairError, match=told):
        repair(resnet, INPUTS, FAST)


@pytest.mark.parametrize(
    ("inputs", "classes", "told"),
    [
        (InputSpec(shape=(1, 8, 8)), None, r"shape \(1, 8, 8\).*to have 3 channels"),
        (INPUTS, 7, r"of shape \(2, 5\), not .*\(2, 7\)"),
    ],
)
def test_inputs_and_classes_that_do_not_fit_are_told_before_the_work(
    resnet: PreActResNet, inputs: InputSpec, classes: int | None, told: str
) -> None:
    stages: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        stages.append(stage)

    with pytest.raises(UnsupportedModelError, match=told):
        repair(resnet, inputs, FAST, num_classes=classes, progress=progress)
    assert not stages


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_weights_too_large_for_distances_are_refused_by_layer(mode: Mode) -> None:
    weights = np.array([[1e308, 0.0], [-1e308, 0.0], [0.0, 1e308]])
    beta = np.array([0.2, 0.3, 0.5])
    with pytest.raises(RepairError, match="layer 'wide': its transport is refused"):
        transport_layer("wide", weights, np.array([True, False, False]), beta, mode)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="no channels"):
        repair(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), INPUTS, FAST)


def test_the_number_of_classes_can_be_given_where_there_is_no_linear_layer() -> None:
    convolutional = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with pytest.raises(UnsupportedModelError):
        repair(convolutional, INPUTS, FAST)
    result = repair(convolutional, INPUTS, FAST, num_classes=3)
    assert_finite(result.model)


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 0},
        {"gamma": 1},
        {"gamma": float("nan")},
        {"gamma": 0.1, "lambda_": 1.5},
        {"gamma": 0.1, "steps": 0},
        {"gamma": 0.1, "lr": float("inf")},
        {"gamma": 0.1, "mode": "fast"},
        {"gamma": 0.1, "lambda": 0.5},
        {"gamma": "all"},
        {"ranking": "size"},
        {"suspect": -1},
        {"distil_steps": -1},
        {"n_surrogates": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError):
        RepairConfig.model_validate(settings)


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_a_sweep_finds_what_each_gamma_alone_does(resnet: PreActResNet, mode: Mode) -> None:
    config = FAST.but(mode=mode)
    gammas = (0.02, 0.05, 0.1)
    swept = list(sweep(resnet, INPUTS, config, gammas, (0.5,)))
    for gamma, result in zip(gammas, swept, strict=True):
        alone = repair(resnet, INPUTS, config.but(gamma=gamma, lambda_=0.5))
        assert result.output_hash == alone.output_hash
        assert [layer.ot_cost for layer in result.layers] == [
            layer.ot_cost for layer in alone.layers
        ]
