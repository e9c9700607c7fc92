"""A transport problem as a file, so that every contestant gets the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Problem:
    """One problem, or a stack of problems of one shape that are solved one after the other.

    Parameters
    ----------
    a, b : ndarray, shapes (n,) and (m,), or (k, n) and (k, m)
        Masses in float64; each sums to 1.
    X, Y : ndarray, shapes (n, d) and (m, d), optional
        The points that the cost is made of.
    metric : str, optional
        How: a metric of `otbr_fast.ot.cost_matrix`.
    M : ndarray, shape (n, m) or (k, n, m), optional
        The cost.
    """

    a: Array
    b: Array
    X: Array | None = None
    Y: Array | None = None
    metric: str | None = None
    M: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of sources and of targets."""
        return self.a.shape[-1], self.b.shape[-1]

    @property
    def is_uniform_square(self) -> bool:
        """Whether this is an assignment problem: equal masses, as many sources as targets."""
        masses = np.concatenate([self.a, self.b], axis=-1)
        return self.a.shape == self.b.shape and bool(np.ptp(masses) == 0)

    @property
    def shares_points(self) -> bool:
        """Whether some point is among the sources and among the targets."""
        if self.X is None or self.Y is None:
            return False
        return not {x.tobytes() for x in self.X}.isdisjoint(y.tobytes() for y in self.Y)

    def with_cost(self) -> Problem:
        """Return the problem with its cost matrix, in the points' dtype."""
        if self.M is not None:
            return self
        from otbr_fast import ot

        return replace(self, M=ot.cost_matrix(self.X, self.Y, metric=self.metric))  # type: ignore[arg-type]

    def cost(self) -> Array:
        """Return M, which must be there."""
        if self.M is None:
            raise ValueError("the problem has no cost matrix; use with_cost()")
        return self.M

    def points(self) -> tuple[Array, Array]:
        """Return X and Y, which must be there."""
        if self.X is None or self.Y is None:
            raise ValueError("the problem has no points, only a cost matrix")
        return self.X, self.Y

    def parts(self) -> Iterator[Problem]:
        """Yield the problems of a stack one by one, each in memory of its own."""
        if self.a.ndim == 1:
            yield self
            return
        for a, b, M in zip(self.a, self.b, self.cost(), strict=True):
            yield Problem(a.copy(), b.copy(), M=M.copy())

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz file."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: np.asarray(value) for name, value in values.items() if value is not None}
        np.savez(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Problem:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            values: dict[str, Any] = dict(file)
        if "metric" in values:
            values["metric"] = str(values["metric"])
        return cls(**values)
