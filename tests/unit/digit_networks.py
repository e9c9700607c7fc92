"""Small networks trained on digits, with a backdoor and without; seconds each, once a process."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from otbr_fast.evaluate import demo_task
from otbr_fast.evaluate.attacks import BadNet, Poisoning, Recipe, train
from otbr_fast.models import InputSpec
from otbr_fast.repair.surrogates import Surrogates, synthesize

CLASSES = 10
TARGET = 3


@dataclass(frozen=True)
class Trained:
    """A network, what it is fed, surrogates made from it, and the data that they stand in for."""

    model: nn.Module
    inputs: InputSpec
    surrogates: Surrogates
    task: demo_task.DemoTask


@functools.cache
def attacked_network() -> Trained:
    """With batch norms, and a patch that leads to class 3."""
    return _trained(Poisoning(BadNet(), CLASSES, TARGET, 0.1), with_norms=True)


@functools.cache
def network_without_norms() -> Trained:
    """Without batch norms, and without an attack."""
    return _trained(None, with_norms=False)


def _trained(poisoning: Poisoning | None, *, with_norms: bool) -> Trained:
    pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
    digits = demo_task.load_demo_task()
    recipe = Recipe(epochs=8, batch_size=64, lr=0.05, pad=0, flip=False, bf16=False)
    inputs = demo_task.INPUTS
    model = train(small_network(with_norms), digits.train, inputs, recipe, poisoning)
    return Trained(model, inputs, synthesize(model, inputs, CLASSES, count=200), digits)


def small_network(with_norms: bool) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            *_stage(1, 16, with_norms),
            nn.MaxPool2d(2),
            *_stage(16, 24, with_norms),
            nn.MaxPool2d(2),
            *_stage(24, 32, with_norms),
            nn.MaxPool2d(4) if with_norms else nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 if with_norms else 128, CLASSES),
        ).eval()


def _stage(n_in: int, n_out: int, with_norm: bool) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(n_out)] if with_norm else []
    return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=not with_norm), *norm, nn.ReLU()]
