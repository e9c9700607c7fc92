"""Transport problems to try solvers on, ordinary and degenerate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

SIZES = st.one_of(
    st.sampled_from([(1, 1), (1, 7), (7, 1), (2, 2), (13, 13), (17, 19), (31, 8), (37, 41)]),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
COSTS = (
    "uniform",
    "gaussian rows",
    "integer ties",
    "constant",
    "equal rows",
    "zero",
    "negative",
    "huge",
    "tiny",
    "offset",
    "one row far",
    "float32",
    "shared points",
)
MASSES = (
    "uniform",
    "random",
    "zeros",
    "one point",
    "very small",
    "lognormal",
    "float32",
    "integers",
)


@dataclass(frozen=True)
class Transport:
    """A cost and two marginals of equal sum."""

    M: NDArray[Any]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    label: str


def make_cost(family: str, n: int, m: int, rng: np.random.Generator) -> NDArray[Any]:
    M: NDArray[Any] = rng.random((n, m))
    if family == "gaussian rows":
        X, Y = rng.standard_normal((n, 5)), rng.standard_normal((m, 5))
        M = np.linalg.norm(X[:, None] - Y[None], axis=2)
    elif family == "integer ties":
        M = rng.integers(0, 3, (n, m)).astype(float)
    elif family == "constant":
        M = np.full((n, m), 0.7)
    elif family == "equal rows":
        M = M[rng.integers(0, max(1, n // 3), n)]
    elif family == "zero":
        M = np.zeros((n, m))
    elif family == "negative":
        M = M - 0.5
    elif family == "huge":
        M = M * 1e100
    elif family == "tiny":
        M = M * 1e-100
    elif family == "offset":
        M = M + 1e6
    elif family == "one row far":
        M[0] += 1e9
    elif family == "float32":
        M = M.astype(np.float32)
    elif family == "shared points":
        points = rng.standard_normal((rng.integers(1, n + m + 1), 3))
        X, Y = (points[rng.integers(0, len(points), k)] for k in (n, m))
        M = np.linalg.norm(X[:, None] - Y[None], axis=2)
    return M


def make_masses(family: str, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    x = rng.random(k) + 1e-3
    if family == "uniform":
        x = np.ones(k)
    elif family == "zeros":
        x = x * (rng.random(k) < 0.6)
    elif family == "one point":
        x = np.zeros(k)
    elif family == "very small":
        x[rng.random(k) < 0.5] *= 1e-12
    elif family == "lognormal":
        x = rng.lognormal(sigma=3.0, size=k)
    elif family == "float32":
        x = (x / x.sum()).astype(np.float32).astype(np.float64)
    elif family == "integers":
        x = rng.integers(0, 5, k).astype(float)
    if x.sum() == 0:
        x[rng.integers(k)] = 1.0
    return x / x.sum() if family != "float32" else x


@st.composite
def transports(
    draw: st.DrawFn, costs: Sequence[str] = COSTS, masses: Sequence[str] = MASSES
) -> Transport:
    n, m = draw(SIZES)
    cost, left, right = (draw(st.sampled_from(f)) for f in (costs, masses, masses))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    M, a, b = make_cost(cost, n, m, rng), make_masses(left, n, rng), make_masses(right, m, rng)
    return Transport(M, a, b, f"{n}x{m}, cost {cost}, masses {left} and {right}, seed {seed}")
