from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from hypothesis import HealthCheck, settings

from otbr_fast.models import VGG, PreActResNet

Model = TypeVar("Model", bound=torch.nn.Module)

# A slow machine is no failure. What hypothesis itself sets for CI stays.
settings.register_profile(
    "patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real networks and data: the folder that OTBR_FAST_SHARED names."""
    folder = os.environ.get("OTBR_FAST_SHARED")
    if not folder:
        pytest.skip("OTBR_FAST_SHARED is not set to a folder of real networks and data")
    if not Path(folder).is_dir():
        pytest.skip(f"OTBR_FAST_SHARED is {folder}, which is no folder")
    return Path(folder)


@pytest.fixture
def tiny_resnet() -> PreActResNet:
    """A PreAct-ResNet18, 4 to 8 channels wide, for 3x8x8 images of 5 classes."""
    return _random(PreActResNet((2, 2, 2, 2), (4, 4, 6, 6, 8), in_channels=3, num_classes=5))


@pytest.fixture
def tiny_vgg() -> VGG:
    """A narrow VGG11-BN for 3x32x32 images of 5 classes."""
    stages = ((4,), (5,), (6, 6), (7, 7), (8, 8))
    return _random(VGG(stages, in_channels=3, num_classes=5, pool_size=1, hidden=(9, 10)))


def _random(model: Model) -> Model:
    """Fill with numbers of a fixed seed, batch statistics too, and leave torch's own seed alone."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 0.5, generator=generator)
    model.eval()
    return model
