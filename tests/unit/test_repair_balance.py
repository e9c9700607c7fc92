"""Balancing: one class is answered as often as before, and nothing else changes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from digit_networks import CLASSES, TARGET, Trained, attacked_network
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.precision import answers, working_copy
from otbr_fast.models.registry import last_linear
from otbr_fast.repair.balance import balance
from otbr_fast.repair.surrogates import mixtures


@pytest.fixture
def attacked() -> Trained:
    return attacked_network()


def with_bias(model: nn.Module, shift: float) -> nn.Module:
    """Return a copy that answers the target more or less often."""
    result = copy.deepcopy(model)
    classifier = last_linear(result)
    assert classifier is not None
    with torch.no_grad():
        classifier.bias[TARGET] += shift
    return result


def how_often(model: nn.Module, trained: Trained, seed: int) -> int:
    images = mixtures(trained.surrogates, torch.Generator().manual_seed(seed))
    logits = answers(working_copy(model, "cpu"), trained.inputs, images, 256)
    return int((logits.argmax(dim=1) == TARGET).sum())


@pytest.mark.parametrize("shift", [-8.0, -1.0, 0.0, 3.0])
def test_class_is_answered_as_often_as_before(attacked: Trained, shift: float) -> None:
    moved = with_bias(attacked.model, shift)
    result = balance(moved, attacked.model, attacked.inputs, attacked.surrogates, TARGET, seed=5)
    n_mixtures = len(mixtures(attacked.surrogates, torch.Generator()))
    wanted = min(how_often(attacked.model, attacked, seed=5), n_mixtures // CLASSES)
    assert how_often(result, attacked, seed=5) == wanted
    if shift <= -1:
        assert how_often(moved, attacked, seed=5) < wanted


def test_a_class_that_the_backdoor_draws_to_gets_its_share(attacked: Trained) -> None:
    drawn = with_bias(attacked.model, 6.0)
    result = balance(drawn, drawn, attacked.inputs, attacked.surrogates, TARGET, seed=5)
    n_mixtures = len(mixtures(attacked.surrogates, torch.Generator()))
    assert how_often(drawn, attacked, seed=5) > how_often(result, attacked, seed=5)
    assert how_often(result, attacked, seed=5) == n_mixtures // CLASSES


def test_only_that_bias_changes(attacked: Trained) -> None:
    moved = with_bias(attacked.model, -2.0)
    before = copy.deepcopy(moved.state_dict())
    result = balance(moved, attacked.model, attacked.inputs, attacked.surrogates, TARGET)
    after = result.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert len(changed) == 1
    (name,) = changed
    assert (after[name] != before[name]).nonzero().flatten().tolist() == [TARGET]
    assert all(torch.equal(moved.state_dict()[k], v) for k, v in before.items())


def test_a_classifier_without_bias_is_left_alone(attacked: Trained) -> None:
    bare = copy.deepcopy(attacked.model)
    classifier = last_linear(bare)
    assert classifier is not None
    classifier.register_parameter("bias", None)
    result = balance(bare, attacked.model, attacked.inputs, attacked.surrogates, TARGET)
    after = result.state_dict()
    assert all(torch.equal(after[name], value) for name, value in bare.state_dict().items())


def test_answers_that_are_not_finite_are_refused(attacked: Trained) -> None:
    broken = with_bias(attacked.model, math.nan)
    with pytest.raises(RepairError, match=r"not finite.*smaller gamma"):
        balance(broken, attacked.model, attacked.inputs, attacked.surrogates, TARGET)
