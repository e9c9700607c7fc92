"""Two networks of one architecture made one: channels matched by transport, space by space."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse

from otbr_fast import ot
from otbr_fast.channels import ChannelGraph, Space, rows
from otbr_fast.errors import RepairError
from otbr_fast.repair.maps import Floats
from otbr_fast.repair.space_fusion import SpaceTransport, State, carried, computable, fuse_states
from otbr_fast.repair.transport import LayerTransport, refused


def fuse_networks(
    source: State,
    target: State,
    graph: ChannelGraph,
    lambda_: float,
    *,
    n_threads: int | None = None,
) -> dict[str, torch.Tensor]:
    """Fuse two networks whose channels may be in other orders, with uniform masses.

    Space by space, in the order in which the network writes them, the source's channels are
    transported to the target's; the ground cost is the sum of the Euclidean distances between
    rows, over the writers whose own inputs have been matched before (a residual stream is matched
    by its first writer: the others read what the stream itself decides). This is OTFusion (Singh
    & Jaggi, NeurIPS 2020, arXiv 1910.05653) on a channel graph.

    Parameters
    ----------
    source, target : mapping of str to Tensor
        State dicts.
    graph : ChannelGraph
        Of their architecture.
    lambda_ : float
        Share of the source.
    n_threads : int, optional
        Threads of the distances and the solver.

    Returns
    -------
    dict of str to Tensor
        A state dict: λ source, transported, + (1 − λ) target.

    Raises
    ------
    RepairError
        A plan is not proven optimal, or a weight not finite.
    """
    matched = match_spaces(source, target, graph, n_threads)
    return fuse_states(source, target, matched, lambda_, n_threads=n_threads)


def match_spaces(
    source: State, target: State, graph: ChannelGraph, n_threads: int | None = None
) -> tuple[SpaceTransport, ...]:
    """Find the transports of `fuse_networks`.

    Of the networks, only what writes the space that is worked on is held at a time: their weights
    may be mappings that read from files, as `otbr_fast.io.load_checkpoint` makes them.
    """
    open_spaces = dict.fromkeys(space.name for space in graph.spaces)
    readers = {(axis.tensor, space.name) for space in graph.spaces for axis in space.readers}
    found: list[SpaceTransport] = []
    for space in graph.spaces:
        ready = [
            axis
            for axis in space.writers
            if not any((axis.tensor, name) in readers for name in open_spaces)
        ]
        if not ready:
            raise RepairError(
                f"the channels of '{space.name}' are written only by layers that read channels "
                "which the graph lists later: list its spaces in the order they are computed in"
            )
        pairs = [
            (
                rows(carried(source, axis.tensor, found), axis).numpy(),
                rows(computable(target[axis.tensor]), axis).numpy(),
            )
            for axis in ready
        ]
        found.append(_matched(space, pairs, n_threads))
        del open_spaces[space.name]
    return tuple(found)


def _matched(
    space: Space, pairs: Sequence[tuple[Floats, ...]], n_threads: int | None
) -> SpaceTransport:
    blocks = []
    for members in space.members():
        start = time.perf_counter()
        n = len(members)
        uniform = np.full(n, 1 / n)
        with refused(space.name):
            cost = sum(
                ot.cost_matrix(one[members], other[members], n_threads=n_threads)
                for one, other in pairs
            )
            result = ot.solve(cost, uniform, uniform, n_threads=n_threads)
        if result.status != "optimal":
            raise RepairError(f"the plan of '{space.name}' is not proven optimal; please report")
        blocks.append(
            LayerTransport(
                name=space.name,
                n_pruned=0,
                spread=sparse.csr_array(sparse.eye_array(n)),
                grouped_plan=result.plan,
                beta=uniform,
                value=result.value,
                duality_gap=result.certificate.duality_gap,
                solved_shape=(n, n),
                seconds=time.perf_counter() - start,
            )
        )
    return SpaceTransport(space, tuple(blocks))
