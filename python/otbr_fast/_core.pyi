from collections.abc import Callable
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EntropicSolution",
    "ExactSolution",
    "__version__",
    "build_profile",
    "cost_matrix",
    "default_threads",
    "entropic_plan",
    "mix",
    "round_plan",
    "simd_path",
    "solve_entropic",
    "solve_exact",
    "solve_partial",
    "solve_points",
    "solve_unbalanced",
]

__version__: str

build_profile: str

_Start = tuple[
    NDArray[np.float64],
    NDArray[np.uint32],
    NDArray[np.uint32],
    NDArray[np.uint32],
    NDArray[np.uint32],
]

@final
class ExactSolution:
    @property
    def rows(self) -> NDArray[np.uint32]: ...
    @property
    def cols(self) -> NDArray[np.uint32]: ...
    @property
    def masses(self) -> NDArray[np.float64]: ...
    @property
    def u(self) -> NDArray[np.float64]: ...
    @property
    def v(self) -> NDArray[np.float64]: ...
    @property
    def value(self) -> float: ...
    @property
    def duality_gap(self) -> float: ...
    @property
    def worst_reduced_cost(self) -> float: ...
    @property
    def marginal_error(self) -> float: ...
    @property
    def status(self) -> Literal["optimal", "iteration_limit", "time_limit", "not_proven"]: ...
    @property
    def n_iter(self) -> int: ...
    @property
    def has_hint(self) -> bool: ...
    @property
    def hint_v(self) -> NDArray[np.float64]: ...
    @property
    def core_rows(self) -> NDArray[np.uint32]: ...
    @property
    def core_cols(self) -> NDArray[np.uint32]: ...
    @property
    def basis_rows(self) -> NDArray[np.uint32]: ...
    @property
    def basis_cols(self) -> NDArray[np.uint32]: ...

@final
class EntropicSolution:
    @property
    def f(self) -> NDArray[np.float64]: ...
    @property
    def g(self) -> NDArray[np.float64]: ...
    @property
    def errors(self) -> NDArray[np.float64]: ...
    @property
    def value(self) -> float: ...
    @property
    def duality_gap(self) -> float: ...
    @property
    def marginal_error(self) -> float: ...
    @property
    def converged(self) -> bool: ...
    @property
    def n_iter(self) -> int: ...

def simd_path() -> str: ...
def default_threads() -> int: ...
def cost_matrix(
    X: NDArray[Any], Y: NDArray[Any] | None, metric: str, n_threads: int | None, out: NDArray[Any]
) -> None: ...
def mix(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    data: NDArray[np.float64],
    pooled: NDArray[np.int32],
    x: NDArray[Any],
    keep: float,
    base: NDArray[Any] | None,
    n_threads: int | None,
    out: NDArray[Any],
) -> None: ...
def solve_exact(
    M: NDArray[Any],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    max_iter: int,
    n_threads: int | None,
    *,
    time_limit: float | None = None,
    metric: bool = False,
    start: _Start | None = None,
    callback: Callable[[int], object] | None = None,
    search: Literal["core", "whole"] | None = None,
) -> ExactSolution: ...
def solve_points(
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    metric: str,
    max_iter: int,
    n_threads: int | None,
    *,
    time_limit: float | None = None,
    start: _Start | None = None,
    callback: Callable[[int], object] | None = None,
) -> ExactSolution: ...
def solve_entropic(
    M: NDArray[Any],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    reg: float,
    max_iter: int,
    stop_threshold: float,
    start: NDArray[np.float64] | None,
    n_threads: int | None,
    plan: NDArray[Any],
) -> EntropicSolution: ...
def entropic_plan(
    M: NDArray[Any],
    f: NDArray[np.float64],
    g: NDArray[np.float64],
    reg: float,
    n_threads: int | None,
    out: NDArray[Any],
) -> None: ...
def solve_unbalanced(
    M: NDArray[Any],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    reg: float,
    reg_m: tuple[float, float],
    reg_type: str,
    max_iter: int,
    stop_threshold: float,
    n_threads: int | None,
) -> EntropicSolution: ...
def solve_partial(
    M: NDArray[Any],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    reg: float,
    m: float,
    max_iter: int,
    stop_threshold: float,
    n_threads: int | None,
) -> EntropicSolution: ...
def round_plan(
    G: NDArray[Any],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    n_threads: int | None,
    out: NDArray[np.float64],
) -> None: ...
