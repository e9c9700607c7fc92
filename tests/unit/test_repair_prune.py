"""NWCs, masses, the choice of neurons, and pruning, on cases worked out by hand."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models import PreActResNet
from otbr_fast.repair import (
    RepairWarning,
    conv_chain,
    mass,
    neuron_weight_changes,
    prune,
    round_as_published,
    select_pruned,
)


def test_nwc_sums_absolute_changes_of_incoming_weights() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3, 2))
    unlearned = copy.deepcopy(model)
    conv = unlearned.get_submodule("0")
    with torch.no_grad():
        conv.get_parameter("weight")[0, 1, 0, 1] += 0.5
        conv.get_parameter("weight")[0, 0, 1, 1] -= 0.25
        conv.get_parameter("weight")[2, 0, 0, 0] -= 2.0
        conv.get_parameter("bias")[1] += 9.0  # not a weight
    nwc = neuron_weight_changes(model, unlearned, conv_chain(model))
    assert list(nwc) == ["0"]
    assert nwc["0"].dtype == np.float64
    np.testing.assert_allclose(nwc["0"], [0.75, 0.0, 2.0], rtol=1e-6, atol=0)


def test_nwc_of_broken_weights_is_refused_by_layer(tiny_resnet: PreActResNet) -> None:
    broken = copy.deepcopy(tiny_resnet)
    with torch.no_grad():
        broken.get_parameter("layer3.0.conv2.weight")[0] = torch.inf
    with pytest.raises(RepairError, match=r"'layer3\.0\.conv2'"):
        neuron_weight_changes(tiny_resnet, broken, conv_chain(tiny_resnet))


def test_rounding_as_published_keeps_four_decimals() -> None:
    rounded = round_as_published({"a": np.array([0.12344, 0.12346, 0.00004, 0.00006])})
    np.testing.assert_array_equal(rounded["a"], [0.1234, 0.1235, 0.0, 0.0001])


def test_masses_are_the_nwcs_shares() -> None:
    for mode in ("paper", "default"):
        np.testing.assert_allclose(mass("a", np.array([1.0, 3.0]), mode), [0.25, 0.75], rtol=1e-15)


def test_paper_mode_refuses_an_nwc_of_zero_and_names_layer_and_neurons() -> None:
    with pytest.raises(RepairError, match=r"layer 'a'.* 1, 3 .*mode='default'"):
        mass("a", np.array([1.0, 0.0, 2.0, 0.0]), "paper")


def test_default_mode_lifts_zeros_to_the_floor() -> None:
    beta = mass("a", np.array([0.0, 4.0, 4.0, 0.0]), "default")
    assert beta.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(beta[0] / beta[1], 1e-6 * 2 / 4, rtol=1e-12)


def test_default_mode_gives_an_unchanged_layer_uniform_masses() -> None:
    np.testing.assert_array_equal(mass("a", np.zeros(4), "default"), np.full(4, 0.25))


def test_default_mode_survives_tiny_nwcs() -> None:
    beta = mass("a", np.array([5e-324, 1e-310, 0.0]), "default")
    assert (beta > 0).all()
    assert beta.sum() == pytest.approx(1, abs=1e-15)


def test_neurons_are_ranked_over_all_layers_together() -> None:
    nwc = {"a": np.array([5.0, 1.0, 7.0]), "b": np.array([6.0, 2.0]), "c": np.array([3.0, 0.0])}
    pruned = select_pruned(nwc, 0.5)  # int(0.5 * 7) = 3
    assert {name: mask.tolist() for name, mask in pruned.items()} == {
        "a": [True, False, True],
        "b": [True, False],
        "c": [False, False],
    }


def test_of_equal_neurons_the_first_is_pruned() -> None:
    nwc = {"a": np.array([1.0, 2.0, 2.0]), "b": np.array([2.0, 2.0, 0.0])}
    pruned = select_pruned(nwc, 0.5)
    assert {name: mask.tolist() for name, mask in pruned.items()} == {
        "a": [False, True, True],
        "b": [True, False, False],
    }


def test_a_gamma_of_less_than_one_neuron_is_refused() -> None:
    with pytest.raises(RepairError, match=r"gamma=0\.1 of 4 neurons.*at least 0\.25"):
        select_pruned({"a": np.arange(4.0)}, 0.1)


def test_default_mode_refuses_to_prune_a_layer_to_death_and_tells_the_largest_gamma() -> None:
    nwc = {"a": np.array([9.0, 8.0, 7.0]), "b": np.array([8.5, 6.0, 5.0, 4.0])}
    with pytest.raises(RepairError, match=r"layer 'a'.*gamma=0\.5 \(3 neurons") as caught:
        select_pruned(nwc, 0.6)
    assert "'b'" not in str(caught.value)
    assert sum(mask.sum() for mask in select_pruned(nwc, 0.5).values()) == 3


def test_a_layer_of_one_neuron_ranked_first_has_no_gamma_that_helps() -> None:
    with pytest.raises(RepairError, match="no gamma leaves each layer a neuron"):
        select_pruned({"a": np.array([9.0]), "b": np.arange(3.0)}, 0.25)


def test_paper_mode_only_warns_of_a_dead_layer() -> None:
    nwc = {"a": np.array([9.0, 8.0]), "b": np.array([1.0, 0.5])}
    with pytest.warns(RepairWarning, match="all neurons of layer 'a'"):
        pruned = select_pruned(nwc, 0.5, mode="paper")
    assert pruned["a"].all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select_pruned(nwc, 0.3, mode="paper")


def test_pruning_zeroes_the_weights_of_pruned_neurons_only(tiny_resnet: PreActResNet) -> None:
    before = copy.deepcopy(tiny_resnet.state_dict())
    mask = np.array([False, True, False, True])
    after = prune(tiny_resnet, {"layer1.0.conv1": mask}).state_dict()
    name = "layer1.0.conv1.weight"
    assert torch.equal(after[name][mask], torch.zeros_like(after[name][mask]))
    assert torch.equal(after[name][~mask], before[name][~mask])
    assert all(torch.equal(after[other], before[other]) for other in before if other != name)
    assert all(torch.equal(tiny_resnet.state_dict()[other], before[other]) for other in before)


def test_pruning_leaves_biases() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    pruned = prune(model, {"0": np.array([True, True])})
    assert torch.equal(pruned.get_parameter("0.bias"), model.get_parameter("0.bias"))
    assert not pruned.get_parameter("0.weight").any()
