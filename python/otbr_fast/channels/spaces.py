"""From labels to spaces: which channels can be exchanged with each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from otbr_fast.channels.graph import Axis, ChannelGraph, FixedAxis, Kind, Space
from otbr_fast.channels.labels import FIXED, AxisKey
from otbr_fast.channels.tracing import Example, trace
from otbr_fast.channels.walk import Found, walk
from otbr_fast.errors import UnsupportedModelError

_TIED = "its channels are tied to each other"
_UNWRITTEN = "no layer of the network writes these channels"


def channel_graph(
    model: nn.Module, example: Example, *, leave_unknown: bool = False
) -> ChannelGraph:
    """Find which channels of a network can be exchanged, and all parameters that they lie on.

    The network is traced with torch.export, and channels are followed from the parameters that
    make them through every operation: those that only move entries are applied to the channels'
    ids themselves, those that act entry by entry make one channel of what meets, sums of products
    end channels and make new ones. Channels that occur in the same places are a space. Whatever
    cannot be followed stays in place.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    example : sequence or mapping of str
        What it is called with, such as ``(images,)``; only shapes and dtypes matter. At least two
        of a batch, so that the batch is told from what is of size 1.
    leave_unknown : bool
        Leave in place what an operation that is not understood reads, instead of refusing.

    Raises
    ------
    UnsupportedModelError
        The network cannot be traced, or an operation is not understood; the message names it and
        its module, what would be left in place, and what can be done.
    """
    traced = trace(model, example)
    found = walk(traced)
    graph = _Builder(found, traced.aliases).graph()
    if found.unknown and not leave_unknown:
        raise _not_understood(found.unknown, graph)
    return graph


def _not_understood(unknown: list[str], graph: ChannelGraph) -> UnsupportedModelError:
    left = [f"{axis.tensor}[{axis.dim}]" for axis in graph.fixed if "not understood" in axis.why]
    shown = ", ".join(left[:6]) + (f" and {len(left) - 6} more" if len(left) > 6 else "")
    operations = "; ".join(dict.fromkeys(unknown))
    return UnsupportedModelError(
        f"{operations} is not understood. leave_unknown=True leaves in place "
        f"what it reads ({shown or 'no parameter'}); or hand in the channels as YAML "
        "(`otbr-fast inspect --yaml` writes what was found, to be completed)."
    )


@dataclass(frozen=True)
class _Builder:
    found: Found
    aliases: dict[str, tuple[str, ...]]

    def graph(self) -> ChannelGraph:
        ids = self.found.axes.ids
        everything = ids.all_roots()
        self._note_unseen(everything)
        places = {
            key: everything[own]
            for key, own in self.found.axes.found.items()
            if self.found.axes.roles.get(key)
        }
        signs, blocks = ids.signatures()
        spaces: list[Space] = []
        fixed: dict[tuple[str, int], str] = {}
        for key, roots in places.items():
            if (roots == FIXED).any():
                reasons = ids.reasons(self.found.axes.found[key])
                for name in self._names(key):
                    fixed.setdefault((name, key[1]), reasons[0] if reasons else _UNWRITTEN)
        for group in self._groups(places, signs):
            axes = self._axes(group, places)
            own_blocks = _numbered(blocks[group])
            writers = self._of(axes, "writer")
            is_single = own_blocks.size == np.unique(own_blocks).size
            if is_single or not writers:
                for axis in (axis for each in axes.values() for axis in each):
                    why = _TIED if is_single else _UNWRITTEN
                    fixed.setdefault((axis.tensor, axis.dim), why)
                continue
            summed = np.isin(group, everything[_array(self.found.summed)])
            kind: Kind = "stream" if summed.any() and len(writers) > 1 else "internal"
            name = _name(writers[0].tensor, spaces)
            carried, readers = self._of(axes, "carried"), self._of(axes, "reader")
            mixed = bool(np.isin(group, everything[_array(self.found.axes.mixed)]).any())
            spaces.append(Space(name, kind, writers, carried, readers, own_blocks, mixed))
        rows = tuple(FixedAxis(tensor, dim, why) for (tensor, dim), why in fixed.items())
        return ChannelGraph(tuple(spaces), rows)

    def _note_unseen(self, everything: NDArray[np.int64]) -> None:
        """Carry the axes that share channels with others, though it was not seen what they do."""
        axes = self.found.axes
        seen = [everything[axes.found[key]] for key in axes.roles]
        known = np.setdiff1d(np.concatenate(seen), [FIXED]) if seen else np.empty(0, np.int64)
        for key, own in axes.found.items():
            if key not in axes.roles and np.isin(everything[own], known).any():
                axes.roles[key] = {"carried"}

    def _groups(
        self, places: dict[AxisKey, NDArray[np.int64]], signs: NDArray[np.uint64]
    ) -> Iterator[NDArray[np.int64]]:
        """Yield channels that occur in the same places, in the order in which they are written."""
        seen: set[int] = set()
        roles = self.found.axes.roles
        order = sorted(places, key=lambda key: (roles[key] != {"writer"}, list(roles).index(key)))
        for key in order:
            roots = places[key]
            first = dict.fromkeys(roots[roots != FIXED].tolist())  # keeps the order on this axis
            by_sign: dict[int, list[int]] = {}
            for root in first:
                by_sign.setdefault(int(signs[root]), []).append(root)
            for sign, group in by_sign.items():
                if sign not in seen:
                    seen.add(sign)
                    yield np.array(group)

    def _axes(
        self, group: NDArray[np.int64], places: dict[AxisKey, NDArray[np.int64]]
    ) -> dict[AxisKey, list[Axis]]:
        """Find a group's channels on each axis where they lie."""
        order = np.argsort(group)
        found: dict[AxisKey, list[Axis]] = {}
        for key, roots in places.items():
            entries = np.flatnonzero(np.isin(roots, group))
            if entries.size:
                channel = order[np.searchsorted(group[order], roots[entries])]
                by_channel = entries[np.argsort(channel, kind="stable")].reshape(group.size, -1)
                found[key] = [Axis(name, key[1], by_channel, key[2]) for name in self._names(key)]
        return found

    def _names(self, key: AxisKey) -> tuple[str, ...]:
        return (key[0], *self.aliases.get(key[0], ()))

    def _of(self, axes: dict[AxisKey, list[Axis]], role: str) -> tuple[Axis, ...]:
        roles = self.found.axes.roles
        return tuple(
            axis for key in roles if key in axes and role in roles[key] for axis in axes[key]
        )


def _array(ids: set[int]) -> NDArray[np.int64]:
    return np.array(sorted(ids), dtype=np.int64)


def _numbered(blocks: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Give blocks the numbers from 0, in the order in which they first occur."""
    _, first, inverse = np.unique(blocks, return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse]


def _name(tensor: str, spaces: list[Space]) -> str:
    base = tensor.rpartition(".")[0] if tensor.endswith(".weight") else tensor
    taken = {space.name for space in spaces}
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}#{count}"
    return name
