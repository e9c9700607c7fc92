"""Perturbations of one kind: of growing sizes, or waves; the suspect's held against others'."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import nn

from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.probe import RADII, Probe
from otbr_fast.repair.progress import Progress
from otbr_fast.repair.surrogates import Surrogates
from otbr_fast.repair.waves import leading_waves

KindName: TypeAlias = Literal["dense", "patch", "warp", "wave"]

_CLEAR_LEAD = 0.8  # beyond it no smaller size, and with dense probes no other kind, is tried
_WANTED_SUCCESS = 0.9  # the part of the surrogates to be led to the suspect
_TELLING_SUCCESS = 1 / 3  # of the size by which kinds are compared: larger ones lead anywhere
_LEAST_SPREAD = 0.02  # between classes, as successes are counted on some hundred surrogates
_LEAST_RIVALS = 3  # fewer have no spread that could be told
_STEPS_TO_ACT, _STEPS_TO_JUDGE = 40, 20  # of searches for what is acted on, and judged by
_N_PROBES = 2
_HELD_OUT_STRETCHES = (1.0, 1.5)
_WAVE_STRETCH = 1.5  # a wave of a dense probe's size may lead to the class, but not all images


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
class Hunt:
    """What the searches for all kinds share.

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


class SizedKind:
    """A kind of several sizes, which grow until one leads enough surrogates to the suspect.

    Parameters
    ----------
    name : str
        As in `Way`.
    hunt : Hunt
        Where to search.
    search : callable
        Such as `universal_perturbation`.
    size_name : str
        Its argument that tells the size.
    sizes : sequence of float
        Growing.
    wanted : float
        The part of the surrogates to be led to the suspect.
    n_tries : int
        Searches of each size, for kinds where what is found depends on where it begins.
    """

    def __init__(
        self,
        name: KindName,
        hunt: Hunt,
        search: Callable[..., Probe],
        size_name: str,
        sizes: Sequence[float],
        *,
        wanted: float = _WANTED_SUCCESS,
        n_tries: int = 1,
    ) -> None:
        self._name, self._hunt, self._search, self._size_name = name, hunt, search, size_name
        self._sizes, self._wanted, self._n_tries = sizes, wanted, n_tries
        self._found: dict[float, list[Probe]] = {}
        self._of_rivals: dict[float, list[float]] = {}
        leading = (size for size in sizes if self._success(size) >= wanted)
        self._last = next(leading, sizes[-1])

    @property
    def leads_enough(self) -> bool:
        """Whether any leads enough surrogates to the suspect."""
        return self._success(self._last) >= self._wanted

    def standing(self) -> float:
        """Measure by how much the suspect stands out, by the smallest size that leads a third."""
        for size in self._tried():
            if self._success(size) >= _TELLING_SUCCESS:
                return spreads_above(self._success(size), self._rivals(size))
        return -math.inf

    def smallest(self) -> Way:
        """Return those of the smallest size that leads enough, or of the largest if none does."""
        return self._way(self._last)

    def is_clear(self) -> bool:
        """Whether few are led to other classes by the size that is clearest."""
        return self._lead(self.clearest_size()) >= _CLEAR_LEAD

    def clearest(self) -> Way:
        """Return those of the clearest size."""
        return self._way(self.clearest_size())

    def largest_clear(self) -> Way:
        """Return those of the clearest size, or of a larger one, if all between are clear.

        Of the sizes that lead clearly to the suspect, the largest bears most of the trigger.
        """
        clearest = self.clearest_size()
        larger = [size for size in self._sizes if size > clearest]
        clear = itertools.takewhile(lambda size: self._lead(size) >= _CLEAR_LEAD, larger)
        return self._way(max(clear, default=clearest))

    def clearest_size(self) -> float:
        """Return the last size that was tried, or the one below it that has the largest lead.

        A little larger than need be, and others lead to other classes too.
        """
        best = self._last
        for size in reversed(self._tried()[:-1]):
            if self._lead(best) >= _CLEAR_LEAD or self._success(size) <= self._lead(best):
                break  # a lead is at most the success
            best = max(best, size, key=self._lead)
        return best

    def _tried(self) -> list[float]:
        return [size for size in self._sizes if size <= self._last]

    def _lead(self, size: float) -> float:
        return self._success(size) - statistics.fmean(self._rivals(size))

    def _success(self, size: float) -> float:
        """Return what a search of a size reaches with the suspect."""
        if size not in self._found:
            seeds = range(self._hunt.seed, self._hunt.seed + self._n_tries)
            self._found[size] = [
                self._find(self._hunt.suspect, size, _STEPS_TO_JUDGE, seed) for seed in seeds
            ]
        return max(probe.success for probe in self._found[size])

    def _rivals(self, size: float) -> list[float]:
        """Return what searches of a size reach with the other classes."""
        if size not in self._of_rivals:
            rivals, seed = self._hunt.rivals, self._hunt.seed
            plans = [(rival, size, _STEPS_TO_JUDGE, seed) for rival in rivals]
            self._of_rivals[size] = [probe.success for probe in self._find_all(plans)]
        return self._of_rivals[size]

    def _way(self, size: float) -> Way:
        """Find more probes of a size, to act on and to judge by."""
        suspect, seed = self._hunt.suspect, self._hunt.seed
        plans = [(suspect, size, _STEPS_TO_ACT, seed + 1 + i) for i in range(_N_PROBES)]
        for i, stretch in enumerate(_HELD_OUT_STRETCHES, start=1 + _N_PROBES):
            held_out = min(stretch * size, self._sizes[-1])
            plans.append((suspect, held_out, _STEPS_TO_JUDGE, seed + i))
        found = self._find_all(plans)
        acted_on = [*self._found[size], *found[:_N_PROBES]]
        return Way(
            kind=self._name,
            probes=tuple(sorted(acted_on, key=lambda probe: probe.loss)[:_N_PROBES]),
            held_out=tuple(found[_N_PROBES:]),
            lead=self._lead(size),
        )

    def _find_all(self, plans: Sequence[tuple[int, float, int, int]]) -> list[Probe]:
        found = []
        for done, plan in enumerate(plans, start=1):
            found.append(self._find(*plan))
            self._hunt.tell(f"probe ({self._name})", done, len(plans))
        return found

    def _find(self, target: int, size: float, steps: int, seed: int) -> Probe:
        hunt = self._hunt
        return self._search(
            hunt.model,
            hunt.inputs,
            hunt.surrogates,
            target,
            **{self._size_name: size},
            steps=steps,
            seed=seed,
            device=hunt.device,
        )


class WaveKind:
    """Plane waves, which need no search; those of a size that leads to the suspect, if one does.

    Parameters
    ----------
    hunt : Hunt
        Where to try them.
    radius : float
        Of a dense perturbation that leads to the suspect: waves a little larger are tried, and if
        none of them leads, those of the largest size, as such a trigger may act only near its own.
    num_classes : int
        The number of logits.
    """

    def __init__(self, hunt: Hunt, radius: float, num_classes: int) -> None:
        for size in dict.fromkeys((min(_WAVE_STRETCH * radius, RADII[-1]), RADII[-1])):
            self._found = leading_waves(
                hunt.model,
                hunt.inputs,
                hunt.surrogates,
                hunt.suspect,
                num_classes,
                radius=size,
                wanted=_WANTED_SUCCESS,
                seed=hunt.seed,
                device=hunt.device,
            )
            if self._found.probes:
                break

    @property
    def leads_enough(self) -> bool:
        """Whether any leads enough surrogates to the suspect."""
        return bool(self._found.probes)

    def standing(self) -> float:
        """Measure by how much the suspect stands out."""
        return spreads_above(self._found.probes[0].success, self._found.rivals)

    def clearest(self) -> Way:
        """Return the waves that lead to it."""
        found = self._found
        lead = found.probes[0].success - statistics.fmean(found.rivals)
        return Way("wave", found.probes, found.between, lead)


def spreads_above(success: float, rivals: Sequence[float]) -> float:
    """Return by how many of their spreads a success is above those of other classes.

    Of fewer than three, whose spread cannot be told, the spread is taken for 1.
    """
    above = success - statistics.fmean(rivals)
    if len(rivals) < _LEAST_RIVALS:
        return above
    return above / (statistics.stdev(rivals) + _LEAST_SPREAD)
