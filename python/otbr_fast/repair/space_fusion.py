"""Transport of whole spaces of channels, and weights fused along it on every axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from otbr_fast.channels import Axis, ChannelGraph, Space, rows, with_rows
from otbr_fast.errors import RepairError
from otbr_fast.repair.blend import blend
from otbr_fast.repair.costs import neuron_costs
from otbr_fast.repair.maps import Floats, NeuronMap
from otbr_fast.repair.transport import LayerTransport, refused, transport_neurons
from otbr_fast.repair.weights import empty_like, not_finite

State = Mapping[str, torch.Tensor]


def transported_spaces(graph: ChannelGraph) -> tuple[Space, ...]:
    """Return the spaces whose channels a repair prunes and transports; the others stay in place.

    A plan is no permutation, so it must be undone by the weights that read the channels. So
    channels without readers stay: queries and keys, which meet each other. And a stream stays if
    its channels are taken together (layer norm in a transformer): it has one plan for the whole
    depth, which does not commute with any of those norms. In residual networks with batch norm,
    which treats each channel by itself, streams are transported like all else.
    """
    return tuple(
        space
        for space in graph.spaces
        if space.readers and not (space.kind == "stream" and space.mixed)
    )


@dataclass(frozen=True)
class SpaceTransport:
    """A space's optimal plans, one for each block, and the map T that they make.

    Parameters
    ----------
    space : Space
    blocks : tuple of LayerTransport
        In the order of ``space.members()``.
    """

    space: Space
    blocks: tuple[LayerTransport, ...]

    @property
    def name(self) -> str:
        """The space's name."""
        return self.space.name

    @property
    def n_pruned(self) -> int:
        """Pruned channels of all blocks."""
        return sum(block.n_pruned for block in self.blocks)

    @property
    def value(self) -> float:
        """The optimal cost of all blocks together."""
        return sum(block.value for block in self.blocks)

    @property
    def duality_gap(self) -> float:
        """How far from optimal all plans together can be at most."""
        return sum(block.duality_gap for block in self.blocks)

    @property
    def seconds(self) -> float:
        """Wall time of the transports."""
        return sum(block.seconds for block in self.blocks)

    @property
    def solved_shape(self) -> tuple[int, int]:
        """Size of the largest problem that the solver was given."""
        return max(block.solved_shape for block in self.blocks)

    @cached_property
    def plan(self) -> sparse.csr_array:
        """All plans in one, shape (n, n)."""
        plans = [block.plan.tocoo() for block in self.blocks]
        members = list(self.space.members())
        where = [
            np.concatenate([m[getattr(plan, side)] for m, plan in zip(members, plans, strict=True)])
            for side in ("row", "col")
        ]
        data = np.concatenate([plan.data for plan in plans])
        return sparse.csr_array((data, tuple(where)), shape=(self.space.size,) * 2)

    def carry(
        self,
        tensor: torch.Tensor,
        axis: Axis,
        *,
        of_kept: bool = False,
        n_threads: int | None = None,
    ) -> torch.Tensor:
        """Apply T to a tensor along one of the space's axes.

        Parameters
        ----------
        tensor : Tensor
            On the CPU, in float32 or float64.
        axis : Axis
        of_kept : bool
            Take pruned channels for 0, whatever stands there.
        n_threads : int, optional
            All cores by default. The result does not depend on it.
        """
        values = rows(tensor, axis).contiguous().numpy()
        out = np.empty_like(values)
        for members, block in zip(self.space.members(), self.blocks, strict=True):
            whole = len(members) == len(values)
            part = values if whole else np.ascontiguousarray(values[members])
            moved = out if whole else np.empty_like(part)
            mapping: NeuronMap = block.map_of_kept if of_kept else block.map
            mapping.apply(part[None], moved[None], n_threads=n_threads)
            if not whole:
                out[members] = moved
        return with_rows(tensor, axis, torch.from_numpy(out))


def space_matrices(state: State, space: Space) -> list[Floats]:
    """Return the weights that write a space, one row a channel, in float32 or float64.

    Not copied where that is how they lie; to be read only.
    """
    matrices: list[Floats] = []
    for axis in space.writers:
        tensor = computable(state[axis.tensor])
        plain = axis.dim == 0 and lies_plainly(axis, tensor)
        matrix = tensor.contiguous().flatten(1) if plain else rows(tensor, axis)
        matrices.append(matrix.numpy())
    return matrices


def lies_plainly(axis: Axis, tensor: torch.Tensor) -> bool:
    """Whether channels are the entries of an axis, in order, all copies of one side by side."""
    entries = axis.entries.ravel()
    plain = axis.groups == 1 and entries.size == tensor.shape[axis.dim]
    return plain and bool((entries == np.arange(entries.size)).all())


def transport_space(
    state: State,
    space: Space,
    masks: Sequence[NDArray[np.bool_]],
    beta: NDArray[np.float64],
    *,
    n_threads: int | None = None,
) -> list[SpaceTransport]:
    """Find a space's transports for several selections of pruned channels.

    The ground cost is the sum over the writers of the Euclidean distances between the channels'
    rows. Each block is a problem of its own, with uniform masses of the pruned network's channels
    and β, rescaled to the block, of the backdoored network's.

    Parameters
    ----------
    state : mapping of str to Tensor
        The backdoored network's state dict.
    space : Space
    masks : sequence of ndarray of bool, shape (n,)
        Which channels are pruned.
    beta : ndarray, shape (n,)
        Positive masses.
    n_threads : int, optional
        Threads of the distances and the solver.
    """
    matrices = space_matrices(state, space)
    found: list[list[LayerTransport]] = [[] for _ in masks]
    for members in space.members():
        with refused(space.name):
            costs = neuron_costs(
                matrices if space.n_blocks == 1 else [matrix[members] for matrix in matrices],
                n_threads=n_threads,
            )
        own = beta[members] / beta[members].sum()
        warm: LayerTransport | None = None
        for transports, mask in zip(found, masks, strict=True):
            warm = transport_neurons(
                space.name, costs, mask[members], own, warm=warm, n_threads=n_threads
            )
            transports.append(warm)
    return [SpaceTransport(space, tuple(transports)) for transports in found]


def fuse_states(
    source: State,
    target: State,
    transports: Iterable[SpaceTransport],
    lambda_: float,
    *,
    n_threads: int | None = None,
) -> dict[str, torch.Tensor]:
    """Transport a network's weights along all axes of its spaces, and mix them with another's.

    Every tensor on which channels lie is carried along each of its axes by the plan of the space
    that lies there: with T = P diag(1/β), a writer W becomes Tᵀ W, in which pruned channels count
    as 0, a reader W T, biases, norms, statistics and depthwise filters Tᵀ v. What comes of it is
    mixed: λ carried + (1 − λ) the target's own. Other tensors are the target's.

    Parameters
    ----------
    source, target : mapping of str to Tensor
        State dicts of two networks of one architecture; in a repair, the backdoored network's in
        both places.
    transports : iterable of SpaceTransport
        Of spaces of its channel graph; channels of spaces without one stay in place.
    lambda_ : float
        λ.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Returns
    -------
    dict of str to Tensor
        New tensors where something was fused, in the target's types; the target's own elsewhere.

    Raises
    ------
    RepairError
        A fused weight is not finite in its type.
    """
    result = dict(target)
    for name, steps in _steps(transports).items():
        own = target[name].detach()
        result[name] = _fused(name, source[name], own, steps, lambda_, n_threads, empty_like)
    return result


def fused_tensors(
    source: State,
    target: State,
    transports: Iterable[SpaceTransport],
    lambda_: float,
    *,
    n_threads: int | None = None,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Make what `fuse_states` makes one tensor after the other: there need not be room for all.

    Nor is there need of room for the networks, if they are mappings that read from files.

    Yields
    ------
    name : str
    tensor : Tensor
        Only until the next is asked for, as its memory is used again.
    """
    memory = torch.empty(0, dtype=torch.uint8)

    def used_again(like: torch.Tensor) -> torch.Tensor:
        nonlocal memory
        size = like.numel() * like.element_size()
        if memory.numel() < size:
            memory = torch.from_numpy(np.empty(size, dtype=np.uint8))
        return memory[:size].view(like.dtype).view(like.shape)

    all_steps = _steps(transports)
    for name, own in target.items():
        steps = all_steps.get(name)
        if steps is None:
            yield name, own
        else:
            yield (
                name,
                _fused(name, source[name], own.detach(), steps, lambda_, n_threads, used_again),
            )


Step = tuple[SpaceTransport, Axis, bool]
"""By which plan a tensor is carried, along which axis, and whether pruned channels count as 0."""


def _steps(transports: Iterable[SpaceTransport]) -> dict[str, list[Step]]:
    """Return for each tensor on which channels lie by what it is carried."""
    found: dict[str, list[Step]] = {}
    for transport in transports:
        writers = set(transport.space.writers)
        for axis in transport.space.axes:
            found.setdefault(axis.tensor, []).append((transport, axis, axis in writers))
    return found


def carried(state: State, name: str, transports: Iterable[SpaceTransport]) -> torch.Tensor:
    """Return a tensor carried along each of its axes that lies on a transported space."""
    tensor = computable(state[name])
    for transport, axis, _ in _steps(transports).get(name, ()):
        tensor = transport.carry(tensor, axis)
    return tensor


def _fused(
    name: str,
    source: torch.Tensor,
    own: torch.Tensor,
    steps: Sequence[Step],
    lambda_: float,
    n_threads: int | None,
    room: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Fuse one tensor, in memory that ``room`` gives for one like it."""
    carried, base = computable(source).contiguous(), computable(own).contiguous()
    maps = _plain_maps(carried, steps)
    if maps is None:
        for transport, axis, of_kept in steps:
            carried = transport.carry(carried, axis, of_kept=of_kept, n_threads=n_threads)
        mixed = torch.lerp(base, carried, lambda_)
        finite = bool(torch.isfinite(mixed).all())
    else:
        mixed = room(base)
        n_out, n_in = maps.shape
        views = [tensor.numpy().reshape(n_out, n_in, -1) for tensor in (carried, base, mixed)]
        weight, kept, out = views
        finite = blend(weight, kept, maps.rows, maps.inputs, lambda_, out, n_threads=n_threads)
    result = mixed.to(own.device, own.dtype)
    if result is not mixed:
        finite = bool(torch.isfinite(result).all())
    if not finite:
        raise not_finite(f"'{name}'", own.dtype)
    return result


@dataclass(frozen=True)
class _Maps:
    """What carries a tensor along its first two axes, and the channels that lie on them."""

    rows: NeuronMap | None
    inputs: NeuronMap | None
    shape: tuple[int, int]


def _plain_maps(tensor: torch.Tensor, steps: Sequence[Step]) -> _Maps | None:
    """Return the maps of a tensor on whose first two axes channels lie plainly, else None."""
    found: dict[int, NeuronMap] = {}
    shape = [tensor.shape[0] if tensor.ndim else 1, tensor.shape[1] if tensor.ndim > 1 else 1]
    for transport, axis, of_kept in steps:
        (block, *others), copies = transport.blocks, axis.entries.shape[1]
        is_whole = axis.dim == 1 or (axis.dim == 0 and copies == 1)
        if others or axis.dim in found or not is_whole or not lies_plainly(axis, tensor):
            return None
        found[axis.dim] = block.map_of_kept if of_kept else block.map
        shape[axis.dim] = len(axis.entries)
    return _Maps(found.get(0), found.get(1), (shape[0], shape[1]))


def without_channels(
    state: State, spaces: Iterable[Space], pruned: Mapping[str, NDArray[np.bool_]]
) -> dict[str, torch.Tensor]:
    """Return a state in which all that writes pruned channels is 0; biases stay, as published."""
    result = dict(state)
    for space in spaces:
        mask = torch.from_numpy(pruned[space.name])
        if bool(mask.any()):
            for axis in space.writers:
                values = rows(result[axis.tensor], axis)
                values[mask.to(values.device)] = 0
                result[axis.tensor] = with_rows(result[axis.tensor], axis, values)
    return result


def space_changes(original: State, changed: State, space: Space) -> NDArray[np.float64]:
    """Sum the absolute weight changes of each channel: its NWC, the mean over those that write it.

    Raises
    ------
    RepairError
        A change is not finite.
    """
    found = []
    for axis in space.writers:
        change = computable(changed[axis.tensor]) - computable(original[axis.tensor])
        of_writer = rows(change, axis).abs().sum(dim=1, dtype=torch.float64).numpy()
        if not np.isfinite(of_writer).all():
            raise RepairError(f"'{axis.tensor}' has weights that are not finite")
        found.append(of_writer)
    return np.asarray(np.mean(found, axis=0))


def space_norms(state: State, space: Space) -> NDArray[np.float64]:
    """Return the norm of what writes each channel: of all its rows together."""
    squares = [np.square(m, dtype=np.float64).sum(axis=1) for m in space_matrices(state, space)]
    return np.asarray(np.sqrt(np.sum(squares, axis=0)))


def computable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the CPU in a type that is computed in: float64, or else float32."""
    wide = tensor.detach().cpu()
    return wide if wide.dtype == torch.float64 else wide.float()
