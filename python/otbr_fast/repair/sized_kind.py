"""Perturbations of one kind and of growing sizes, such as dense ones, patches and warps."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence

from otbr_fast.repair.kinds import WANTED_SUCCESS, KindName, Sought, Way, spreads_above
from otbr_fast.repair.probe import Probe

_CLEAR_LEAD = 0.8  # beyond it no smaller size, and with dense probes no other kind, is tried
_TELLING_SUCCESS = 1 / 3  # of the size by which kinds are compared: larger ones lead anywhere
_STEPS_TO_ACT, _STEPS_TO_JUDGE = 40, 20  # of searches for what is acted on, and judged by
_N_PROBES = 2
_HELD_OUT_STRETCHES = (1.0, 1.5)


class SizedKind:
    """A kind of several sizes, which grow until one leads enough surrogates to the suspect.

    Parameters
    ----------
    name : str
        As in `Way`.
    sought : Sought
        What it is to lead to.
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
        sought: Sought,
        search: Callable[..., Probe],
        size_name: str,
        sizes: Sequence[float],
        *,
        wanted: float = WANTED_SUCCESS,
        n_tries: int = 1,
    ) -> None:
        self._name, self._sought, self._search, self._size_name = name, sought, search, size_name
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
            suspect, first = self._sought.suspect, self._sought.seed
            seeds = range(first, first + self._n_tries)
            plans = [(suspect, size, _STEPS_TO_JUDGE, seed) for seed in seeds]
            self._found[size] = self._find_all(plans)
        return max(probe.success for probe in self._found[size])

    def _rivals(self, size: float) -> list[float]:
        """Return what searches of a size reach with the other classes."""
        if size not in self._of_rivals:
            rivals, seed = self._sought.rivals, self._sought.seed
            plans = [(rival, size, _STEPS_TO_JUDGE, seed) for rival in rivals]
            self._of_rivals[size] = [probe.success for probe in self._find_all(plans)]
        return self._of_rivals[size]

    def _way(self, size: float) -> Way:
        """Find more probes of a size, to act on and to judge by."""
        suspect, seed = self._sought.suspect, self._sought.seed
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
            self._sought.tell(f"probe ({self._name})", done, len(plans))
        return found

    def _find(self, target: int, size: float, steps: int, seed: int) -> Probe:
        return self._search(
            self._sought.model,
            self._sought.inputs,
            self._sought.surrogates,
            target,
            **{self._size_name: size},
            steps=steps,
            seed=seed,
            device=self._sought.device,
        )
