"""Universal perturbations: how little leads all classes to one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import answers, run, working_copy
from otbr_fast.repair.surrogates import Surrogates, images_at_once

RADII = (0.018, 0.027, 0.036, 0.054, 0.072, 0.108)
"""What is tried to lead to a suspect; at 3 x 32 x 32 inputs in [0, 1], L2 norms of 1 to 6."""

_MOMENTUM = 0.8
_STEP, _LAST_STEP = 0.1, 0.1  # of the radius; the step falls to a tenth

Change: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""What a perturbation does: of inputs, shape (N, C, H, W), and perturbations, N or one of them."""


def added(x: torch.Tensor, perturbation: torch.Tensor) -> torch.Tensor:
    """Add perturbations, shape (N, C, H, W) or (1, C, H, W), to inputs."""
    return x + perturbation


@dataclass(frozen=True)
class Probe:
    """One perturbation for all inputs, and how well it leads them to a class.

    Parameters
    ----------
    target : int
        The class.
    radius : float
        What its root mean square may be, as a part of the input range.
    perturbation : Tensor
        Float32, on the CPU; shape (C, H, W) if it is to be added.
    success : float
        The part of surrogates of other classes that it leads to the target.
    loss : float
        Their mean cross-entropy with the target as the label.
    change : callable
        What it does to raw inputs, which are then clamped to their range.
    largest : float
        The radius beyond which its like lead to a class whether or not that was attacked.
    """

    target: int
    radius: float
    perturbation: torch.Tensor
    success: float
    loss: float
    change: Change = added
    largest: float = RADII[-1]

    def apply(self, x: torch.Tensor, inputs: InputSpec) -> torch.Tensor:
        """Apply it to raw inputs, shape (N, C, H, W), within their range."""
        changed = self.change(x, self.perturbation[None].to(x.device))
        return changed.clamp(inputs.low, inputs.high)


def universal_perturbation(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    target: int,
    *,
    radius: float,
    steps: int = 12,
    batch_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Probe:
    """Search the perturbation of bounded size that leads surrogates of other classes to one.

    A backdoor is a short way from anywhere to the target; the attacked class gives way to much
    smaller perturbations than others. That is the idea of Neural Cleanse (Wang et al., IEEE S&P
    2019), which has clean data, and minimises the L1 norm of a mask over it. Here the perturbation
    is additive and dense, as in universal adversarial perturbations (Moosavi-Dezfooli et al., CVPR
    2017, arXiv 1610.08401), targeted, of bounded L2 norm, and found on surrogates by descending
    the cross-entropy along normalised gradients with momentum, projected onto the ball.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    surrogates : Surrogates
        Those made for the target are left out.
    target : int
        The class to lead to.
    radius : float
        Bound of the perturbation's root mean square, as a part of the input range. An L2 norm of
        r at 3 x 32 x 32 inputs in [0, 1] is r / sqrt(3072).
    steps : int
        Of the search.
    batch_size : int
        Surrogates drawn in each step; fewer if they are large, so that memory is bounded.
    seed : int
        Decides what is drawn.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.

    Raises
    ------
    RepairError
        The radius is not positive, there are no surrogates of other classes, or the network's
        answers are not finite.
    """
    if not radius > 0:
        raise RepairError(f"radius={radius}: a perturbation needs a positive one")
    bound = radius * (inputs.high - inputs.low) * math.prod(inputs.shape) ** 0.5
    return descended(
        model,
        inputs,
        surrogates,
        target,
        torch.zeros(inputs.shape, dtype=torch.float32),
        lambda values, done: _within(values, bound),
        bound,
        radius=radius,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        device=device,
    )


def descended(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    target: int,
    start: torch.Tensor,
    project: Callable[[torch.Tensor, float], torch.Tensor],
    bound: float,
    *,
    change: Change = added,
    radius: float | None = None,
    steps: int,
    batch_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Probe:
    """Descend along normalised gradients with momentum, and project after each step.

    Parameters and errors are those of `universal_perturbation`, and:

    Parameters
    ----------
    start : Tensor
        Perturbation that the search begins with.
    project : callable
        Given a perturbation and which part of the search is done, in [0, 1],
        returns the nearest that is allowed.
    bound : float
        L2 norm of the largest that is allowed; the steps are parts of it.
    change : callable
        What a perturbation does.
    radius : float, optional
        What the probe says of its size; the root mean square found when not given.
    """
    net = working_copy(model, device)
    images = surrogates.of_others(target)
    batch_size = min(batch_size, images_at_once(inputs))
    generator = torch.Generator().manual_seed(seed)
    found = start.to(device)
    velocity = torch.zeros_like(found)
    for step in range(steps):
        drawn = torch.randint(len(images), (batch_size,), generator=generator)
        gradient = _gradient(net, inputs, images[drawn].to(device), found, target, change)
        velocity = _MOMENTUM * velocity + gradient / gradient.norm().clamp(min=1e-12)
        length = _STEP * bound * (1 - (1 - _LAST_STEP) * step / steps)
        found = project(found - length * velocity, step / steps)
    if radius is None:
        radius = float(found.square().mean().sqrt()) / (inputs.high - inputs.low)
    return measured(net, inputs, images, found.cpu(), target, radius, change)


def _gradient(
    net: nn.Module,
    inputs: InputSpec,
    x: torch.Tensor,
    found: torch.Tensor,
    target: int,
    change: Change,
) -> torch.Tensor:
    labels = torch.full((len(x),), target, device=x.device)
    with torch.enable_grad():
        moved = found.detach().requires_grad_(True)
        logits = run(net, inputs, change(x, moved[None]).clamp(inputs.low, inputs.high))
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels), moved)
    return gradient


def measured(
    net: nn.Module,
    inputs: InputSpec,
    images: torch.Tensor,
    perturbation: torch.Tensor,
    target: int,
    radius: float,
    change: Change = added,
) -> Probe:
    """Return a perturbation with what it does to images of other classes.

    The network is run as it is, see `models.run`.

    Raises
    ------
    RepairError
        The perturbation or the network's answers are not finite.
    """
    probe = Probe(target, radius, perturbation, math.nan, math.nan, change)
    logits = answers(net, inputs, probe.apply(images, inputs), images_at_once(inputs))
    if not bool(torch.isfinite(logits).all() and torch.isfinite(perturbation).all()):
        raise RepairError(
            f"the network's answers are not finite on surrogates that lead to class {target}: "
            f"check its weights, and its input range and normalisation ({inputs})"
        )
    success = float((logits.argmax(dim=1) == target).double().mean())
    loss = float(F.cross_entropy(logits, torch.full((len(logits),), target)))
    return replace(probe, success=success, loss=loss)


def _within(values: torch.Tensor, bound: float) -> torch.Tensor:
    """Project onto the L2 ball."""
    norm = values.norm()
    return values * (bound / norm) if norm > bound else values
