"""What a network's weights alone tell about a backdoor: surrogates, a verdict, probes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.asymmetry import asymmetries, losses_between
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.kinds import Way
from otbr_fast.repair.probe import Probe
from otbr_fast.repair.progress import Progress
from otbr_fast.repair.surrogates import Surrogates, synthesize
from otbr_fast.repair.verdict import Verdict, judge, probe_classes
from otbr_fast.repair.waves import TriedWaves, try_waves
from otbr_fast.repair.ways import easiest_ways


@dataclass(frozen=True)
class FirstLook:
    """What tells whether there is a sign of a backdoor.

    Parameters
    ----------
    surrogates : Surrogates
        Images of all classes.
    waves : TriedWaves
        Those of the largest size.
    verdict : Verdict
        Whether a class is suspiciously easy to reach.
    """

    surrogates: Surrogates
    waves: TriedWaves
    verdict: Verdict


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
    ways : tuple of Way
        Perturbations that lead to it, of one kind, or of several that can hardly be told apart.
    """

    surrogates: Surrogates
    verdict: Verdict
    suspect: int
    ways: tuple[Way, ...]

    @property
    def probes(self) -> tuple[Probe, ...]:
        """By which neurons are ranked, and the network is taught."""
        return tuple(probe for way in self.ways for probe in way.probes)

    @property
    def held_out(self) -> tuple[Probe, ...]:
        """Others, which only judge."""
        return tuple(probe for way in self.ways for probe in way.held_out)


def gather_verdict(
    model: nn.Module,
    inputs: InputSpec,
    num_classes: int,
    config: RepairConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> FirstLook:
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
    waves = try_waves(
        model, inputs, surrogates, num_classes, seed=config.seed, device=device, progress=progress
    )
    verdict = judge(losses, asymmetries(between).tolist(), waves.least_losses.tolist())
    return FirstLook(surrogates, waves, verdict)


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
        ``n_surrogates``, ``suspect``, ``gamma`` (whether it is given) and ``seed`` are used.

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
    first = gather_verdict(model, inputs, num_classes, config, device=device, progress=progress)
    surrogates, verdict = first.surrogates, first.verdict
    suspect = verdict.most_suspicious if config.suspect is None else config.suspect
    ways = easiest_ways(
        model,
        inputs,
        surrogates,
        suspect,
        num_classes,
        # Where nothing will be done, there is nothing that better ones would better.
        thorough=verdict.suspect is not None or config.is_asked_for,
        waves=first.waves,
        seed=config.seed,
        device=device,
        progress=progress,
    )
    return Evidence(surrogates, verdict, suspect, ways)
