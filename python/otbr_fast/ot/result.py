"""What a solver returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from otbr_fast.ot.arrays import as_tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Status = Literal["optimal", "converged", "iteration_limit", "time_limit", "not_proven"]


# Potentials of the columns to start from, rows and columns of the cells the simplex ran on, rows
# and columns of the basis it found.
Hint = tuple[
    NDArray[np.float64],
    NDArray[np.uint32],
    NDArray[np.uint32],
    NDArray[np.uint32],
    NDArray[np.uint32],
]


@dataclass(frozen=True, eq=False)
class Entries:
    """The positive entries of a plan, row by row."""

    rows: NDArray[np.uint32]
    cols: NDArray[np.uint32]
    masses: NDArray[np.float64]
    shape: tuple[int, int]

    def sparse(self) -> csr_array:
        """Return them as a scipy.sparse array."""
        from scipy.sparse import csr_array

        places = (self.rows.astype(np.int32), self.cols.astype(np.int32))
        return csr_array((self.masses, places), shape=self.shape)

    def dense(self) -> NDArray[np.float64]:
        """Return them in a matrix of zeros."""
        return dense_matrix(self.rows, self.cols, self.masses, self.shape)


def dense_matrix(
    rows: NDArray[np.uint32],
    cols: NDArray[np.uint32],
    masses: NDArray[np.float64],
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Put entries, no two in the same place, into a matrix of zeros."""
    matrix = np.zeros(shape)
    matrix[rows, cols] = masses
    return matrix


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
        L1 distance of the plan's marginals from a, and from b scaled to the sum of a.
    """

    duality_gap: float
    worst_reduced_cost: float | None
    marginal_error: float


@dataclass(frozen=True, eq=False)
class OTResult:
    """Solution of an optimal transport problem.

    Attributes
    ----------
    value : float, or tensor without dimensions
        <P, M>, without the entropy, in units of cost times mass. A tensor with gradients, in
        the dtype of M, if M, a or b requires one.
    objective : float, or tensor without dimensions
        What was minimised: `value`, or for entropic problems <P, M> + reg sum P (log P - 1), found
        from the potentials as <a, u> + <b, v> - reg sum P, which is never above the optimum by more
        than rounding. A tensor as `value` is.
    potentials : (array, array)
        Dual potentials u of the rows and v of the columns, shapes (n,) and (m,); -inf where an
        entropic problem has no mass.
    status : {"optimal", "converged", "iteration_limit", "time_limit", "not_proven"}
        "optimal": proven to a relative 1e-9. "converged": entropic, stopThr reached.
        "iteration_limit", "time_limit": neither; the certificate says how much may be missing.
        "not_proven": exact, and the certificate proves less than it should.
    n_iter : int
        Pivots, or passes over the matrix.
    certificate : Certificate
    reg : float or None
        The entropic regularisation, None for an exact problem.
    errors : array of float64 or None
        Entropic: L2 error of the column marginals, pass by pass at the final regularisation.
    """

    value: Any  # float | Tensor
    objective: Any  # float | Tensor
    potentials: tuple[Any, Any]
    status: Status
    n_iter: int
    certificate: Certificate
    reg: float | None
    errors: NDArray[np.float64] | None
    _plan: Entries | NDArray[Any] = field(repr=False)
    _tensors: bool = field(repr=False)
    # Exact: what a warm start takes.
    _hint: Hint | None = field(default=None, repr=False)

    @classmethod
    def _made(cls, **fields: Any) -> OTResult:
        """Make one from its fields.

        In less than half the time that the generated ``__init__`` of a frozen dataclass takes,
        which counts where problems are small.
        """
        result = object.__new__(cls)
        result.__dict__.update(fields)
        return result

    @cached_property
    def plan(self) -> csr_array:
        """The plan, shape (n, m); an exact one has at most n + m - 1 entries."""
        if isinstance(self._plan, Entries):
            return self._plan.sparse()
        from scipy.sparse import csr_array

        return csr_array(self._plan)

    def dense_plan(self) -> Any:
        """Return the plan as an array or tensor, shape (n, m).

        An exact plan is in float64, an entropic one in the dtype of M. The latter is the one that
        the result holds: copy it before you change it.
        """
        plan = self._plan.dense() if isinstance(self._plan, Entries) else self._plan
        return as_tensor(plan) if self._tensors else plan
