"""Whether a class draws the others more than they draw it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import answers, working_copy
from otbr_fast.repair.probe import Probe
from otbr_fast.repair.surrogates import Surrogates, images_at_once

_LOSS_FLOOR = 1e-9  # so that a loss of 0 has a logarithm


def log_losses(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms of losses, finite where a loss is 0."""
    return np.asarray(np.log(np.maximum(losses, _LOSS_FLOOR)))


def losses_between(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    probes: Sequence[Probe],
    *,
    device: torch.device | str = "cpu",
) -> NDArray[np.float64]:
    """Measure how near each class's surrogates come to each other class under its probe.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    surrogates : Surrogates
        Of all classes.
    probes : sequence of Probe
        One for each class, in order.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.

    Returns
    -------
    ndarray, shape (C, C)
        In row s and column t the mean cross-entropy, with t as the label, of surrogates of class s
        under t's probe; 0 on the diagonal, which tells nothing.
    """
    net, size = working_copy(model, device), images_at_once(inputs)
    found = np.zeros((len(probes), len(probes)))
    for probe in probes:
        logits = answers(net, inputs, probe.apply(surrogates.images, inputs), size)
        labels = torch.full((len(logits),), probe.target)
        losses = F.cross_entropy(logits, labels, reduction="none").double()
        for source in range(len(probes)):
            if source != probe.target:
                found[source, probe.target] = losses[surrogates.labels == source].mean()
    return found


def asymmetries(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tell by how much easier it is to come to each class than to leave it.

    How hard it is to come to a class and how hard it is to leave it go together, as both tell how
    far it lies from the others; a backdoor makes it easier to come and leaves the other as it is.
    So a backdoor shows here even if its class is by nature the farthest of all.

    Parameters
    ----------
    losses : ndarray, shape (C, C)
        From `losses_between`.

    Returns
    -------
    ndarray, shape (C,)
        For each class c the mean of log losses[c, s] − log losses[s, c] over the others s.
    """
    logs = log_losses(losses)
    np.fill_diagonal(logs, 0)
    others = max(1, len(logs) - 1)
    difference: NDArray[np.float64] = (logs.sum(axis=1) - logs.sum(axis=0)) / others
    return difference
