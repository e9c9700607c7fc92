"""Warps: what they do to an image, no larger than told, found where they are the trigger."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models import InputSpec
from otbr_fast.repair.surrogates import Surrogates
from otbr_fast.repair.warp import warp_perturbation, warped

INPUTS = InputSpec(shape=(1, 12, 16))


class Edge(nn.Module):
    """Answers class 1 as far as an edge that lies at column 8 of its images has moved left."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full((), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = 20 * (x[:, :, :, 7].mean(dim=(1, 2)) - self.threshold)
        return torch.stack([0 * moved, moved, 0 * moved - 1], dim=1)


def some_surrogates() -> Surrogates:
    images = 0.05 * torch.rand(30, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    images[:, :, :, 8:] += 0.9
    return Surrogates(images, 2 * (torch.arange(30) % 2))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(2, 6))
def test_no_shift_changes_nothing(height: int, width: int, n: int, points: int) -> None:
    x = torch.rand(n, 2, height, width, generator=torch.Generator().manual_seed(n))
    torch.testing.assert_close(warped(x, torch.zeros(1, 2, points, points)), x)


@given(st.integers(-2, 2), st.integers(-2, 2))
def test_a_shift_by_whole_pixels_takes_the_pixel_beside(down: int, along: int) -> None:
    x = torch.rand(3, 2, 8, 11, generator=torch.Generator().manual_seed(0))
    shifts = torch.ones(1, 2, 4, 4) * torch.tensor([along / 11, down / 8]).view(1, 2, 1, 1)
    rows = (torch.arange(8) + down).clamp(0, 7)
    columns = (torch.arange(11) + along).clamp(0, 10)
    expected = x[:, :, rows][:, :, :, columns]
    torch.testing.assert_close(warped(x, shifts), expected, rtol=1e-4, atol=1e-5)


def test_each_image_can_have_a_warp_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 9, 9, generator=generator)
    shifts = 0.1 * torch.randn(4, 2, 6, 6, generator=generator)
    alone = [warped(x[i : i + 1], shifts[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(warped(x, shifts), torch.cat(alone))


@pytest.mark.parametrize("shift", [1e-4, 0.02, 0.1])
def test_no_larger_than_told(shift: float) -> None:
    probe = warp_perturbation(Edge(), INPUTS, some_surrogates(), 1, shift=shift)
    assert probe.radius == shift
    assert probe.perturbation.shape[0] == 2
    fine = nn.functional.interpolate(
        probe.perturbation[None], size=(12, 16), mode="bicubic", align_corners=True
    )
    assert 0 < float(fine.square().mean().sqrt()) <= shift * (1 + 1e-5)


def test_the_warp_that_leads_to_the_class_is_found() -> None:
    surrogates = some_surrogates()
    found = warp_perturbation(Edge(), INPUTS, surrogates, 1, shift=0.5 / 16)
    assert found.success == 1
    assert float(found.perturbation[0].mean()) > 0  # from the right: the edge goes to the left
    assert found.perturbation[1].abs().max() < found.perturbation[0].abs().max()
    away = warp_perturbation(Edge(), INPUTS, surrogates, 0, shift=0.5 / 16)
    torch.testing.assert_close(
        found.apply(surrogates.images, INPUTS),
        warped(surrogates.images, found.perturbation[None]).clamp(0, 1),
    )
    assert away.target == 0


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan")])
def test_what_is_no_size_is_refused(shift: float) -> None:
    with pytest.raises(RepairError, match=rf"shift={shift}"):
        warp_perturbation(Edge(), INPUTS, some_surrogates(), 1, shift=shift)
