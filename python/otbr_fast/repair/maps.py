"""Sparse maps of neurons, applied to weights without a dense matrix or a copy in float64."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otbr_fast import _core

Floats = NDArray[Any]  # float32 or float64


def _none() -> NDArray[np.int32]:
    return np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class NeuronMap:
    """What each of some neurons takes of n others, and of the mean of pooled ones among them.

    Parameters
    ----------
    starts : ndarray of int32, shape (n_out + 1,)
        Neuron k takes entries ``starts[k]`` to ``starts[k + 1]``, as in a CSR matrix.
    sources : ndarray of int32, shape (entries,)
        From which neuron; n for the mean of the pooled ones.
    shares : ndarray, shape (entries,)
        How much.
    pooled : ndarray of int32
        The pooled neurons; none by default.
    """

    starts: NDArray[np.int32]
    sources: NDArray[np.int32]
    shares: NDArray[np.float64]
    pooled: NDArray[np.int32] = field(default_factory=_none)

    @property
    def n_out(self) -> int:
        """How many neurons take something."""
        return self.starts.size - 1

    def scaled(self, factor: float | NDArray[np.float64]) -> NeuronMap:
        """Return the map that takes so many times as much, each neuron its own or all the same."""
        each = np.broadcast_to(factor, self.n_out)
        return replace(self, shares=self.shares * np.repeat(each, np.diff(self.starts)))

    def without(self, source: int) -> NeuronMap:
        """Return the map that takes nothing of one source. Nothing is pooled in it."""
        stays = self.sources != source
        starts = np.concatenate([[0], np.cumsum(stays)])[self.starts].astype(np.int32)
        return NeuronMap(starts, self.sources[stays], self.shares[stays])

    def part(self, start: int, stop: int) -> NeuronMap:
        """Return what neurons ``start`` to ``stop`` take."""
        entries = slice(self.starts[start], self.starts[stop])
        return NeuronMap(
            self.starts[start : stop + 1] - self.starts[start],
            self.sources[entries],
            self.shares[entries],
            self.pooled,
        )

    def apply(
        self,
        values: Floats,
        out: Floats,
        *,
        keep: float = 0.0,
        base: Floats | None = None,
        n_threads: int | None = None,
    ) -> None:
        """Set ``out`` to what the map takes of ``values``, plus ``keep`` times ``base``.

        Sums are in float64 and rounded once. The result does not depend on ``n_threads``.

        Parameters
        ----------
        values : ndarray of float32 or float64, shape (p, n, q)
            Values of n neurons along the middle axis. All arrays are C-contiguous, of one type.
        out : ndarray, shape (p, n_out, q)
            Not the memory of ``values`` or ``base``.
        base : ndarray, shape (p, n_out, q), optional
            0 by default.
        """
        map_ = (self.starts, self.sources, self.shares, self.pooled)
        _core.mix(*map_, values, keep, base, n_threads, out)
