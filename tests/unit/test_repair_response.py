"""Responses to probes: the formula restated, a planted neuron, degenerate layers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from digit_networks import TARGET, attacked_network
from torch import nn

from otbr_fast.channels import Space, channel_graph
from otbr_fast.errors import RepairError
from otbr_fast.models import InputSpec
from otbr_fast.repair.probe import Probe, universal_perturbation
from otbr_fast.repair.response import probe_response
from otbr_fast.repair.surrogates import Surrogates

INPUTS = InputSpec(shape=(1, 8, 8), low=0.0, high=2.0, mean=(0.5,), std=(0.25,))


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.ReLU(inplace=True),  # writes into what the convolution put out
            nn.Conv2d(6, 5, 3),
            nn.BatchNorm2d(5),
            nn.Flatten(),
            nn.Linear(80, 3),
        ).eval()


def spaces_of(model: nn.Module) -> tuple[Space, ...]:
    return channel_graph(model, (torch.zeros(2, *INPUTS.shape),)).spaces


def surrogates(count: int = 30) -> Surrogates:
    generator = torch.Generator().manual_seed(0)
    return Surrogates(2 * torch.rand(count, 1, 8, 8, generator=generator), torch.arange(count) % 3)


def patch(target: int = 0, at: int = 0) -> Probe:
    perturbation = torch.zeros(1, 8, 8)
    perturbation[:, at : at + 3, at : at + 3] = 1.5
    return Probe(target, 0.5, perturbation, 1.0, 0.0)


class TokensFirst(nn.Module):
    """Has tokens on the first axis and images on the second, as transformers often do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden = nn.Conv2d(1, 4, 2, stride=2), nn.Linear(4, 6)
        self.mixed, self.head = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x).flatten(2).permute(2, 0, 1)
        logits: torch.Tensor = self.head(self.mixed(self.hidden(tokens).relu()).mean(dim=0))
        return logits


class Attending(nn.Module):
    """Has a layer whose weights are used without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 4, 2, stride=2)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x).flatten(2).mT
        logits: torch.Tensor = self.head(self.attention(tokens, tokens, tokens)[0].mean(dim=1))
        return logits


def of_a_probe(model: nn.Module, probe: Probe) -> dict[str, np.ndarray]:
    return probe_response(model, INPUTS, spaces_of(model), surrogates(), [probe])


def test_where_images_are_on_another_axis_they_are_not_taken_for_each_other() -> None:
    torch.manual_seed(4)
    model = TokensFirst().eval()
    nothing = Probe(0, 0.5, torch.zeros(1, 8, 8), 1.0, 0.0)
    assert all((response == 0).all() for response in of_a_probe(model, nothing).values())
    assert any((response > 0).any() for response in of_a_probe(model, patch()).values())


def test_a_layer_that_is_never_called_is_not_said_to_be_broken() -> None:
    torch.manual_seed(4)
    found = of_a_probe(Attending().eval(), patch())
    assert all(np.isfinite(response).all() for response in found.values())


def restated(model: nn.Sequential, probe: Probe, layer: int) -> np.ndarray:
    made = surrogates()
    x = made.images[made.labels != probe.target]
    both = []
    for images in (x, (x + probe.perturbation).clamp(0, 2)):
        a = (images - 0.5) / 0.25
        for module in model[: layer + 1]:
            a = copy.deepcopy(module)(a.clone())
        both.append(a.detach().double().numpy())
    plain, probed = both
    response = np.abs(probed - plain).mean(axis=(0, 2, 3)) / plain.std(axis=(0, 2, 3))
    return np.asarray(response / np.median(response))


def test_it_is_the_formula_averaged_over_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbr_fast.repair.surrogates._PIXELS_AT_ONCE", 64 * 9)  # 3 batches
    model, probes = network(), [patch(0), patch(2, at=4)]
    values = probe_response(model, INPUTS, spaces_of(model), surrogates(), probes)
    assert list(values) == ["0", "2"]
    for name in values:
        expected = np.mean([restated(model, probe, int(name)) for probe in probes], axis=0)
        np.testing.assert_allclose(values[name], expected, rtol=0.03)  # bfloat16
        assert values[name].dtype == np.float64


def test_a_planted_neuron_comes_first() -> None:
    model = network()
    with torch.no_grad():  # neuron 4 sees the patch, and little else
        weight = model.get_parameter("0.weight")
        weight[4] = 0.01
        model.get_parameter("2.weight")[3] *= 0.01
        model.get_parameter("2.weight")[3, 4] = 1
    probe = patch()
    made = surrogates()
    mean_free = made.images - made.images.mean(dim=(2, 3), keepdim=True) + 0.3
    quiet = Surrogates((mean_free * 0.05 + 0.3).clamp(0, 2), made.labels)
    values = probe_response(model, INPUTS, spaces_of(model), quiet, [probe])
    assert values["0"].argmax() == 4
    assert values["2"].argmax() == 3


def test_on_an_attacked_network_it_finds_the_neurons_that_the_trigger_moves() -> None:
    trained = attacked_network()
    made, shape = trained.surrogates, trained.inputs.shape
    spaces = channel_graph(trained.model, (torch.zeros(2, *shape),)).spaces
    found = universal_perturbation(trained.model, trained.inputs, made, TARGET, radius=0.1)
    values = probe_response(trained.model, trained.inputs, spaces, made, [found])
    images = trained.task.test.images[:200].float() / 255
    triggered = trained.task.trigger.apply(images)
    last = spaces[-1].name
    outputs: list[torch.Tensor] = []
    net = copy.deepcopy(trained.model)
    net.get_submodule(last).register_forward_hook(lambda m, x, out: outputs.append(out.detach()))
    for x in (images, triggered):
        net(trained.inputs.normalize(x))
    moved = (outputs[1] - outputs[0]).abs().mean((0, 2, 3)) / outputs[0].std((0, 2, 3))
    most = int(moved.argmax())
    assert (values[last] >= values[last][most]).sum() <= 8  # in the first quarter


def test_layers_of_which_most_or_all_neurons_are_dead() -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("0.weight")[1:5] = 0
        model.get_parameter("2.weight").zero_()
    values = probe_response(model, INPUTS, spaces_of(model), surrogates(), [patch()])
    assert (values["0"][1:5] == 0).all()
    assert np.median(values["0"][[0, 5]]) == pytest.approx(1.0)
    assert (values["2"] == 0).all()


def test_the_model_is_left_alone() -> None:
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    spaces = spaces_of(model)
    one, same = (probe_response(model, INPUTS, spaces, surrogates(), [patch()]) for _ in range(2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())


def test_what_is_refused() -> None:
    model = network()
    spaces = spaces_of(model)
    with pytest.raises(RepairError, match="probes is empty"):
        probe_response(model, INPUTS, spaces, surrogates(), [])
    with torch.no_grad():
        model.get_parameter("0.weight")[2] = torch.inf
    with pytest.raises(RepairError, match="layer '0' are not finite"):
        probe_response(model, INPUTS, spaces, surrogates(), [patch()])
