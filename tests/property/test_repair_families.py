"""Repairs of every family that takes images: nothing is refused, and what is said is done."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from channel_families import FAMILIES, build
from otbr_fast.channels import channel_graph, example_input, rows
from otbr_fast.errors import ChannelGraphError, RepairError, UnsupportedModelError
from otbr_fast.io import channels_from_yaml, channels_to_yaml
from otbr_fast.models import InputSpec
from otbr_fast.repair import RepairConfig, repair, sweep, transported_spaces

INPUTS = InputSpec(shape=(3, 12, 12), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
NWC = RepairConfig(
    gamma=0.06, ranking="nwc", recalibrate=False, distil_steps=0, steps=2, batch_size=8, lr=0.01
)
RESPONSE = RepairConfig(gamma=0.15, lambda_=0.75, suspect=1, n_surrogates=12, distil_steps=2)
IMAGE_FAMILIES = [family for family in FAMILIES if family != "text classifier"]


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_a_repair_by_weight_changes(family: str) -> None:
    model = build(family).float()
    spaces = transported_spaces(channel_graph(model, example_input(model, INPUTS)))
    result = repair(model, INPUTS, NWC.but(gamma=2.5 / sum(space.size for space in spaces)))
    assert [layer.name for layer in result.layers] == [space.name for space in spaces]
    assert result.n_pruned == 2
    before, after = model.state_dict(), result.model.state_dict()
    pruned = result.pruned_model.state_dict()
    touched = {axis.tensor for space in spaces for axis in space.axes}
    for name, tensor in after.items():
        assert bool(torch.isfinite(tensor).all())
        assert name in touched or torch.equal(tensor, before[name])
    for space in spaces:
        for axis in space.writers:
            gone = (rows(pruned[axis.tensor], axis) == 0).all(dim=1).numpy()
            assert np.array_equal(gone, result.pruned[space.name])
    for layer in result.layers:
        assert layer.duality_gap is None or layer.duality_gap <= 1e-6 * max(1, layer.ot_cost or 0)


@pytest.mark.parametrize("family", ["DenseNet", "MobileNetV3", "ViT", "Swin", "MLP-Mixer"])
def test_a_repair_by_responses(family: str) -> None:
    model = build(family).float()
    result = repair(model, INPUTS, RESPONSE)
    assert result.is_changed
    assert result.n_pruned > 0
    assert all(bool(torch.isfinite(t).all()) for t in result.model.state_dict().values())


def test_half_precision_is_kept() -> None:
    model = build("ResNeXt, RegNet").bfloat16()
    result = repair(model, INPUTS, NWC)
    assert {t.dtype for t in result.model.parameters()} == {torch.bfloat16}


def test_channels_can_be_handed_in() -> None:
    model = build("ResNet-18").float()
    graph = channel_graph(model, example_input(model, INPUTS))
    own = repair(model, INPUTS, NWC)
    handed = repair(model, INPUTS, NWC, channels=channels_from_yaml(channels_to_yaml(graph)))
    assert handed.output_hash == own.output_hash
    (swept,) = sweep(model, INPUTS, NWC, [0.06], channels=graph)
    assert swept.output_hash == own.output_hash
    with pytest.raises(ChannelGraphError):
        repair(build("ViT").float(), INPUTS, NWC, channels=graph)
    with pytest.raises(RepairError, match="paper mode"):
        repair(model, INPUTS, NWC.but(mode="paper"), channels=graph)


def test_paper_mode_still_refuses_what_the_published_method_cannot_do() -> None:
    with pytest.raises(UnsupportedModelError, match="Paper mode"):
        repair(build("DenseNet").float(), INPUTS, NWC.but(mode="paper"))
