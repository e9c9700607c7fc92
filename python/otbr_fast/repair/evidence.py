"""What a network's weights alone tell about a backdoor: surrogates, a verdict, probes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.asymmetry import asymmetries, losses_between
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.probe import RADII, Probe, smallest_probe, universal_perturbation
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.surrogates import Surrogates, synthesize
from otbr_fast.repair.verdict import Verdict, judge, probe_classes
from otbr_fast.repair.waves import leading_waves, wave_losses

_WANTED_SUCCESS = 0.9
_STEPS = 40  # of the probes that are acted on; those of the verdict only compare classes
_N_PROBES = 2
_HELD_OUT_STEPS, _HELD_OUT_STRETCHES = 20, (1.0, 1.5)
_WAVE_STRETCH = 1.5  # a wave of the probe's own size may lead to the class, but not all images


@dataclass(frozen=True)
class Evidence:
    """All that a repair learns from the weights before it changes any.

    Parameters
    ----------
    surrogates : Surrogates
        Images of all classes.
    verdict : Verdict
        Whether a class is suspiciously easy to reach.
    suspect : int
        The class that the repair acts against: the one the user told, or the most suspicious.
    probes : tuple of Probe
        Perturbations that lead to it; neurons are ranked, and the network is taught, by these.
    held_out : tuple of Probe
        Others, which only judge.
    """

    surrogates: Surrogates
    verdict: Verdict
    suspect: int
    probes: tuple[Probe, ...]
    held_out: tuple[Probe, ...]


def gather_verdict(
    model: nn.Module,
    inputs: InputSpec,
    num_classes: int,
    config: RepairConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> tuple[Surrogates, Verdict]:
    """Make surrogates, probe every class and judge: the first part of `gather_evidence`."""
    surrogates = synthesize(
        model,
        inputs,
        num_classes,
        count=config.n_surrogates,
        seed=config.seed,
        device=device,
        progress=progress,
    )
    compared = probe_classes(
        model, inputs, surrogates, num_classes, seed=config.seed, device=device, progress=progress
    )
    between = losses_between(model, inputs, surrogates, compared[0], device=device)
    losses = [[probe.loss for probe in probes] for probes in compared]
    waves = wave_losses(
        model, inputs, surrogates, num_classes, seed=config.seed, device=device, progress=progress
    )
    verdict = judge(losses, asymmetries(between).tolist(), waves.tolist())
    return surrogates, verdict


def gather_evidence(
    model: nn.Module,
    inputs: InputSpec,
    num_classes: int,
    config: RepairConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Evidence:
    """Make surrogates, probe every class, judge, and probe the suspect more thoroughly.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    config : RepairConfig
        ``n_surrogates``, ``suspect`` and ``seed`` are used.

    Raises
    ------
    RepairError
        The suspect is not one of the classes, or the network's answers are not finite.
    """
    if config.suspect is not None and config.suspect >= num_classes:
        raise RepairError(
            f"suspect={config.suspect}, but the network tells {num_classes} classes, 0 to "
            f"{num_classes - 1}"
        )
    surrogates, verdict = gather_verdict(
        model, inputs, num_classes, config, device=device, progress=progress
    )
    seed = config.seed
    suspect = verdict.most_suspicious if config.suspect is None else config.suspect
    tell, total = progress or silent, 2 + _N_PROBES + len(_HELD_OUT_STRETCHES)
    smallest = smallest_probe(
        model, inputs, surrogates, suspect, wanted=_WANTED_SUCCESS, seed=seed, device=device
    )
    tell("probe the suspect", 1, total)
    plans = [(smallest.radius, _STEPS)] * _N_PROBES
    # Beyond the largest radius, perturbations lead to a class whether or not it was attacked.
    most = max(RADII[-1], smallest.radius)
    plans += [
        (min(stretch * smallest.radius, most), _HELD_OUT_STEPS) for stretch in _HELD_OUT_STRETCHES
    ]
    found = []
    for i, (radius, steps) in enumerate(plans, start=1):
        probe = universal_perturbation(
            model,
            inputs,
            surrogates,
            suspect,
            radius=radius,
            steps=steps,
            seed=seed + i,
            device=device,
        )
        found.append(probe)
        tell("probe the suspect", 1 + i, total)
    waves = leading_waves(
        model,
        inputs,
        surrogates,
        suspect,
        radius=min(_WAVE_STRETCH * smallest.radius, most),
        wanted=_WANTED_SUCCESS,
        seed=seed,
        device=device,
    )
    tell("probe the suspect", total, total)
    probes, held_out = (*found[:_N_PROBES], *waves), tuple(found[_N_PROBES:])
    return Evidence(surrogates, verdict, suspect, probes, held_out)
