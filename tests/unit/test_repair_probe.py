"""Probes: within their radius, a backdoor's class gives way first, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from digit_networks import CLASSES, TARGET, Trained, attacked_network
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models import InputSpec, run
from otbr_fast.repair.probe import Probe, universal_perturbation
from otbr_fast.repair.surrogates import Surrogates

RADIUS = 0.1
INPUTS = InputSpec(shape=(1, 6, 6), low=-2.0, high=2.0)


@pytest.fixture
def attacked() -> Trained:
    return attacked_network()


def linear_network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))


def some_surrogates() -> Surrogates:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(30, 1, 6, 6, generator=generator) - 0.5
    return Surrogates(images, torch.arange(30) % 3)


def size(probe: Probe, inputs: InputSpec) -> float:
    return float(probe.perturbation.square().mean().sqrt()) / (inputs.high - inputs.low)


def test_the_attacked_class_gives_way_first(attacked: Trained) -> None:
    probes = [
        universal_perturbation(
            attacked.model, attacked.inputs, attacked.surrogates, target, radius=RADIUS
        )
        for target in range(CLASSES)
    ]
    assert all(size(probe, attacked.inputs) <= RADIUS * 1.0001 for probe in probes)
    others = [probe for probe in probes if probe.target != TARGET]
    assert probes[TARGET].success > max(probe.success for probe in others)
    assert probes[TARGET].loss < min(probe.loss for probe in others)


def test_success_and_loss_are_those_of_the_perturbation(attacked: Trained) -> None:
    inputs, surrogates = attacked.inputs, attacked.surrogates
    probe = universal_perturbation(attacked.model, inputs, surrogates, 0, radius=RADIUS)
    x = surrogates.images[surrogates.labels != 0] + probe.perturbation
    x = x.clamp(inputs.low, inputs.high)
    with torch.no_grad():
        logits = run(attacked.model, inputs, x)
    assert probe.success == pytest.approx(float((logits.argmax(1) == 0).double().mean()), abs=0.02)
    assert probe.loss == pytest.approx(float(-logits.log_softmax(1)[:, 0].mean()), rel=0.02)
    assert torch.equal(probe.apply(surrogates.images[surrogates.labels != 0], inputs), x)


def test_on_a_linear_network_it_finds_the_way_that_is_known() -> None:
    """With two classes, nothing beats the difference of their rows, as long as the radius."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    surrogates = Surrogates(some_surrogates().images, torch.arange(30) % 2)
    probe = universal_perturbation(model, INPUTS, surrogates, 1, radius=0.05, steps=30)
    weight = model.get_parameter("1.weight").detach()
    best = (weight[1] - weight[0]).view(1, 6, 6)
    best = best / best.norm() * 0.05 * 4 * 6
    assert float(torch.cosine_similarity(probe.perturbation.flatten(), best.flatten(), 0)) > 0.99
    assert size(probe, INPUTS) == pytest.approx(0.05, rel=1e-3)


def test_repeatable_and_without_a_trace() -> None:
    model = linear_network().train()
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    with torch.no_grad():
        one, same, other = (
            universal_perturbation(
                model, INPUTS, some_surrogates(), 1, radius=0.1, batch_size=4, seed=seed
            ).perturbation
            for seed in (1, 1, 2)
        )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_that_answers_nothing_else_has_no_gradient_and_no_error() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with torch.no_grad():
        model.get_parameter("1.weight").zero_()
    probe = universal_perturbation(model, INPUTS, some_surrogates(), 1, radius=0.1)
    assert torch.isfinite(probe.perturbation).all()


def test_what_is_refused() -> None:
    model, surrogates = linear_network(), some_surrogates()
    with pytest.raises(RepairError, match="radius=0"):
        universal_perturbation(model, INPUTS, surrogates, 1, radius=0.0)
    alone = Surrogates(surrogates.images, torch.ones(30, dtype=torch.int64))
    with pytest.raises(RepairError, match="other classes than 1"):
        universal_perturbation(model, INPUTS, alone, 1, radius=0.1)
    with torch.no_grad():
        model.get_parameter("1.weight")[0, 0] = torch.nan
    with pytest.raises(RepairError, match="not finite"):
        universal_perturbation(model, INPUTS, surrogates, 1, radius=0.1)
