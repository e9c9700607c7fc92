"""Costs that are given for some pairs only, the edges; the others carry no mass.

They are solved as dense ones in which a missing edge costs so much that an optimal plan uses it
only where the edges cannot carry the masses at all.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otbr_fast import _core
from otbr_fast.ot.arrays import (
    Matrix,
    any_tensor,
    as_given,
    constant,
    is_sparse,
    is_tensor,
    to_numpy,
)

# Part of the mass that rounding of a and b may leave to missing edges; it is dropped.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Edges:
    """Edges in the order of their keys, row * m + column."""

    keys: NDArray[np.int64]
    costs: NDArray[np.float64]
    shape: tuple[int, int]

    def dense(self) -> Matrix:
        """Make the matrix of costs, shape (n, m), float64."""
        if not self.costs.size:
            raise ValueError("M is a sparse matrix without a single edge")
        priced = self.costs[self.costs != np.inf]  # an edge of infinite cost carries nothing either
        least, most = priced.min(initial=0.0), priced.max(initial=0.0)
        # Going round a cycle, at most every second of n + m edges pays or earns the spread.
        spread = max(most - least, abs(most), abs(least)) or 1.0
        matrix = np.full(self.shape, most + sum(self.shape) * spread)
        matrix.ravel()[self.keys] = self.costs
        return matrix

    def flows(self, solution: _core.ExactSolution) -> NDArray[np.float64]:
        """Return the mass on each edge.

        Raises
        ------
        ValueError
            The edges cannot carry the masses, or a limit came before they did.
        """
        keys = solution.rows.astype(np.int64) * self.shape[1] + solution.cols
        places = np.searchsorted(self.keys, keys)
        places[places == len(self.keys)] = 0
        found = self.keys[places] == keys
        lost = solution.masses[~found].sum()
        if lost > _ROUNDING * solution.masses.sum():
            cut_short = solution.status == "iteration_limit"
            remedy = "increase numItermax" if cut_short else "give more edges"
            raise ValueError(
                f"the edges of the sparse M leave {lost} of the mass without a way; {remedy}"
            )
        flows = np.zeros(len(self.keys))
        flows[places[found]] = solution.masses[found]
        return flows

    def value(self, solution: _core.ExactSolution) -> float:
        """Return the cost of a plan."""
        flows = self.flows(solution)
        used = flows > 0
        return float(flows[used] @ self.costs[used])

    def plan(self, solution: _core.ExactSolution, *sources: Any) -> Any:
        """Return the plan, a sparse tensor if any source is a tensor, else a scipy coo_array."""
        flows = self.flows(solution)
        used = flows > 0
        values = as_given(flows[used], *sources)
        places = np.stack(np.divmod(self.keys[used], self.shape[1]))
        if any_tensor(sources):
            return self._tensor(places, values)
        from scipy.sparse import coo_array

        return coo_array((values, tuple(places)), shape=self.shape)

    def gradient(self, solution: _core.ExactSolution) -> Any:
        """Return the plan as a sparse tensor with every edge."""
        places = np.stack(np.divmod(self.keys, self.shape[1]))
        torch = sys.modules["torch"]
        return self._tensor(places, torch.from_numpy(self.flows(solution)))

    def _tensor(self, places: NDArray[np.int64], values: Any) -> Any:
        torch = sys.modules["torch"]
        indices = torch.from_numpy(places)
        return torch.sparse_coo_tensor(indices, values, self.shape, check_invariants=True)


def sparse_edges(M: Any) -> Edges | None:
    """Read the edges of a sparse scipy array or torch tensor; None for anything else."""
    if not is_sparse(M):
        return None
    if is_tensor(M):
        entries = constant(M).to_sparse_coo().coalesce()
        rows, cols = entries.indices().numpy()
        costs = entries.values().numpy()
    else:
        entries = M.tocoo(copy=True)
        entries.sum_duplicates()
        (rows, cols), costs = entries.coords, to_numpy(entries.data, "M")
    keys = rows.astype(np.int64) * M.shape[1] + cols
    order = np.argsort(keys)
    return Edges(keys[order], costs[order].astype(np.float64), (M.shape[0], M.shape[1]))
