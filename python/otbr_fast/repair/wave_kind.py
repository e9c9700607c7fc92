"""Plane waves, the kind of perturbation that needs no search."""

from __future__ import annotations

import statistics

from otbr_fast.repair.kinds import WANTED_SUCCESS, Sought, Way, spreads_above
from otbr_fast.repair.probe import RADII
from otbr_fast.repair.waves import leading_waves

_WAVE_STRETCH = 1.5  # a wave of a dense probe's size may lead to the class, but not all images


class WaveKind:
    """Plane waves, which need no search; those of a size that leads to the suspect, if one does.

    Parameters
    ----------
    sought : Sought
        What they are to lead to.
    radius : float
        Of a dense perturbation that leads to the suspect: waves a little larger are tried, and if
        none of them leads, those of the largest size, as such a trigger may act only near its own.
    num_classes : int
        The number of logits.
    """

    def __init__(self, sought: Sought, radius: float, num_classes: int) -> None:
        for size in dict.fromkeys((min(_WAVE_STRETCH * radius, RADII[-1]), RADII[-1])):
            self._found = leading_waves(
                sought.model,
                sought.inputs,
                sought.surrogates,
                sought.suspect,
                num_classes,
                radius=size,
                wanted=WANTED_SUCCESS,
                seed=sought.seed,
                device=sought.device,
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
