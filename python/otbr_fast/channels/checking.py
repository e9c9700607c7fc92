"""Whether a channel graph fits a network: its tensors, and that exchanges do no harm."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from otbr_fast.channels.access import State, permuted
from otbr_fast.channels.graph import Axis, ChannelGraph, Space
from otbr_fast.channels.tracing import Example
from otbr_fast.errors import ChannelGraphError

_TOLERANCE = 1e-4  # of the outputs' size: what rounding, and sums in half the precision, may cost
_NOISE = 0.1  # of a weight's size


def check_structure(graph: ChannelGraph, state: Mapping[str, torch.Tensor]) -> None:
    """Check that a graph's axes are those of a network's tensors, each entry in one space at most.

    Parameters
    ----------
    graph : ChannelGraph
        Such as one handed in by a user.
    state : mapping of str to Tensor
        The network's state dict.

    Raises
    ------
    ChannelGraphError
        The space and the axis at fault are named.
    """
    names = [space.name for space in graph.spaces]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ChannelGraphError(f"several spaces are called {', '.join(repeated)}")
    owners: dict[tuple[str, int], dict[int, str]] = {}
    for space in graph.spaces:
        for axis in space.axes:
            _check_axis(space, axis, state)
            owner = owners.setdefault((axis.tensor, axis.dim), {})
            for entry in axis.entries.ravel().tolist():
                first = owner.setdefault(entry, space.name)
                if first != space.name:
                    raise ChannelGraphError(
                        f"entry {entry} of {axis} is in two spaces, '{first}' and '{space.name}'"
                    )


def _check_axis(space: Space, axis: Axis, state: Mapping[str, torch.Tensor]) -> None:
    where = f"space '{space.name}': {axis}"
    if axis.tensor not in state:
        raise ChannelGraphError(f"{where}: the network has no tensor of this name")
    shape = tuple(state[axis.tensor].shape)
    if axis.dim >= len(shape):
        raise ChannelGraphError(f"{where}: the tensor, of shape {shape}, has no such axis")
    if axis.groups > 1 and (axis.dim != 1 or shape[0] % axis.groups):
        raise ChannelGraphError(
            f"{where}: groups go with axis 1 of a weight whose filters they divide; its shape is "
            f"{shape}"
        )
    if len(axis.entries) != space.size:
        raise ChannelGraphError(f"{where}: {len(axis.entries)} channels, not {space.size}")
    last = shape[axis.dim] * axis.groups - 1
    if axis.entries.min() < 0 or axis.entries.max() > last:
        raise ChannelGraphError(
            f"{where}: entries from {axis.entries.min()} to {axis.entries.max()}, but the axis has "
            f"0 to {last}"
        )
    if np.unique(axis.entries).size != axis.entries.size:
        raise ChannelGraphError(f"{where}: an entry occurs twice")


def check_graph(model: nn.Module, graph: ChannelGraph, example: Example, *, seed: int = 0) -> None:
    """Check a graph by what it claims: that exchanging channels leaves the output as it is.

    That must hold for any weights, so it is tried on a copy in float64 with noise on its weights
    and statistics, which otherwise could be too much alike (zeros, ones) to tell; and for each
    space at fault, a second time with that space alone.

    Raises
    ------
    ChannelGraphError
        It does not fit the network's tensors; or channels of the spaces named cannot be exchanged
        as it says.
    """
    check_structure(graph, model.state_dict())
    generator = torch.Generator().manual_seed(seed)
    probe = _Probe(model, example, generator)
    whole = probe.state
    for space in graph.spaces:
        whole = permuted(whole, space, _shuffled(space, generator))
    if probe.is_unchanged(whole):
        return
    bad = [
        space.name
        for space in graph.spaces
        if not probe.is_unchanged(permuted(probe.state, space, _shuffled(space, generator)))
    ]
    named = ", ".join(map(repr, bad)) or "several spaces together"
    raise ChannelGraphError(
        f"exchanging the channels of {named} as the graph says changes the network's "
        "output: an axis is missing or wrong, or blocks are. Correct "
        "it, or leave the space out, so that it stays in place"
    )


class _Probe:
    """A noisy copy of a network, and its answer to one input."""

    def __init__(self, model: nn.Module, example: Example, generator: torch.Generator) -> None:
        self.model = copy.deepcopy(model).cpu().eval().double()
        self.state: State = {
            name: _noisy(tensor.detach(), generator)
            for name, tensor in self.model.state_dict().items()
        }
        self.args: tuple[object, ...] = ()
        self.kwargs: dict[str, object] = {}
        if isinstance(example, Mapping):
            self.kwargs = {name: _fed(x, generator) for name, x in example.items()}
        else:
            self.args = tuple(_fed(x, generator) for x in example)
        self.answer = self._outputs(self.state)

    def is_unchanged(self, state: State) -> bool:
        """Tell whether other weights give the same answer."""
        return all(
            torch.allclose(one, other, rtol=0, atol=_TOLERANCE * float(one.abs().max()))
            for one, other in zip(self.answer, self._outputs(state), strict=True)
        )

    @torch.no_grad()
    def _outputs(self, state: State) -> list[torch.Tensor]:
        out = functional_call(self.model, state, self.args, self.kwargs, tie_weights=False)
        flat, _ = torch.utils._pytree.tree_flatten(out)
        return [x for x in flat if isinstance(x, torch.Tensor) and x.is_floating_point()]


def _noisy(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor.clone()
    size = float(tensor.abs().mean()) + _NOISE
    noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
    return tensor + _NOISE * size * noise  # not negative, so that variances stay positive


def _fed(value: object, generator: torch.Generator) -> object:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return value


def _shuffled(space: Space, generator: torch.Generator) -> torch.Tensor:
    """Draw a permutation that keeps to the blocks."""
    order = torch.arange(space.size)
    for members in space.members():
        inside = torch.from_numpy(members)
        order[inside] = inside[torch.randperm(len(members), generator=generator)]
    return order
