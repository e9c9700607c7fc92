"""The problem families: what a solver's time depends on besides the size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otbr_fast.bench.problem import Array, Problem

DIMENSION = 256
"""Of the gaussian rows: about that of a convolution's neurons."""

_STACK = 100  # different small problems, solved in turn

Make = Callable[[int, int, int, str], Problem]
"""From (n, m, seed, dtype)."""


@dataclass(frozen=True)
class Family:
    """Problems of one kind.

    Parameters
    ----------
    name : str
        As it is chosen on the command line.
    about : str
        What it is, in a line.
    make : callable
        Makes the problem of (n, m, seed, dtype); the same one every time.
    shape : callable
        The problem's (n, m) for a size that is asked for.
    small : bool
        Measured as a call rate, at the sizes up to 64 of those asked for, or at `SMALL_SIZES`.
    """

    name: str
    about: str
    make: Make
    shape: Callable[[int], tuple[int, int]] = lambda size: (size, size)
    small: bool = False

    def shapes(self, sizes: Iterable[int]) -> list[tuple[int, int]]:
        """Return the shapes of its problems for the sizes asked for, small ones first."""
        if self.small:
            sizes = [size for size in sizes if size <= max(SMALL_SIZES)] or SMALL_SIZES
        return list(dict.fromkeys(self.shape(size) for size in sorted(sizes)))


SMALL_SIZES = (16, 32, 64)
"""Of small problems, where none are asked for."""


def _pruned(n: int, m: int, seed: int, dtype: str) -> Problem:
    rng = _rng(n, m, seed)
    Y = rng.standard_normal((m, DIMENSION))
    X = Y[np.arange(n) % m]
    X[rng.choice(n, n // 10, replace=False)] = 0
    return _between(X, Y, dtype, b=_lognormal(rng, m))


def _independent(n: int, m: int, seed: int, dtype: str) -> Problem:
    rng = _rng(n, m, seed)
    X, Y = rng.standard_normal((n, DIMENSION)), rng.standard_normal((m, DIMENSION))
    return _between(X, Y, dtype, b=_lognormal(rng, m))


def _assignment(n: int, m: int, seed: int, dtype: str) -> Problem:
    rng = _rng(n, m, seed)
    return _between(rng.standard_normal((n, DIMENSION)), rng.standard_normal((m, DIMENSION)), dtype)


def _plane(n: int, m: int, seed: int, dtype: str) -> Problem:
    rng = _rng(n, m, seed)
    return _between(rng.random((n, 2)), rng.random((m, 2)), dtype)


def _random(n: int, m: int, seed: int, dtype: str) -> Problem:
    rng = _rng(n, m, seed)
    M = rng.random((n, m)).astype(dtype)
    return Problem(_lognormal(rng, n), _lognormal(rng, m), M=M)


def _ties(n: int, m: int, seed: int, dtype: str) -> Problem:
    rng = _rng(n, m, seed)
    M = rng.integers(0, 10, (n, m)).astype(dtype)
    a = rng.integers(1, 10, n).astype(np.float64)
    b = rng.permutation(np.resize(a, m))
    return Problem(a / a.sum(), b / b.sum(), M=M)


def _images(n: int, m: int, seed: int, dtype: str) -> Problem:
    rng = _rng(n, m, seed)
    (x, y) = (_grid(k) for k in (n, m))
    return _between(x, y, dtype, a=_density(rng, n), b=_density(rng, m), metric="sqeuclidean")


def _small(n: int, m: int, seed: int, dtype: str) -> Problem:
    rng = _rng(n, m, seed)
    M = rng.random((_STACK, n, m)).astype(dtype)
    a = np.stack([_lognormal(rng, n) for _ in range(_STACK)])
    b = np.stack([_lognormal(rng, m) for _ in range(_STACK)])
    return Problem(a, b, M=M)


def _between(
    X: Array,
    Y: Array,
    dtype: str,
    *,
    a: Array | None = None,
    b: Array | None = None,
    metric: str = "euclidean",
) -> Problem:
    a = np.full(len(X), 1 / len(X)) if a is None else a
    b = np.full(len(Y), 1 / len(Y)) if b is None else b
    return Problem(a, b, X.astype(dtype), Y.astype(dtype), metric)


def _rng(n: int, m: int, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, n, m))


def _lognormal(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    masses = rng.lognormal(size=n)
    return np.asarray(masses / masses.sum())


def _grid(n: int) -> NDArray[np.float64]:
    """Return the centres of the pixels of a square image of n pixels, in the unit square."""
    k = math.isqrt(n)
    centres = (np.arange(k) + 0.5) / k
    return np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(n, 2)


def _density(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Draw a smooth positive image of n pixels, as DOTmark's random fields are."""
    from scipy.ndimage import gaussian_filter

    k = math.isqrt(n)
    field = gaussian_filter(rng.standard_normal((k, k)), sigma=max(k / 16, 1), mode="wrap")
    field -= field.mean()
    image = np.exp(field / max(field.std(), 1e-12)).ravel()
    return np.asarray(image / image.sum())


def _square_number(size: int) -> tuple[int, int]:
    n = max(round(math.sqrt(size)), 2) ** 2
    return n, n


_ALL = (
    Family("I", f"independent gaussian rows, d = {DIMENSION}; lognormal b", _independent),
    Family("P", "pruned against backdoored rows: equal, a tenth of them 0; lognormal b", _pruned),
    Family("L", "points in the unit square, Euclidean; uniform masses", _plane),
    Family("assignment", "as I, with uniform masses", _assignment),
    Family("random", "uniform random costs, lognormal masses", _random),
    Family("ties", "costs are integers 0 to 9, masses small integers", _ties),
    Family(
        "rectangular",
        "as I, with 1500 rows to 4096 columns",
        _independent,
        lambda size: (max(round(size * 1500 / 4096), 1), size),
    ),
    Family("images", "smooth random images, squared Euclidean", _images, _square_number),
    Family("small", "many small problems: uniform random costs", _small, small=True),
)

FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}
"""All families but ``layers``, whose problems come from a checkpoint (`otbr_fast.bench.layers`)."""
