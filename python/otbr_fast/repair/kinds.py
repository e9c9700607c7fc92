"""What kinds of perturbations have in common: the suspect is held against other classes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import nn

from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.probe import Probe
from otbr_fast.repair.progress import Progress
from otbr_fast.repair.surrogates import Surrogates

KindName: TypeAlias = Literal["dense", "patch", "warp", "wave"]

WANTED_SUCCESS = 0.9
"""The part of the surrogates to be led to the suspect."""

_LEAST_SPREAD = 0.02  # between classes, as successes are counted on some hundred surrogates
_LEAST_RIVALS = 3  # fewer have no spread that could be told


@dataclass(frozen=True)
class Way:
    """Perturbations of one kind that lead to the suspect.

    Parameters
    ----------
    kind : str
        ``"dense"``: any change of small L2 norm; ``"patch"``: few pixels, of any value;
        ``"warp"``: smooth shifts of all pixels; ``"wave"``: grey plane waves.
    probes : tuple of Probe
        To act on.
    held_out : tuple of Probe
        Others, to judge by.
    lead : float
        The part of the surrogates that such a perturbation leads to the suspect, less the part
        that others of the kind and size lead to other classes, on average.
    """

    kind: KindName
    probes: tuple[Probe, ...]
    held_out: tuple[Probe, ...]
    lead: float


class Kind(Protocol):
    """Perturbations of one kind that were tried."""

    @property
    def leads_enough(self) -> bool:
        """Whether any leads enough surrogates to the suspect."""

    def standing(self) -> float:
        """Measure by how much the suspect stands out, if any leads to it."""

    def clearest(self) -> Way:
        """Return those of the size with the largest lead."""


@dataclass(frozen=True)
class Sought:
    """What is sought with perturbations of all kinds, and in which network.

    Parameters
    ----------
    model, inputs, surrogates, seed, device
        As in `universal_perturbation`.
    suspect : int
        The class to lead to.
    rivals : sequence of int
        Classes to compare it with.
    tell : callable
        Called with ``("probe (dense)", done, in all)`` and the like.
    """

    model: nn.Module
    inputs: InputSpec
    surrogates: Surrogates
    suspect: int
    rivals: Sequence[int]
    seed: int
    device: torch.device | str
    tell: Progress


def spreads_above(success: float, rivals: Sequence[float]) -> float:
    """Return by how many of their spreads a success is above those of other classes.

    Of fewer than three, whose spread cannot be told, the spread is taken for 1.
    """
    above = success - statistics.fmean(rivals)
    if len(rivals) < _LEAST_RIVALS:
        return above
    return above / (statistics.stdev(rivals) + _LEAST_SPREAD)
