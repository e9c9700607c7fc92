"""Plane waves: the one that a network listens to is found, and none where nothing listens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models import InputSpec
from otbr_fast.repair.surrogates import Surrogates
from otbr_fast.repair.waves import LeadingWaves, leading_waves, try_waves

SIZE, TARGET = 16, 1
INPUTS = InputSpec(shape=(3, SIZE, SIZE), low=-1.0, high=3.0)


def stripes(cycles: int) -> torch.Tensor:
    return torch.cos(2 * math.pi * cycles * torch.arange(SIZE) / SIZE).expand(3, SIZE, SIZE)


class Listener(nn.Module):
    """Answers TARGET where the energy in stripes is large: at plain images, with no gradient."""

    def __init__(self, cycles: int, threshold: float) -> None:
        super().__init__()
        self.pattern = nn.Parameter(stripes(cycles).clone())
        self.threshold = threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heard = (x * self.pattern).mean(dim=(1, 2, 3)).square()
        led = 20 * (heard - self.threshold)
        return torch.stack([torch.zeros_like(led), led, torch.zeros_like(led) - 1], dim=1)


@pytest.fixture
def surrogates() -> Surrogates:
    generator = torch.Generator().manual_seed(0)
    images = 1 + 0.05 * torch.randn((30, 3, SIZE, SIZE), generator=generator)
    return Surrogates(images, torch.arange(30) % 3)


def found_by(
    model: nn.Module, surrogates: Surrogates, *, wanted: float = 0.9, seed: int = 0
) -> LeadingWaves:
    tried = try_waves(model, INPUTS, surrogates, 3, radius=0.05, seed=seed)
    return leading_waves(model, INPUTS, surrogates, TARGET, tried, wanted=wanted)


@pytest.mark.parametrize("cycles", [1, 2, 4])
def test_the_wave_that_is_listened_to_is_found(surrogates: Surrogates, cycles: int) -> None:
    model = Listener(cycles, threshold=0.005)
    found = found_by(model, surrogates)
    probes = found.probes
    assert probes
    assert found.rivals == (1.0, 0.0)  # without a wave all are taken for class 0, never for class 2
    assert all(probe.target == TARGET and probe.success >= 0.9 for probe in probes)
    assert [probe.loss for probe in probes] == sorted(probe.loss for probe in probes)
    best = probes[0].perturbation
    assert float(best.square().mean().sqrt()) == pytest.approx(0.05 * 4, rel=1e-5)
    cosine = torch.cosine_similarity(best.flatten(), stripes(cycles).flatten(), dim=0)
    assert float(cosine.abs()) > 0.999


def test_waves_that_lead_nowhere_are_left_out(surrogates: Surrogates) -> None:
    deaf = Listener(2, threshold=1.0)
    found = found_by(deaf, surrogates)
    assert (found.probes, found.between) == ((), ())


def test_an_eighth_of_a_period_beside_the_best_are_waves_that_were_not_tried(
    surrogates: Surrogates,
) -> None:
    model = Listener(2, threshold=0.005)
    found = found_by(model, surrogates)
    best = found.probes[0].perturbation.flatten()
    for probe in found.between:
        assert float(probe.perturbation.square().mean().sqrt()) == pytest.approx(0.2, rel=1e-5)
        cosine = torch.cosine_similarity(best, probe.perturbation.flatten(), dim=0)
        assert float(cosine) == pytest.approx(0.5**0.5, abs=1e-5)
    assert len(found.between) == 2


def test_the_class_that_a_wave_leads_to_has_the_least_loss(surrogates: Surrogates) -> None:
    losses = try_waves(Listener(2, 0.005), INPUTS, surrogates, 3, radius=0.2).least_losses
    assert losses.shape == (3,)
    assert losses[TARGET] < min(losses[0], losses[2]) - 0.3


def test_the_same_seed_gives_the_same_waves(surrogates: Surrogates) -> None:
    model = Listener(3, threshold=0.005)
    one, same = (found_by(model, surrogates, wanted=0.5, seed=3).probes for _ in range(2))
    assert [p.loss for p in one] == [p.loss for p in same]
    assert all(torch.equal(a.perturbation, b.perturbation) for a, b in zip(one, same, strict=True))


def test_images_too_small_for_a_wave_give_none() -> None:
    inputs = InputSpec(shape=(1, 3, 3))
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    tiny = Surrogates(torch.rand(4, 1, 3, 3), torch.arange(4) % 2)
    tried = try_waves(model, inputs, tiny, 2)
    assert leading_waves(model, inputs, tiny, 1, tried, wanted=0.0).probes == ()
    assert tried.least_losses.tolist() == [0, 0]


def test_without_images_of_other_classes_it_is_refused(surrogates: Surrogates) -> None:
    alone = Surrogates(surrogates.images, torch.full((30,), TARGET))
    with pytest.raises(RepairError, match=f"other classes than {TARGET}"):
        found_by(Listener(2, 0.01), alone)
