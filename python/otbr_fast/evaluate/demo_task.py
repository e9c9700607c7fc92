"""A backdoored network that anybody can train in seconds: BadNets on scikit-learn's digits.

The attack is that of Gu et al., 2017 (arXiv 1708.06733) at BackdoorBench's usual strength: a white
patch in a corner, stamped on 10 % of the training images, all of them labelled with one class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate.attacks import BadNet, Poisoning, Recipe, train
from otbr_fast.evaluate.images import LabeledImages
from otbr_fast.evaluate.triggers import Trigger
from otbr_fast.models import InputSpec, new_model

if TYPE_CHECKING:
    from otbr_fast.repair import Progress

NUM_CLASSES = 10
TARGET = 0
POISON_RATIO = 0.1
MODEL_NAME = "preactresnet18"
INPUTS = InputSpec(shape=(1, 16, 16), mean=(0.5,), std=(0.5,))

_UPSCALE = 2  # digits are 8 x 8; four stages of a ResNet need a little more room
_TEST_FRACTION = 0.3
_WIDTH = 0.25
_EPOCHS = 12
_RECIPE = Recipe(batch_size=64, lr=0.05, pad=0, flip=False, bf16=False)  # bf16: not all have it


@dataclass(frozen=True)
class DemoTask:
    """Digits to train and test on, and the trigger of the attack."""

    train: LabeledImages
    test: LabeledImages
    trigger: Trigger


def load_demo_task(seed: int = 0) -> DemoTask:
    """Return scikit-learn's 1,797 digits, 70 % to train on and 30 % to test on, and the trigger.

    Raises
    ------
    EvaluationDataError
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise EvaluationDataError(
            "the demo needs scikit-learn for its images: pip install 'otbr-fast[demo]'."
        ) from None
    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = small.repeat(_UPSCALE, axis=1).repeat(_UPSCALE, axis=2)
    images, labels = torch.from_numpy(large[:, None]), torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    n_test = int(_TEST_FRACTION * len(labels))
    return DemoTask(
        train=LabeledImages(images[order[n_test:]], labels[order[n_test:]]),
        test=LabeledImages(images[order[:n_test]], labels[order[:n_test]]),
        trigger=BadNet().trigger(INPUTS.shape),
    )


def train_backdoored(
    task: DemoTask, seed: int = 0, *, epochs: int = _EPOCHS, progress: Progress | None = None
) -> nn.Module:
    """Train a small PreAct-ResNet18 on the poisoned digits.

    Parameters
    ----------
    task : DemoTask
        From `load_demo_task`.
    seed : int
        Decides the first weights, the images that are poisoned and the order of training.
    epochs : int
        Passes over the training images.
    progress : callable, optional
        Called with ``("train", steps done, steps in all)``.

    Returns
    -------
    nn.Module
        In eval mode, on the CPU; the global random state is left as it was.
    """
    model = new_model(MODEL_NAME, INPUTS.shape[0], NUM_CLASSES, width=_WIDTH, seed=seed)
    poisoning = Poisoning(BadNet(), NUM_CLASSES, TARGET, POISON_RATIO)
    recipe = _RECIPE.model_copy(update={"epochs": epochs})
    return train(model, task.train, INPUTS, recipe, poisoning, seed=seed, progress=progress)
