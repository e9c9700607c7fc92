"""Plane waves, the kind of perturbation that needs no search."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from otbr_fast.repair.kinds import WANTED_SUCCESS, Sought, Way, spreads_above
from otbr_fast.repair.waves import TriedWaves, leading_waves, try_waves

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
    largest : TriedWaves
        Those of the largest size.
    """

    def __init__(self, sought: Sought, radius: float, largest: TriedWaves) -> None:
        for tried in _by_size(sought, _WAVE_STRETCH * radius, largest):
            self._found = leading_waves(
                sought.model,
                sought.inputs,
                sought.surrogates,
                sought.suspect,
                tried,
                wanted=WANTED_SUCCESS,
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


def _by_size(sought: Sought, radius: float, largest: TriedWaves) -> Iterator[TriedWaves]:
    """Try those of a radius, if it is smaller, before the largest."""
    if radius < largest.radius:
        yield try_waves(
            sought.model,
            sought.inputs,
            sought.surrogates,
            num_classes=largest.losses.shape[1],
            radius=radius,
            seed=sought.seed,
            device=sought.device,
            progress=sought.tell,
        )
    yield largest
