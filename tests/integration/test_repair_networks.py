"""Repairs of real attacked networks, with unlearning cut short to stay quick."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from otbr_fast.io import load_checkpoint
from otbr_fast.models import build_model
from otbr_fast.repair import PUBLISHED_GAMMAS, Mode, RepairConfig, sweep


@pytest.mark.parametrize("mode", ["default", "paper"])
@pytest.mark.parametrize("attack", ["badnet", "blended"])
def test_every_published_gamma_gives_a_finite_proven_repair(
    shared: Path, attack: str, mode: Mode
) -> None:
    path = shared / "models" / f"cifar10_preactresnet18_w32_{attack}.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path}")
    checkpoint = load_checkpoint(path)
    assert checkpoint.description is not None
    model, _ = build_model(checkpoint.state_dict)
    published = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and "shortcut" not in name
    ]
    # A few large steps move weights about as far as the published twenty of 1e-4.
    config = RepairConfig(
        gamma=0.1,
        mode=mode,
        ranking="nwc",
        recalibrate=False,
        distil_steps=0,
        steps=2,
        lr=2e-3,
        batch_size=32,
    )
    inputs = checkpoint.description.input_spec()
    results = list(sweep(model, inputs, config, PUBLISHED_GAMMAS))
    if mode == "paper":
        assert [result.n_pruned for result in results] == [19, 97, 195, 292, 390, 488, 585]
    for result in results:
        assert result.n_pruned == int(result.config.gammas[0] * result.n_neurons)
        assert mode != "paper" or [layer.name for layer in result.layers] == published
        assert all(torch.isfinite(t).all() for t in result.model.state_dict().values())
        for layer in result.layers:
            if layer.ot_cost is not None and layer.duality_gap is not None:
                assert 0 <= layer.duality_gap <= 1e-9 * layer.ot_cost
