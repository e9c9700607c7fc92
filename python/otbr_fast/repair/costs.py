"""What it costs to move a neuron's mass: distances between rows of weights, for every γ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otbr_fast import ot
from otbr_fast.repair.maps import Floats

Places = NDArray[np.intp]

MOST_KEPT = 1 << 31
"""Bytes of distances between all neurons that are kept for every γ. Where there would be more,
those that a γ needs, at most a quarter, are found for it."""


class NeuronCosts(ABC):
    """Distances between neurons, and between them and the point 0, where pruned ones are."""

    @abstractmethod
    def moving(self, sources: Places, targets: Places, *, from_zero: bool) -> Floats:
        """Return the distances from some neurons, and last from 0 if asked for, to others."""

    @abstractmethod
    def take(self, neurons: Places) -> NeuronCosts:
        """Return the costs among some of the neurons, by their indices."""


@dataclass(frozen=True)
class _Kept(NeuronCosts):
    """All distances between neurons, shape (n, n), and those to 0, shape (n,)."""

    between: Floats
    to_zero: Floats

    def moving(self, sources: Places, targets: Places, *, from_zero: bool) -> Floats:
        found = np.empty((sources.size + from_zero, targets.size), self.between.dtype)
        np.take(self.between[sources], targets, axis=1, out=found[: sources.size])
        found[sources.size :] = self.to_zero[targets]
        return found

    def take(self, neurons: Places) -> NeuronCosts:
        return _Kept(self.between[np.ix_(neurons, neurons)], self.to_zero[neurons])


@dataclass(frozen=True)
class _Found(NeuronCosts):
    """Distances that are found when they are asked for."""

    matrices: tuple[Floats, ...]
    n_threads: int | None

    def moving(self, sources: Places, targets: Places, *, from_zero: bool) -> Floats:
        total: Floats | None = None
        for weights in self.matrices:
            points = np.zeros((sources.size + from_zero, weights.shape[1]), weights.dtype)
            np.take(weights, sources, axis=0, out=points[: sources.size])
            part = ot.cost_matrix(points, weights[targets], n_threads=self.n_threads)
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None  # there is a weight
        return total

    def take(self, neurons: Places) -> NeuronCosts:
        return _Found(tuple(weights[neurons] for weights in self.matrices), self.n_threads)


def neuron_costs(matrices: Sequence[Floats], *, n_threads: int | None = None) -> NeuronCosts:
    """Sum the Euclidean distances between neurons over the weights that make them.

    A sum of metrics is a metric, so what `transport_neurons` relies on holds for any number.

    Parameters
    ----------
    matrices : sequence of ndarray of float32 or float64, shapes (n, d_w)
        At least one weight, each with one row for each of the same n neurons. Distances are of
        the first one's type. Not copied where the distances are too many to be kept.
    n_threads : int, optional
        Threads of the distances.

    Raises
    ------
    ValueError
        A weight is not finite, or so large or small that its distances leave its type.
    """
    if len(matrices[0]) ** 2 * matrices[0].itemsize > MOST_KEPT:
        return _Found(tuple(matrices), n_threads)
    total: _Kept | None = None
    for weights in matrices:
        part = _Kept(
            ot.cost_matrix(weights, n_threads=n_threads),
            ot.cost_matrix(np.zeros_like(weights[:1]), weights, n_threads=n_threads)[0],
        )
        if total is None:
            total = part
        else:
            total.between[...] += part.between
            total.to_zero[...] += part.to_zero
    assert total is not None  # there is a weight
    return total
