"""What a comparison is made of: networks to defend, and the data that some methods use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from otbr_fast.evaluate.evaluation_set import EvaluationSet
from otbr_fast.evaluate.images import LabeledImages
from otbr_fast.models import InputSpec, state_dict_hash


@dataclass(frozen=True)
class Contender:
    """A network to defend.

    Parameters
    ----------
    name : str
        In the tables; two networks may not share one.
    model : nn.Module
        On the CPU, in eval mode.
    inputs : InputSpec
        What it is fed.
    num_classes : int
        Its number of logits.
    test_hash : str
        Of what it is measured on (`evaluation_hash`).
    read_test : callable
        Reads that; called only when there is something to measure.
    """

    name: str
    model: nn.Module
    inputs: InputSpec
    num_classes: int
    test_hash: str
    read_test: Callable[[], EvaluationSet]

    @cached_property
    def weights_hash(self) -> str:
        """Of the weights as they came."""
        return state_dict_hash(self.model.state_dict())


@dataclass(frozen=True)
class TrainingData:
    """Labelled training images, read when they are needed, and what tells them from others."""

    hash: str
    read: Callable[[], LabeledImages]


def evaluation_hash(images: EvaluationSet) -> str:
    """Return what tells images, labels and targets to measure on from others."""
    tensors = {"target": torch.tensor(-1 if images.target is None else images.target)}
    if images.clean is not None:
        tensors |= {"clean": images.clean.images, "labels": images.clean.labels}
    if images.poisoned is not None:
        tensors |= vars(images.poisoned)
    return state_dict_hash(tensors)
