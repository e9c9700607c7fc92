"""Kinds of perturbation that lead to a class, and the one by which a suspect stands out most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn

from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.patch import AREAS, patch_perturbation
from otbr_fast.repair.probe import RADII, Probe, universal_perturbation
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.surrogates import Surrogates
from otbr_fast.repair.warp import SHIFTS, warp_perturbation
from otbr_fast.repair.waves import leading_waves

Kind: TypeAlias = Literal["dense", "patch", "warp", "wave"]

_Find: TypeAlias = Callable[[int, float, int, int], Probe]  # target, size, steps, seed
_Tried: TypeAlias = tuple[float, Sequence[Probe]]  # a size, and what was found of it

_WANTED_SUCCESS = 0.9
_WANTED_OF_WARPS = 0.5  # the attacks themselves lead fewer images to their class
_CLEAR_LEAD = 0.8  # of dense probes, beyond which no other kind is tried
_STEPS_TO_ACT, _STEPS_TO_JUDGE = 40, 20  # of searches for what is acted on, and judged by
_N_PROBES = 2
_HELD_OUT_STRETCHES = (1.0, 1.5)
_WAVE_STRETCH = 1.5  # a wave of a dense probe's size may lead to the class, but not all images
_MOST_RIVALS = 16


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

    kind: Kind
    probes: tuple[Probe, ...]
    held_out: tuple[Probe, ...]
    lead: float


def easiest_way(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    suspect: int,
    num_classes: int,
    *,
    thorough: bool = True,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Way:
    """Find perturbations that lead to the suspect, of the kind that leads to no other class.

    A perturbation is made of the trigger's features and of the class's own, and a network that
    unlearns the latter forgets the class. If perturbations of the kind and size lead to other
    classes nearly as well, it is mostly the latter. Dense ones are sought first: they suit most
    triggers, and are kept if their lead is clear. If not, patches, warps and waves are tried too,
    and the kind with the largest lead is kept.

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
        Try smaller sizes and other kinds, too, where the lead is not clear.
    seed : int
        Decides what is drawn.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.
    progress : callable, optional
        Called with ``("probe (dense)", done, in all)``, and ``"probe (patch)"`` and ``"probe
        (warp)"`` if there are any.

    Raises
    ------
    RepairError
        There are no surrogates of other classes, or the network's answers are not finite.
    """
    others = [k for k in range(num_classes) if k != suspect]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(others), generator=generator)[:_MOST_RIVALS]
    rivals = [others[i] for i in drawn.tolist()]
    search = _Search(model, inputs, surrogates, suspect, rivals, seed, device, progress or silent)
    dense = search.dense(thorough=thorough)
    if not thorough or dense.lead >= _CLEAR_LEAD:
        return dense
    ways = [
        dense,
        search.patches(),
        search.warps(),
        search.waves(dense.probes[0].radius, num_classes),
    ]
    return max((way for way in ways if way is not None), key=lambda way: way.lead)


@dataclass(frozen=True)
class _Search:
    """What the searches of all kinds share."""

    model: nn.Module
    inputs: InputSpec
    surrogates: Surrogates
    suspect: int
    rivals: list[int]
    seed: int
    device: torch.device | str
    tell: Progress

    def dense(self, *, thorough: bool) -> Way:
        """Seek small dense perturbations; the largest, if none leads enough to the suspect."""
        find = self._finder(universal_perturbation, "radius")
        # Beyond the largest radius, perturbations lead to a class whether or not it was attacked.
        tried = self._tried(find, RADII, _WANTED_SUCCESS)
        if not thorough:
            return self._way("dense", find, *tried[-1], RADII[-1])
        way = self._clearest("dense", find, tried, RADII[-1])
        # Of the sizes that lead clearly to the suspect, the largest bears most of the trigger.
        for size in (size for size in RADII if size > tried[-1][0]):
            if way.lead < _CLEAR_LEAD:
                break
            found = [find(self.suspect, size, _STEPS_TO_JUDGE, self.seed)]
            larger = self._way("dense", find, size, found, RADII[-1])
            if larger.lead < _CLEAR_LEAD:
                break
            way = larger
        return way

    def patches(self) -> Way | None:
        """Seek the smallest patch, and others of its size; None if all are too small."""
        find = self._finder(patch_perturbation, "area")
        # What a search for a patch finds depends on where it begins, so two are made.
        return self._smallest("patch", find, AREAS, _WANTED_SUCCESS, n_tries=2)

    def warps(self) -> Way | None:
        """Seek the smallest warp, and others of its size; None if all are too small."""
        find = self._finder(warp_perturbation, "shift")
        return self._smallest("warp", find, SHIFTS, _WANTED_OF_WARPS, n_tries=1)

    def waves(self, radius: float, num_classes: int) -> Way | None:
        """Try plane waves of a little more than a dense perturbation's size; None if none leads.

        If none does, those of the largest size are tried: such a trigger may act only near its own.
        """
        largest = max(RADII[-1], radius)
        for size in dict.fromkeys((min(_WAVE_STRETCH * radius, largest), largest)):
            found = leading_waves(
                self.model,
                self.inputs,
                self.surrogates,
                self.suspect,
                num_classes,
                radius=size,
                wanted=_WANTED_SUCCESS,
                seed=self.seed,
                device=self.device,
            )
            if found.probes:
                lead = found.probes[0].success - found.rivals
                return Way("wave", found.probes, found.between, lead)
        return None

    def _finder(self, search: Callable[..., Probe], size_name: str) -> _Find:
        def find(target: int, size: float, steps: int, seed: int) -> Probe:
            return search(
                self.model,
                self.inputs,
                self.surrogates,
                target,
                **{size_name: size},
                steps=steps,
                seed=seed,
                device=self.device,
            )

        return find

    def _smallest(
        self, kind: Kind, find: _Find, sizes: Sequence[float], wanted: float, n_tries: int
    ) -> Way | None:
        """Find small ones; None if none leads enough surrogates to the suspect."""
        tried = self._tried(find, sizes, wanted, n_tries)
        if _success(tried[-1][1]) < wanted:
            return None
        return self._clearest(kind, find, tried, sizes[-1])

    def _tried(
        self, find: _Find, sizes: Sequence[float], wanted: float, n_tries: int = 1
    ) -> list[_Tried]:
        """Search with growing sizes, until one leads enough surrogates to the suspect."""
        tried: list[_Tried] = []
        for size in sizes:
            seeds = range(self.seed, self.seed + n_tries)
            tried.append((size, [find(self.suspect, size, _STEPS_TO_JUDGE, k) for k in seeds]))
            if _success(tried[-1][1]) >= wanted:
                break
        return tried

    def _clearest(self, kind: Kind, find: _Find, tried: Sequence[_Tried], most: float) -> Way:
        """Return the way of the last size, or of one below it by which the suspect is clearer.

        A little larger than need be, and others lead to other classes too.
        """
        best = self._way(kind, find, *tried[-1], most)
        for size, probes in reversed(tried[:-1]):
            if best.lead >= _CLEAR_LEAD or _success(probes) <= best.lead:
                break  # a lead is at most the success
            best = max(best, self._way(kind, find, size, probes, most), key=lambda way: way.lead)
        return best

    def _way(
        self,
        kind: Kind,
        find: _Find,
        size: float,
        tried: Sequence[Probe],
        most: float,
    ) -> Way:
        """Find more probes of a size, and hold the success of those tried against the rivals."""
        total = len(self.rivals) + _N_PROBES + len(_HELD_OUT_STRETCHES)
        plans = [(rival, size, _STEPS_TO_JUDGE, self.seed) for rival in self.rivals]
        plans += [(self.suspect, size, _STEPS_TO_ACT, self.seed + 1 + i) for i in range(_N_PROBES)]
        for i, stretch in enumerate(_HELD_OUT_STRETCHES, start=1 + _N_PROBES):
            held_out = min(stretch * size, most)
            plans.append((self.suspect, held_out, _STEPS_TO_JUDGE, self.seed + i))
        found = []
        for i, plan in enumerate(plans, start=1):
            found.append(find(*plan))
            self.tell(f"probe ({kind})", i, total)
        n = len(self.rivals)
        lead = _success(tried) - sum(probe.success for probe in found[:n]) / max(1, n)
        probes = sorted([*tried, *found[n : n + _N_PROBES]], key=lambda probe: probe.loss)
        return Way(kind, tuple(probes[:_N_PROBES]), tuple(found[n + _N_PROBES :]), lead)


def _success(probes: Sequence[Probe]) -> float:
    return max(probe.success for probe in probes)
