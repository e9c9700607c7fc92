"""Optimal transport from a pruned layer's neurons to the backdoored ones (paper, stage 2)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from otbr_fast import ot
from otbr_fast.errors import RepairError
from otbr_fast.repair.config import Mode
from otbr_fast.repair.costs import NeuronCosts, neuron_costs
from otbr_fast.repair.maps import Floats, NeuronMap

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LayerTransport:
    """One layer's optimal plan, factored, and the map T = P diag(1/β) that it makes.

    Parameters
    ----------
    name : str
        The layer.
    n_pruned : int
        How many of its n neurons are pruned.
    spread : csr_array, shape (n, g)
        Share of each of g source points that each pruned-network neuron has; columns sum to 1.
    grouped_plan : csr_array, shape (g, n)
        Mass that goes from each source point to each backdoored neuron.
    beta : ndarray, shape (n,)
        Masses β of the backdoored neurons.
    value : float
        The optimal cost ⟨P, C⟩.
    duality_gap : float
        How far from optimal the cost can be at most, by the solver's certificate.
    solved_shape : (int, int)
        Size of the problem that the solver was given; (0, 0) if nothing had to move.
    seconds : float
        Wall time taken; without the distances where `transport_neurons` was given them.
    mode : {"default", "paper"}
        Which problem was solved.
    potentials : ndarray, shape (n,), optional
        Dual potentials of the neurons as targets, from which a transport for another γ starts.
    """

    name: str
    n_pruned: int
    spread: sparse.csr_array
    grouped_plan: sparse.csr_array
    beta: Array
    value: float
    duality_gap: float
    solved_shape: tuple[int, int]
    seconds: float
    mode: Mode = "default"
    potentials: Array | None = None

    @property
    def plan(self) -> sparse.csr_array:
        """The plan P, shape (n, n): rows sum to α (uniform), columns to β."""
        return sparse.csr_array(self.spread @ self.grouped_plan)

    @cached_property
    def received(self) -> NeuronMap:
        """The masses Pᵀ that each backdoored neuron receives of each pruned-network neuron."""
        n, n_groups = self.spread.shape
        group = self.spread.indices
        member = np.empty(n_groups, dtype=np.int32)  # a neuron of each group, or n for its mean
        member[group] = np.arange(n)
        alike = np.flatnonzero(group == n_groups - 1)  # only the last group may have several
        masses = sparse.csr_array(self.grouped_plan.T)
        found = NeuronMap(masses.indptr.astype(np.int32), member[masses.indices], masses.data)
        if alike.size == 1:
            return found
        member[-1] = n
        return replace(found, sources=member[masses.indices], pooled=alike.astype(np.int32))

    @cached_property
    def map(self) -> NeuronMap:
        """The map Tᵀ = diag(1/β) Pᵀ, for values of the pruned network's neurons."""
        return self.received.scaled(1 / self.beta)

    @cached_property
    def map_of_kept(self) -> NeuronMap:
        """The same for values that are 0 in pruned neurons: nothing is taken of those."""
        if not self.n_pruned:
            return self.map
        group = self.spread.indices
        pruned = np.flatnonzero(group == group.max())
        return self.map.without(group.size if pruned.size > 1 else int(pruned[0]))

    def push(self, values: Floats) -> Floats:
        """Carry values of each pruned-network neuron over: Tᵀ values, shape (n, ...) to (n, ...).

        float32 stays float32, with sums in float64; anything else becomes float64.
        """
        n = self.beta.size
        return self._carried(values, (1, n, -1))

    def push_inputs(self, kernels: Floats) -> Floats:
        """Mix a weight's input channels: W T, for W of shape (n_out, n, ...), as in `push`."""
        n_out, n = kernels.shape[:2]
        return self._carried(kernels, (n_out, n, -1))

    def _carried(self, values: Floats, shape: tuple[int, int, int]) -> Floats:
        dtype = np.float32 if values.dtype == np.float32 else np.float64
        source = np.ascontiguousarray(values, dtype=dtype)
        out = np.empty_like(source)
        self.received.apply(source.reshape(shape), out.reshape(shape))
        out.reshape(shape)[...] /= self.beta[:, None]
        return out


def transport_layer(
    name: str,
    weights: Floats,
    pruned: NDArray[np.bool_],
    beta: Array,
    mode: Mode = "default",
    *,
    n_threads: int | None = None,
) -> LayerTransport:
    """Find an optimal plan from a pruned layer to the backdoored one.

    The pruned layer's rows are ``weights`` with pruned rows 0 and have mass 1/n each; the ground
    cost is the Euclidean distance. Paper mode hands the whole problem to the solver, as
    published. Default mode solves an exact reduction of it, which also makes the plan canonical:
    identical pruned rows share evenly.

    Parameters
    ----------
    name : str
        The layer's name.
    weights : ndarray of float32 or float64, shape (n, d)
        The backdoored layer, one row a neuron. Paper mode takes its distances in float64.
    pruned : ndarray of bool, shape (n,)
        Which neurons are pruned.
    beta : ndarray, shape (n,)
        Positive masses of the backdoored neurons, with sum 1.
    mode : {"default", "paper"}
        Which problem is solved; the cost found is the same.
    n_threads : int, optional
        Threads of the solver.

    Raises
    ------
    RepairError
        The distances are not finite, or the solver's certificate does not prove the plan optimal.
    """
    start = time.perf_counter()
    if mode == "paper":
        solution = _full(name, weights, pruned, beta, n_threads)
        return replace(_transport(name, pruned, beta, solution, start), mode=mode)
    with refused(name):
        costs = neuron_costs([weights], n_threads=n_threads)
    found = transport_neurons(name, costs, pruned, beta, n_threads=n_threads)
    return replace(found, seconds=time.perf_counter() - start)


def transport_neurons(
    name: str,
    costs: NeuronCosts,
    pruned: NDArray[np.bool_],
    beta: Array,
    *,
    warm: LayerTransport | None = None,
    n_threads: int | None = None,
) -> LayerTransport:
    """Find an optimal plan from pruned neurons to the backdoored ones, given all distances.

    This is `transport_layer` in default mode, for costs that several calls share. So may they
    share what was found: with ``warm``, a transport of the same neurons for another γ, the solver
    starts from its potentials, which saves most of its time. The cost found is the same; so is the
    plan, where only one is optimal.

    Raises
    ------
    RepairError
        The solver's certificate does not prove the plan optimal.
    """
    start = time.perf_counter()
    start_from = None if warm is None else warm.potentials
    solution = _reduced(name, costs, pruned, beta, start_from, n_threads)
    return _transport(name, pruned, beta, solution, start)


@contextmanager
def refused(name: str) -> Iterator[None]:
    """Name the layer whose weights give no distances or no transport."""
    try:
        yield
    except ValueError as error:
        raise RepairError(
            f"layer '{name}': its transport is refused ({error}); check the network's weights"
        ) from error


@dataclass(frozen=True)
class _Solved:
    value: float = 0.0
    duality_gap: float = 0.0
    shape: tuple[int, int] = (0, 0)
    potentials: Array | None = None


_Solution = tuple[sparse.csr_array, sparse.csr_array, _Solved]


def _transport(
    name: str, pruned: NDArray[np.bool_], beta: Array, solution: _Solution, start: float
) -> LayerTransport:
    spread, plan, solved = solution
    return LayerTransport(
        name=name,
        n_pruned=int(pruned.sum()),
        spread=spread,
        grouped_plan=plan,
        beta=beta,
        value=solved.value,
        duality_gap=solved.duality_gap,
        solved_shape=solved.shape,
        seconds=time.perf_counter() - start,
        potentials=solved.potentials,
    )


def _full(
    name: str, weights: Floats, pruned: NDArray[np.bool_], beta: Array, n_threads: int | None
) -> _Solution:
    """Solve the problem as it is stated."""
    n = len(weights)
    weights = np.asarray(weights, dtype=np.float64)
    sources = np.where(pruned[:, None], 0.0, weights)
    with refused(name):
        cost = ot.cost_matrix(sources, weights, n_threads=n_threads)
    result = _solve(name, cost, np.full(n, 1 / n), beta, n_threads)
    solved = _Solved(result.value, result.certificate.duality_gap, cost.shape)
    return sparse.csr_array(sparse.eye_array(n)), result.plan, solved


def _reduced(
    name: str,
    costs: NeuronCosts,
    pruned: NDArray[np.bool_],
    beta: Array,
    warm: Array | None,
    n_threads: int | None,
) -> _Solution:
    """Solve what is left when mass that need not move stays and equal rows are one point.

    An unpruned row is the same point on both sides and the cost is a metric, so by the triangle
    inequality some optimal plan leaves min(α_k, β_k) in place. The pruned rows are all the point
    0: they are one source, the last, whose mass is spread evenly over them.
    """
    n = pruned.size
    kept = np.flatnonzero(~pruned)
    spread = _spread(pruned)
    supply = np.asarray(spread.astype(bool).sum(axis=0)) / n
    demand = beta.copy()
    staying = np.minimum(supply[: kept.size], demand[kept])
    supply[: kept.size] -= staying
    demand[kept] -= staying
    stay = sparse.csr_array((staying, (np.arange(kept.size), kept)), shape=(supply.size, n))
    moving = supply.sum()
    if moving <= n * np.finfo(np.float64).eps:  # α = β, to rounding
        return spread, stay, _Solved()
    rows, columns = np.flatnonzero(supply), np.flatnonzero(demand)
    sources = kept[rows[rows < kept.size]]
    with refused(name):
        cost = costs.moving(sources, columns, from_zero=sources.size < rows.size)
    masses = (supply[rows] / moving, demand[columns] / demand.sum())
    result = _solve(name, cost, *masses, n_threads, None if warm is None else warm[columns])
    entries = result.plan.tocoo()
    places = (rows[entries.row], columns[entries.col])
    plan = stay + sparse.csr_array((moving * entries.data, places), shape=stay.shape)
    # In a metric a potential of a source is minus that of a target at the same place.
    potentials = np.zeros(n)
    u, potentials[columns] = result.potentials
    potentials[sources] = -u[: sources.size]
    gap = moving * result.certificate.duality_gap
    solved = _Solved(moving * result.value, gap, cost.shape, potentials)
    return spread, sparse.csr_array(plan), solved


def _spread(pruned: NDArray[np.bool_]) -> sparse.csr_array:
    """Give each kept neuron a source of its own and all pruned ones an even share of the last."""
    n_pruned = int(pruned.sum())
    n_kept = pruned.size - n_pruned
    group = np.where(pruned, n_kept, np.cumsum(~pruned) - 1)
    share = np.where(pruned, 1 / max(n_pruned, 1), 1.0)
    shape = (pruned.size, n_kept + (n_pruned > 0))
    return sparse.csr_array((share, (np.arange(pruned.size), group)), shape=shape)


def _solve(
    name: str,
    cost: Floats,
    a: Array,
    b: Array,
    n_threads: int | None,
    potentials: Array | None = None,
) -> ot.OTResult:
    """Solve exactly, from potentials of the columns if there are any."""
    start = None if potentials is None else (np.zeros(a.size), potentials)  # the rows' follow
    with refused(name):
        result = ot.solve(cost, a, b, warmstart=start, n_threads=n_threads)
    if result.status != "optimal":
        raise RepairError(
            f"layer '{name}': the transport plan is not proven optimal "
            f"(duality gap {result.certificate.duality_gap} at cost {result.value}); please report"
        )
    return result
