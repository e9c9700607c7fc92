"""Random unlearning: train a copy to forget, on noise with random labels (paper, stage 1)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from otbr_fast.errors import RepairError
from otbr_fast.models.copies import training_copy
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.loading import is_finite
from otbr_fast.models.seeding import torch_seeded
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.progress import Progress, silent


def random_unlearn(
    model: nn.Module,
    inputs: InputSpec,
    num_classes: int,
    config: RepairConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> nn.Module:
    """Train a copy of a network to maximise cross-entropy on noise with random labels.

    Noise and labels come from one CPU generator seeded with ``config.seed``; each step draws
    its noise first, then its labels. In paper mode the noise is uniform in [0, 1] and is not
    normalised, and the last class is never drawn, as published; in default mode it is uniform
    over the model's own input range, normalised as the model expects, with labels of all classes.
    The copy is in train mode, so batch statistics are used and running ones move, except for
    dropout modules, which stay off. What else draws random numbers, such as stochastic depth,
    does so from torch's global generators, which are seeded by ``config.seed`` for each step and
    put back after it.

    Paper mode deviates from the published code in two points. Dropout is off there too; the
    published code leaves it on, so results of networks with dropout, such as VGG, are not its
    own. The noise has the shape ``(config.batch_size, *inputs.shape)``; the published code always
    draws (256, 3, 32, 32), so other shapes and batch sizes have no published counterpart.

    Parameters
    ----------
    model : nn.Module
        The backdoored network; it is not changed.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    num_classes : int
        Its number of logits, at least 2.
    config : RepairConfig
        ``mode``, ``steps``, ``lr``, ``momentum``, ``batch_size`` and ``seed`` are used.
    device : torch.device or str
        Where to train.
    progress : callable, optional
        Called after each step with ``("unlearn", done, steps)``.

    Returns
    -------
    nn.Module
        The unlearned copy, in eval mode, on the device; in float32 if the model is in half
        precision.

    Raises
    ------
    RepairError
        The loss or a weight is not finite.
    """
    if num_classes < 2:
        raise RepairError(f"num_classes={num_classes}: unlearning needs at least two classes")
    tell = progress or silent
    unlearned = training_copy(model, device)
    if next(unlearned.parameters()).dtype.itemsize < torch.float32.itemsize:
        unlearned = unlearned.float()  # in half precision, steps of 1e-4 would be rounded away
    dtype = next(unlearned.parameters()).dtype
    optimizer = torch.optim.SGD(unlearned.parameters(), lr=config.lr, momentum=config.momentum)
    generator, for_layers = (torch.Generator().manual_seed(config.seed) for _ in range(2))
    for step in range(config.steps):
        noise, labels = _draw(inputs, num_classes, config, generator)
        optimizer.zero_grad()
        with torch.enable_grad(), torch_seeded(for_layers, device):
            loss = -cross_entropy(unlearned(noise.to(device, dtype)), labels.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
        if not torch.isfinite(loss):
            raise _diverged(f"loss {loss.item()} in step {step + 1}", config)
        optimizer.step()
        tell("unlearn", step + 1, config.steps)
    for name, parameter in unlearned.named_parameters():
        if not is_finite(parameter):
            raise _diverged(f"weight '{name}' is not finite", config)
    return unlearned.eval()


def _draw(
    inputs: InputSpec, num_classes: int, config: RepairConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a step's noise (N, C, H, W) and labels (N,)."""
    shape = (config.batch_size, *inputs.shape)
    noise = torch.rand(shape, generator=generator, dtype=torch.float32)
    drawn_classes = num_classes - 1 if config.mode == "paper" else num_classes
    labels = torch.randint(0, drawn_classes, (config.batch_size,), generator=generator)
    if config.mode == "default":
        noise = inputs.normalize(inputs.raw(noise))
    return noise, labels


def _diverged(what: str, config: RepairConfig) -> RepairError:
    return RepairError(f"random unlearning diverged ({what}): use a lower lr than {config.lr}")
