"""Distillation: what is right stays, what was damaged heals, the probe loses its effect."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from digit_networks import TARGET, Trained, attacked_network
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.repair.distil import distil
from otbr_fast.repair.probe import Probe, universal_perturbation
from otbr_fast.repair.surrogates import Surrogates
from otbr_fast.repair.warp import warp_perturbation


@pytest.fixture
def attacked() -> Trained:
    return attacked_network()


def accuracy(model: nn.Module, trained: Trained) -> float:
    images, labels = trained.task.test.images.float() / 255, trained.task.test.labels
    answers = model(trained.inputs.normalize(images)).argmax(dim=1)
    return float((answers == labels).double().mean())


def asr(model: nn.Module, trained: Trained) -> float:
    images = trained.task.test.images[trained.task.test.labels != TARGET].float() / 255
    triggered = trained.inputs.normalize(trained.task.trigger.apply(images))
    return float((model(triggered).argmax(dim=1) == TARGET).double().mean())


def changed(model: nn.Module, result: nn.Module) -> set[str]:
    after = result.state_dict()
    return {k for k, v in model.state_dict().items() if not torch.equal(after[k], v)}


def farthest(model: nn.Module, result: nn.Module) -> float:
    """How far the parameter that moved most has moved."""
    pairs = zip(model.parameters(), result.parameters(), strict=True)
    return max(float((after - before).detach().abs().max()) for before, after in pairs)


def test_what_is_right_already_stays(attacked: Trained) -> None:
    """But for what half a precision's rounding does, which is nothing beside a lesson."""
    model, inputs, made = attacked.model, attacked.inputs, attacked.surrogates
    probe = universal_perturbation(model, inputs, made, TARGET, radius=0.1)
    same, taught = (
        distil(model, model, inputs, made, []),
        distil(model, model, inputs, made, [probe]),
    )
    assert farthest(model, same) < 0.01 * farthest(model, taught)


def test_a_damaged_network_heals(attacked: Trained) -> None:
    damaged = copy.deepcopy(attacked.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in ("1.weight", "5.weight", "9.weight"):
            weight = damaged.get_parameter(name)
            weight.mul_(torch.rand(weight.shape, generator=generator) * 1.6 + 0.2)
    healed = distil(attacked.model, damaged, attacked.inputs, attacked.surrogates, [], steps=100)
    assert accuracy(healed, attacked) > accuracy(damaged, attacked)


def test_the_probe_and_the_trigger_lose_their_effect(attacked: Trained) -> None:
    model, inputs, made = attacked.model, attacked.inputs, attacked.surrogates
    probe = universal_perturbation(model, inputs, made, TARGET, radius=0.1)
    result = distil(model, model, inputs, made, [probe], steps=100)
    others = made.of_others(TARGET)
    with torch.no_grad():
        reached = result(inputs.normalize(probe.apply(others, inputs))).argmax(1) == TARGET
    assert reached.double().mean() < 0.5 < probe.success
    assert asr(result, attacked) < asr(model, attacked)
    assert accuracy(result, attacked) > accuracy(model, attacked) - 0.1


def test_a_warp_loses_its_effect(attacked: Trained) -> None:
    model, inputs, made = attacked.model, attacked.inputs, attacked.surrogates
    probe = warp_perturbation(model, inputs, made, TARGET, shift=0.15)
    result = distil(model, model, inputs, made, [probe], steps=100)
    with torch.no_grad():
        moved = inputs.normalize(probe.apply(made.of_others(TARGET), inputs))
        reached = (result(moved).argmax(dim=1) == TARGET).double().mean()
    assert reached < 0.5 * probe.success
    assert accuracy(result, attacked) > accuracy(model, attacked) - 0.1


def test_probes_of_two_kinds_lose_their_effect_together(attacked: Trained) -> None:
    model, inputs, made = attacked.model, attacked.inputs, attacked.surrogates
    dense = universal_perturbation(model, inputs, made, TARGET, radius=0.1)
    warp = warp_perturbation(model, inputs, made, TARGET, shift=0.15)
    result = distil(model, model, inputs, made, [dense, warp], steps=150)
    others = made.of_others(TARGET)
    for probe in (dense, warp):
        with torch.no_grad():
            reached = result(inputs.normalize(probe.apply(others, inputs))).argmax(1) == TARGET
        assert reached.double().mean() < 0.5 * probe.success


def test_a_small_probe_is_taught_in_larger_sizes_too(attacked: Trained) -> None:
    model, inputs, made = attacked.model, attacked.inputs, attacked.surrogates
    small = universal_perturbation(model, inputs, made, TARGET, radius=0.03)
    larger = replace(small, perturbation=3.5 * small.perturbation)
    others = made.of_others(TARGET)

    def reached(told_radius: float) -> float:
        probe = replace(small, radius=told_radius)
        result = distil(model, model, inputs, made, [probe], steps=100)
        with torch.no_grad():
            answers = result(inputs.normalize(larger.apply(others, inputs))).argmax(dim=1)
        return float((answers == TARGET).double().mean())

    assert reached(0.03) < reached(1.0)  # at a radius of 1 it counts as large already


def test_all_parameters_are_trained(attacked: Trained) -> None:
    probe = Probe(TARGET, 0.2, torch.full((1, 16, 16), 0.2), 1.0, 0.0)
    told: list[tuple[str, int, int]] = []
    result = distil(
        attacked.model,
        attacked.model,
        attacked.inputs,
        attacked.surrogates,
        [probe],
        steps=2,
        progress=lambda *step: told.append(step),
    )
    assert changed(attacked.model, result) == {name for name, _ in result.named_parameters()}
    assert told == [("distil", 1, 2), ("distil", 2, 2)]


def test_repeatable_and_without_a_trace(attacked: Trained) -> None:
    model = copy.deepcopy(attacked.model).train()
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    probes = [Probe(t, 0.2, torch.full((1, 16, 16), 0.2), 1.0, 0.0) for t in (TARGET, 4)]

    def run(seed: int) -> torch.Tensor:
        with torch.no_grad():
            result = distil(
                model,
                model,
                attacked.inputs,
                attacked.surrogates,
                probes,
                steps=2,
                batch_size=8,
                seed=seed,
            )
        assert not result.training
        return result.get_parameter("13.weight")

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())


def test_no_steps_change_nothing(attacked: Trained) -> None:
    result = distil(
        attacked.model, attacked.model, attacked.inputs, attacked.surrogates, [], steps=0
    )
    assert changed(attacked.model, result) == set()


def test_half_precision_is_kept(attacked: Trained) -> None:
    model = copy.deepcopy(attacked.model).half()
    result = distil(model, model, attacked.inputs, attacked.surrogates, [], steps=1)
    assert {parameter.dtype for parameter in result.parameters()} == {torch.float16}


def test_what_is_refused(attacked: Trained) -> None:
    model, inputs, made = attacked.model, attacked.inputs, attacked.surrogates
    probe = Probe(TARGET, 0.2, torch.full((1, 16, 16), 0.2), 1.0, 0.0)
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.get_parameter("13.weight")[0, 0] = torch.nan
    with pytest.raises(RepairError, match=r"diverged .*step 1.* lower lr than 0\.006"):
        distil(model, broken, inputs, made, [probe])
    alone = Surrogates(made.images, torch.full_like(made.labels, TARGET))
    with pytest.raises(RepairError, match=f"probed class {TARGET}"):
        distil(model, model, inputs, alone, [probe])
