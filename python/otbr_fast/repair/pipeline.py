"""The whole repair: unlearn, rank, prune, transport, fuse."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from otbr_fast import models
from otbr_fast.errors import RepairError
from otbr_fast.models.hashing import state_dict_hash
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.channels import ConvChain, conv_chain
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.fuse import fuse_transported, layer_reports, transport_layers
from otbr_fast.repair.nwc import NeuronValues, neuron_weight_changes, round_as_published
from otbr_fast.repair.progress import Progress
from otbr_fast.repair.prune import PrunedMasks, prune, select_pruned
from otbr_fast.repair.result import RepairResult
from otbr_fast.repair.unlearn import random_unlearn
from otbr_fast.versions import show_versions

_BROKEN = "the model handed in is broken, and no repair can mend that; load or train it again"


def repair(
    model: nn.Module,
    inputs: InputSpec,
    config: RepairConfig,
    *,
    num_classes: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> RepairResult:
    """Mitigate a network's backdoor without data.

    Parameters
    ----------
    model : nn.Module
        The network; it is not changed.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    config : RepairConfig
        The settings.
    num_classes : int, optional
        Its number of logits; read from its last linear layer when not given.
    device : torch.device or str
        Where to unlearn; the rest runs on the CPU.
    progress : callable, optional
        Called with a stage's name, the steps done and the steps in all.

    Returns
    -------
    RepairResult
        With the mitigated network on the CPU, in eval mode.

    Raises
    ------
    UnsupportedModelError
        The network's architecture cannot be handled, or it does not take such inputs or answer
        with so many classes.
    RepairError
        A weight that comes in is not finite, or the repair cannot go on without harm; the message
        tells the remedy.
    """
    results = sweep(
        model,
        inputs,
        config,
        [config.gamma],
        num_classes=num_classes,
        device=device,
        progress=progress,
    )
    return next(results)


def sweep(
    model: nn.Module,
    inputs: InputSpec,
    config: RepairConfig,
    gammas: Sequence[float],
    lambdas: Sequence[float] | None = None,
    *,
    num_classes: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Iterator[RepairResult]:
    """Mitigate a network with several γ and λ, unlearning only once.

    Parameters and errors are those of `repair`. Everything that can be refused before the
    first result is: a γ that would fail stops the sweep at once.

    Parameters
    ----------
    gammas : sequence of float
        The γ to try, in place of ``config.gamma``.
    lambdas : sequence of float, optional
        The λ to try with each γ, at no cost; ``config.lambda_`` when not given.

    Returns
    -------
    iterator of RepairResult
        For each γ, for each λ, in the order given; made as they are asked for.
    """
    configs = [
        [config.but(gamma=gamma, lambda_=lambda_) for lambda_ in lambdas or [config.lambda_]]
        for gamma in gammas
    ]
    models.require_finite(model.state_dict(), _BROKEN, RepairError)
    chain = conv_chain(model)
    classes = models.num_classes(model) if num_classes is None else num_classes
    original = copy.deepcopy(model).cpu().eval()
    models.check_inputs(original, inputs, classes)
    unlearned = random_unlearn(model, inputs, classes, config, device=device, progress=progress)
    nwc = neuron_weight_changes(original, unlearned, chain)
    if config.mode == "paper":
        nwc = round_as_published(nwc)
    selections = [select_pruned(nwc, row[0].gamma, mode=config.mode) for row in configs]
    return _results(original, chain, nwc, configs, selections, str(device), progress)


def _results(
    original: nn.Module,
    chain: ConvChain,
    nwc: NeuronValues,
    configs: Sequence[Sequence[RepairConfig]],
    selections: Sequence[PrunedMasks],
    device: str,
    progress: Progress | None,
) -> Iterator[RepairResult]:
    input_hash = state_dict_hash(original.state_dict())
    for row, pruned in zip(configs, selections, strict=True):
        transports = transport_layers(original, pruned, nwc, chain, row[0], progress)
        for config in row:
            fused = fuse_transported(original, pruned, transports, config.lambda_)
            yield RepairResult(
                model=fused,
                pruned_model=prune(original, pruned),
                layers=layer_reports(chain, transports),
                config=config,
                device=device,
                versions=show_versions(),
                input_hash=input_hash,
                output_hash=state_dict_hash(fused.state_dict()),
            )
