"""Perturbations of one kind and of growing sizes, such as dense ones, patches and warps."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence

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
        self._found: dict[tuple[int, float, int], Probe] = {}
        for done, size in enumerate(sizes, start=1):
            self._last = size
            self._success(size)
            self._tell(done, len(sizes))
            if self.leads_enough:
                break

    @property
    def leads_enough(self) -> bool:
        """Whether any leads enough surrogates to the suspect."""
        return self._success(self._last) >= self._wanted

    def standing(self) -> float:
        """Measure by how much the suspect stands out, by the smallest size that leads a third."""
        for size in self._tried():
            if self._success(size) >= _TELLING_SUCCESS:
                return spreads_above(self._success(size), list(self._rivals(size)))
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
        return self._way(max(itertools.takewhile(self._leads_clearly, larger), default=clearest))

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

    def _leads_clearly(self, size: float) -> bool:
        """Whether the lead is clear; no more classes are tried once it cannot be."""
        may_be_led = (self._success(size) - _CLEAR_LEAD) * len(self._sought.rivals)
        return all(led <= may_be_led for led in itertools.accumulate(self._rivals(size)))

    def _success(self, size: float) -> float:
        """Return what the best search of a size reaches with the suspect."""
        return max(probe.success for probe in self._of_suspect(size))

    def _rivals(self, size: float) -> Iterator[float]:
        """Yield what searches of a size reach with the other classes."""
        rivals = self._sought.rivals
        for done, rival in enumerate(rivals, start=1):
            success = self._compared(rival, size, self._sought.seed).success
            self._tell(done, len(rivals))
            yield success

    def _of_suspect(self, size: float) -> list[Probe]:
        seeds = range(self._sought.seed, self._sought.seed + self._n_tries)
        return [self._compared(self._sought.suspect, size, seed) for seed in seeds]

    def _compared(self, target: int, size: float, seed: int) -> Probe:
        """Search one to compare sizes, classes and kinds by, unless it was found before."""
        plan = target, size, seed
        if plan not in self._found:
            self._found[plan] = self._find(*plan, _STEPS_TO_JUDGE)
        return self._found[plan]

    def _way(self, size: float) -> Way:
        """Find more probes of a size, to act on and to judge by."""
        suspect, seed = self._sought.suspect, self._sought.seed + 1
        plans = [(suspect, size, seed + i, _STEPS_TO_ACT) for i in range(_N_PROBES)]
        for i, stretch in enumerate(_HELD_OUT_STRETCHES, start=_N_PROBES):
            held_out = min(stretch * size, self._sizes[-1])
            plans.append((suspect, held_out, seed + i, _STEPS_TO_JUDGE))
        found = []
        for done, plan in enumerate(plans, start=1):
            found.append(self._find(*plan))
            self._tell(done, len(plans))
        acted_on = [*self._of_suspect(size), *found[:_N_PROBES]]
        return Way(
            kind=self._name,
            probes=tuple(sorted(acted_on, key=lambda probe: probe.loss)[:_N_PROBES]),
            held_out=tuple(found[_N_PROBES:]),
            lead=self._lead(size),
        )

    def _find(self, target: int, size: float, seed: int, steps: int) -> Probe:
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

    def _tell(self, done: int, total: int) -> None:
        self._sought.tell(f"probe ({self._name})", done, total)
