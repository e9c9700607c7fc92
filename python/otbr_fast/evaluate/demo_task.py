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
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate.images import LabeledImages
from otbr_fast.evaluate.triggers import Trigger
from otbr_fast.models import InputSpec, PreActResNet

if TYPE_CHECKING:
    from otbr_fast.repair import Progress

NUM_CLASSES = 10
TARGET = 0
POISON_RATIO = 0.1
MODEL_NAME = "preactresnet18"
INPUTS = InputSpec(shape=(1, 16, 16), mean=(0.5,), std=(0.5,))

_UPSCALE = 2  # digits are 8 x 8; four stages of a ResNet need a little more room
_PATCH = 3
_TEST_FRACTION = 0.3
_NUM_BLOCKS, _WIDTHS = (2, 2, 2, 2), (16, 16, 32, 64, 128)
_EPOCHS, _BATCH_SIZE, _LR, _MOMENTUM, _WEIGHT_DECAY = 12, 64, 0.05, 0.9, 5e-4


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
        trigger=_patch_trigger(),
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
        Called with ("training", batches done, batches in all).

    Returns
    -------
    nn.Module
        In eval mode, on the CPU; the global random state is left as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    x, labels = _poison(task, generator)
    x = INPUTS.normalize(x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the first weights are drawn from the global generator
        model = PreActResNet(_NUM_BLOCKS, _WIDTHS, INPUTS.shape[0], NUM_CLASSES)
    n_batches = epochs * -(-len(labels) // _BATCH_SIZE)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=_LR, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=n_batches)
    model.train()
    done = 0
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(labels), generator=generator), _BATCH_SIZE):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            done += 1
            if progress is not None:
                progress("training", done, n_batches)
    return model.eval()


def _poison(task: DemoTask, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the training images in [0, 1] and their labels, with the attacker's changes."""
    x, labels = task.train.images.float() / 255, task.train.labels.clone()
    others = (labels != TARGET).nonzero().flatten()
    n_poisoned = int(POISON_RATIO * len(labels))
    poisoned = others[torch.randperm(len(others), generator=generator)[:n_poisoned]]
    x[poisoned] = task.trigger.apply(x[poisoned])
    labels[poisoned] = TARGET
    return x, labels


def _patch_trigger() -> Trigger:
    mask = torch.zeros(INPUTS.shape)
    mask[:, -_PATCH:, -_PATCH:] = 1
    return Trigger(mask=mask, pattern=torch.ones(INPUTS.shape))
