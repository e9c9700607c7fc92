"""The kinds of perturbations by which a suspect stands out most."""

from __future__ import annotations

import torch
from torch import nn

from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.kinds import Kind, Sought, Way
from otbr_fast.repair.patch import AREAS, patch_perturbation
from otbr_fast.repair.probe import RADII, universal_perturbation
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.sized_kind import SizedKind
from otbr_fast.repair.surrogates import Surrogates
from otbr_fast.repair.warp import SHIFTS, warp_perturbation
from otbr_fast.repair.wave_kind import WaveKind
from otbr_fast.repair.waves import TriedWaves, try_waves

_WANTED_OF_WARPS = 0.5  # the attacks themselves lead fewer images to their class
_MOST_RIVALS = 16
_AS_MUCH = 0.75  # of the largest: kinds that are nearer to each other can hardly be told apart


def easiest_ways(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    suspect: int,
    num_classes: int,
    *,
    thorough: bool = True,
    waves: TriedWaves | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> tuple[Way, ...]:
    """Find perturbations that lead to the suspect, of the kinds that lead to no other class.

    A perturbation is made of the trigger's features and of the class's own, and a network that
    unlearns the latter forgets the class. If perturbations of the kind and size lead to other
    classes nearly as well, it is mostly the latter. Dense ones are sought first: they suit most
    triggers, and are kept if their lead is clear. If not, patches, warps and waves are tried too,
    and the kind is kept by which the suspect stands out most: by the smallest size that leads a
    third of the surrogates to it, in spreads of what others of that size do with other classes.
    So are those by which it stands out nearly as much, as such a difference tells nothing, if
    their lead is nearly as large.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    surrogates : Surrogates
        Made from it.
    suspect, num_classes : int
        The class to lead to, and how many there are; 16 of the others are compared, if there are
        more.
    thorough : bool
        Try other sizes and other kinds, too: the network will be repaired by what is found.
    waves : TriedWaves, optional
        Of the largest size and the same seed, if they were tried already.
    seed : int
        Decides what is drawn.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.
    progress : callable, optional
        Called with ``("probe (dense)", done, in all)``, and ``"probe (patch)"``, ``"probe
        (warp)"`` and ``"waves"`` if there are any.

    Returns
    -------
    tuple of Way
        At least one; that by which the suspect stands out most first.

    Raises
    ------
    RepairError
        There are no surrogates of other classes, or the network's answers are not finite.
    """
    classes = [k for k in range(num_classes) if k != suspect]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(classes), generator=generator)[:_MOST_RIVALS]
    rivals = [classes[i] for i in drawn.tolist()]
    sought = Sought(model, inputs, surrogates, suspect, rivals, seed, device, progress or silent)
    # Beyond the largest radius, perturbations lead to a class whether or not it was attacked.
    dense = SizedKind("dense", sought, universal_perturbation, "radius", RADII)
    if not thorough:
        return (dense.smallest(),)
    if dense.is_clear():
        return (dense.largest_clear(),)
    largest = waves or try_waves(
        model, inputs, surrogates, num_classes, seed=seed, device=device, progress=progress
    )
    others: list[Kind] = [
        # What a search for a patch finds depends on where it begins, so two are made.
        SizedKind("patch", sought, patch_perturbation, "area", AREAS, n_tries=2),
        SizedKind("warp", sought, warp_perturbation, "shift", SHIFTS, wanted=_WANTED_OF_WARPS),
        WaveKind(sought, dense.clearest_size(), largest),
    ]
    leading = [kind for kind in others if kind.leads_enough]
    if not leading:  # there is nothing to compare with
        return (dense.clearest(),)
    standing = {kind: kind.standing() for kind in (dense, *leading)}
    near = [kind for kind in standing if _is_near(standing[kind], max(standing.values()))]
    ways = [kind.clearest() for kind in sorted(near, key=lambda kind: -standing[kind])]
    return tuple(way for way in ways if _is_near(way.lead, max(other.lead for other in ways)))


def _is_near(value: float, largest: float) -> bool:
    return largest - value <= (1 - _AS_MUCH) * abs(largest)
