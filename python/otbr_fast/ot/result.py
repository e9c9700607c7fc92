"""What a solver returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Status = Literal["optimal", "converged", "iteration_limit"]


@dataclass(frozen=True)
class Certificate:
    """What plan and potentials prove, computed anew from the cost after the solver ended.

    Attributes
    ----------
    duality_gap : float
        Exact problems: no plan with the marginals of this one costs less than
        ``value - duality_gap``; from the identity <P - Q, M> = <P, r> - <Q, r> with the reduced
        costs r = M - u - v, in twice the precision of float64. Entropic problems: primal minus
        dual of the entropic objective.
    worst_reduced_cost : float or None
        Least of M - u - v; a plan is optimal if it is not negative and r = 0 where P > 0.
        None for entropic problems.
    marginal_error : float
        L1 distance of the plan's marginals from a and b.
    """

    duality_gap: float
    worst_reduced_cost: float | None
    marginal_error: float


@dataclass(frozen=True)
class OTResult:
    """Solution of an optimal transport problem.

    Attributes
    ----------
    value : float
        <P, M>, without the entropy, in units of cost times mass.
    potentials : (array, array)
        Dual potentials u of the rows and v of the columns, shapes (n,) and (m,); -inf where an
        entropic problem has no mass.
    status : {"optimal", "converged", "iteration_limit"}
        "optimal": proven to a relative 1e-9. "converged": entropic, stopThr reached.
        "iteration_limit": neither; the certificate says how much may be missing.
    n_iter : int
        Pivots, or passes over the matrix.
    certificate : Certificate
    reg : float or None
        The entropic regularisation, None for an exact problem.
    errors : array of float64 or None
        Entropic: L2 error of the column marginals, pass by pass at the final regularisation.
    """

    value: float
    potentials: tuple[Any, Any]
    status: Status
    n_iter: int
    certificate: Certificate
    reg: float | None
    errors: NDArray[np.float64] | None
    _sparse: Callable[[], csr_array] = field(repr=False)
    _dense: Callable[[], Any] = field(repr=False)

    @cached_property
    def plan(self) -> csr_array:
        """The plan, shape (n, m); an exact one has at most n + m - 1 entries."""
        return self._sparse()

    def dense_plan(self) -> Any:
        """Return the plan as an array or tensor, shape (n, m)."""
        return self._dense()
