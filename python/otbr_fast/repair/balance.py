"""How often the suspected class is answered, where no probe is added: as before the repair."""

from __future__ import annotations

import copy

import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import answers, working_copy
from otbr_fast.models.registry import last_linear
from otbr_fast.repair.surrogates import Surrogates, images_at_once, mixtures


def balance(
    repaired: nn.Module,
    original: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    suspect: int,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Shift one class's bias so that the class is answered as often as by the original, at most.

    A network that has unlearned the way to a class answers it too rarely, so its recall falls. The
    shift of that logit under which a repaired network answers it for as many mixtures of surrogates
    as the original did, or for as many as there are of each class if these are fewer, is the middle
    between two neighbouring margins, so nothing is searched. It is the correction of a classifier
    for changed frequencies of classes (Saerens et al., Neural Computation 2002), with the
    original's answers in place of known frequencies.

    Parameters
    ----------
    repaired, original : nn.Module
        Two networks of one architecture; they are not changed.
    inputs : InputSpec
        Shape, range and normalisation of their input.
    surrogates : Surrogates
        Made from the original.
    suspect : int
        The class.
    seed : int
        Decides the mixtures.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.

    Returns
    -------
    nn.Module
        A copy of the repaired network, on the CPU, in eval mode. Nothing is shifted if its last
        layer has no bias, or if the original takes none of the mixtures for the class.

    Raises
    ------
    RepairError
        The answers are not finite.
    """
    result = copy.deepcopy(repaired).cpu().eval()
    classifier = last_linear(result)
    bias = None if classifier is None else classifier.bias
    if bias is None:
        return result
    generator = torch.Generator().manual_seed(seed)
    images = mixtures(surrogates, generator)
    size = images_at_once(inputs)
    known = answers(working_copy(original, device), inputs, images, size)
    # The backdoor may draw mixtures, too: no more than the class's share of the surrogates.
    wanted = min(int((known.argmax(dim=1) == suspect).sum()), len(images) // known.shape[1])
    if wanted == 0:
        return result
    logits = answers(working_copy(repaired, device), inputs, images, size)
    own = logits[:, suspect].clone()
    if not bool(torch.isfinite(logits).all()):
        raise RepairError(
            "the repaired network's answers are not finite on surrogates: use a smaller gamma or "
            "lambda, or leave the distillation out (distil_steps=0)"
        )
    logits[:, suspect] = -torch.inf
    margins = (logits.amax(dim=1) - own).sort().values
    with torch.no_grad():
        bias[suspect] += (margins[wanted - 1] + margins[wanted]) / 2
    return result
