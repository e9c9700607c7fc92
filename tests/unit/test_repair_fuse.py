"""Fusion's limits: λ at its ends, dead layers, half precision, and what is left alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from otbr_fast import ot
from otbr_fast.errors import RepairError
from otbr_fast.models import PreActResNet
from otbr_fast.repair import (
    Mode,
    NeuronValues,
    PrunedMasks,
    RepairConfig,
    conv_chain,
    fuse,
    prune,
)
from otbr_fast.repair.weights import set_kernels


def one_pruned(model: nn.Module, layer_index: int) -> tuple[NeuronValues, PrunedMasks]:
    """NWCs 1, 2, 3 ... in each layer, and the last neuron of one layer pruned."""
    layers = conv_chain(model).layers
    nwc = {layer.name: np.arange(1.0, layer.out_channels + 1) for layer in layers}
    pruned = {name: np.zeros(values.size, dtype=np.bool_) for name, values in nwc.items()}
    pruned[layers[layer_index].name][-1] = True
    return nwc, pruned


def fused(
    model: nn.Module, pruned: PrunedMasks, nwc: NeuronValues, mode: Mode, lambda_: float
) -> nn.Module:
    settings = RepairConfig(gamma=0.1, mode=mode, lambda_=lambda_)
    return fuse(model, pruned, nwc, conv_chain(model), settings)[0]


def assert_finite(model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all(), name


def test_lambda_zero_gives_the_input_back_bit_for_bit(tiny_resnet: PreActResNet) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 2)
    result = fused(tiny_resnet, pruned, nwc, "default", 0.0)
    for name, tensor in tiny_resnet.state_dict().items():
        assert torch.equal(result.state_dict()[name], tensor), name


def test_only_chain_weights_from_the_first_pruned_layer_on_change(
    tiny_resnet: PreActResNet,
) -> None:
    before = copy.deepcopy(tiny_resnet.state_dict())
    nwc, pruned = one_pruned(tiny_resnet, 5)
    names = list(nwc)
    after = fused(tiny_resnet, pruned, nwc, "default", 0.5).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name}.weight" for name in names[5:]}
    assert all(torch.equal(tiny_resnet.state_dict()[name], before[name]) for name in before)


def test_layers_before_the_first_pruned_one_are_reported_as_untouched(
    tiny_resnet: PreActResNet,
) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 5)
    told: list[tuple[str, int, int]] = []
    chain = conv_chain(tiny_resnet)
    config = RepairConfig(gamma=0.1, lambda_=0.5)
    _, layers = fuse(tiny_resnet, pruned, nwc, chain, config, lambda *facts: told.append(facts))
    assert [layer.name for layer in layers] == list(nwc)
    assert all(layer.ot_cost is None and layer.duality_gap is None for layer in layers[:5])
    assert all(layer.ot_cost is not None and layer.ot_cost > 0 for layer in layers[5:])
    assert [layer.n_pruned for layer in layers] == [0] * 5 + [1] + [0] * 11
    assert told == [("transport", done, 12) for done in range(1, 13)]


@pytest.mark.parametrize("mode", ["paper", "default"])
def test_a_dead_layer_leaves_finite_weights(tiny_resnet: PreActResNet, mode: Mode) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 2)
    name = list(nwc)[3]
    pruned[name][:] = True
    result = fused(tiny_resnet, pruned, nwc, mode, 0.5)
    assert_finite(result)
    # Nothing but zeros is transported, so the layer is only scaled.
    expected = 0.5 * tiny_resnet.get_parameter(f"{name}.weight")
    torch.testing.assert_close(result.get_parameter(f"{name}.weight"), expected)


def test_default_mode_is_finite_where_nothing_changed_in_unlearning(
    tiny_resnet: PreActResNet,
) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 2)
    names = list(nwc)
    nwc[names[4]][:] = 0
    nwc[names[6]][1:] = 0
    assert_finite(fused(tiny_resnet, pruned, nwc, "default", 1.0))
    with pytest.raises(RepairError, match=names[4]):
        fused(tiny_resnet, pruned, nwc, "paper", 1.0)


def test_paper_mode_accepts_zeros_in_layers_that_it_does_not_fuse(
    tiny_resnet: PreActResNet,
) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 2)
    nwc[next(iter(nwc))][:] = 0
    assert_finite(fused(tiny_resnet, pruned, nwc, "paper", 0.5))


def test_both_modes_agree_where_the_plan_is_unique(tiny_resnet: PreActResNet) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 1)
    paper = fused(tiny_resnet, pruned, nwc, "paper", 0.5).state_dict()
    for name, tensor in fused(tiny_resnet, pruned, nwc, "default", 0.5).state_dict().items():
        torch.testing.assert_close(tensor, paper[name], rtol=1e-5, atol=1e-6, msg=name)


def test_a_share_to_be_chosen_is_none_to_fuse_with(tiny_resnet: PreActResNet) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 2)
    with pytest.raises(RepairError, match=r'lambda_="auto".*give a number'):
        fuse(tiny_resnet, pruned, nwc, conv_chain(tiny_resnet), RepairConfig(gamma=0.1))


def test_weights_keep_their_dtype(tiny_resnet: PreActResNet) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 2)
    half = copy.deepcopy(tiny_resnet).half()
    result = fused(half, pruned, nwc, "default", 0.5)
    assert {p.dtype for p in result.parameters()} == {torch.float16}
    assert_finite(result)


def test_a_weight_that_does_not_fit_its_dtype_is_refused_and_not_written() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1)).half()
    before = model.state_dict()["0.weight"].clone()
    with pytest.raises(RepairError, match=r"layer '0' is not finite in torch\.float16"):
        set_kernels(model, "0", np.full((1, 1, 1, 1), 1e6))
    assert torch.equal(model.state_dict()["0.weight"], before)


def test_without_pruned_neurons_nothing_is_fused(tiny_resnet: PreActResNet) -> None:
    nwc, pruned = one_pruned(tiny_resnet, 2)
    none = {name: np.zeros_like(mask) for name, mask in pruned.items()}
    result = fused(tiny_resnet, none, nwc, "default", 0.5)
    for name, tensor in prune(tiny_resnet, none).state_dict().items():
        assert torch.equal(result.state_dict()[name], tensor), name


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_a_plan_that_is_not_proven_optimal_is_refused(
    monkeypatch: pytest.MonkeyPatch, tiny_resnet: PreActResNet, mode: Mode
) -> None:
    solve = ot.solve

    def cut_short(*args: Any, **options: Any) -> ot.OTResult:
        return replace(solve(*args, **options), status="iteration_limit")

    monkeypatch.setattr(ot, "solve", cut_short)
    nwc, pruned = one_pruned(tiny_resnet, 2)
    with pytest.raises(RepairError, match=r"'layer1.0.conv2': .* not proven optimal"):
        fused(tiny_resnet, pruned, nwc, mode, 0.5)
