"""Patches: as few pixels as told, side by side where it matters, and what is refused."""

from __future__ import annotations

import pytest
import torch
from digit_networks import CLASSES, TARGET, Trained, attacked_network
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models import InputSpec
from otbr_fast.repair.patch import patch_perturbation
from otbr_fast.repair.surrogates import Surrogates

INPUTS = InputSpec(shape=(3, 12, 10), low=-1.0, high=2.0)
CORNER = (slice(2, 5), slice(6, 9))


class Corner(nn.Module):
    """Answers class 1 as far as nine pixels are bright, each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = self.scale * x[:, :, CORNER[0], CORNER[1]].sum(dim=(1, 2, 3))
        return torch.stack([0 * bright, bright - 10, 0 * bright - 1], dim=1)


def some_surrogates() -> Surrogates:
    images = 0.1 * torch.rand(30, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    return Surrogates(images, torch.arange(30) % 3)


@pytest.mark.parametrize("area", [0.02, 9 / 120, 0.3, 1.0])
def test_no_more_pixels_than_told_and_within_the_range(area: float) -> None:
    probe = patch_perturbation(Corner(), INPUTS, some_surrogates(), 1, area=area)
    covered = probe.perturbation.abs().sum(dim=0) > 0
    assert 0 < int(covered.sum()) <= round(area * 120)
    assert float(probe.perturbation.abs().max()) <= 3.0
    root_mean_square = float(probe.perturbation.square().mean().sqrt())
    assert probe.radius == pytest.approx(root_mean_square / 3.0, rel=1e-5)


def test_the_pixels_that_matter_are_found() -> None:
    probe = patch_perturbation(Corner(), INPUTS, some_surrogates(), 1, area=9 / 120)
    covered = probe.perturbation.abs().sum(dim=0) > 0
    assert int(covered[CORNER].sum()) == int(covered.sum()) == 9
    assert probe.success == 1
    assert (probe.perturbation[:, CORNER[0], CORNER[1]] > 0).all()


def test_a_patch_leads_to_the_attacked_class_first(attacked: Trained) -> None:
    probes = [
        patch_perturbation(attacked.model, attacked.inputs, attacked.surrogates, target, area=0.06)
        for target in range(CLASSES)
    ]
    others = [probe.success for probe in probes if probe.target != TARGET]
    assert probes[TARGET].success > max(others)


@pytest.fixture
def attacked() -> Trained:
    return attacked_network()


def test_a_pixel_at_least() -> None:
    probe = patch_perturbation(Corner(), INPUTS, some_surrogates(), 1, area=1e-6)
    assert int((probe.perturbation.abs().sum(dim=0) > 0).sum()) == 1


@pytest.mark.parametrize("area", [0.0, -1.0, 1.01, float("nan")])
def test_what_is_no_part_is_refused(area: float) -> None:
    with pytest.raises(RepairError, match=rf"area={area}"):
        patch_perturbation(Corner(), INPUTS, some_surrogates(), 1, area=area)
