"""Channels and where they occur, as plain data: the one description of a network's structure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["internal", "stream"]
"""``internal`` channels are made and used up inside the network; those of a ``stream`` are sums of
what several layers add to them (a residual stream), or an embedding."""


@dataclass(frozen=True, eq=False)
class Axis:
    """An axis of a parameter or buffer, along which channels lie.

    Parameters
    ----------
    tensor : str
        Name of the parameter or buffer.
    dim : int
        Which of its axes.
    entries : ndarray of int, shape (n_channels, n_copies)
        Where on that axis each channel lies. A channel has several places where a layer sees it
        several times: behind ``flatten`` once for each pixel.
    groups : int
        More than 1 for axis 1 of a grouped convolution's weight, where each group of filters (rows
        of axis 0) sees channels of its own: place j of group q is then entry ``q * size + j``.
    """

    tensor: str
    dim: int
    entries: NDArray[np.int64]
    groups: int = 1

    def __post_init__(self) -> None:
        entries = np.array(self.entries, dtype=np.int64)
        entries.setflags(write=False)
        object.__setattr__(self, "entries", entries)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Axis)
            and (self.tensor, self.dim, self.groups) == (other.tensor, other.dim, other.groups)
            and np.array_equal(self.entries, other.entries)
        )

    def __hash__(self) -> int:
        return hash((self.tensor, self.dim, self.groups, self.entries.tobytes()))

    def __str__(self) -> str:
        copies = self.entries.shape[1]
        groups = f" in {self.groups} groups" if self.groups > 1 else ""
        return f"{self.tensor}[{self.dim}]{groups}" + (f" x{copies}" if copies > 1 else "")


@dataclass(frozen=True, eq=False)
class Space:
    """Channels that can be exchanged with each other, and all axes on which they lie.

    Parameters
    ----------
    name : str
        The first layer that writes the channels.
    kind : {"internal", "stream"}
        Whether they are summed from several layers' contributions.
    writers : tuple of Axis
        Axes of weights that make the channels: a convolution's filters, a linear layer's rows.
    carried : tuple of Axis
        Axes of what acts on each channel by itself: biases, norms, depthwise filters, scales.
    readers : tuple of Axis
        Axes of weights that use the channels.
    blocks : ndarray of int, shape (n_channels,)
        Channels can be exchanged only within a block: a group of a grouped convolution or norm, or
        an attention head. Numbered from 0.
    mixed : bool
        Whether an operation takes all channels together, as layer norm and softmax do.
    """

    name: str
    kind: Kind
    writers: tuple[Axis, ...]
    carried: tuple[Axis, ...]
    readers: tuple[Axis, ...]
    blocks: NDArray[np.int64]
    mixed: bool = False

    def __post_init__(self) -> None:
        blocks = np.array(self.blocks, dtype=np.int64)
        blocks.setflags(write=False)
        object.__setattr__(self, "blocks", blocks)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Space)
            and (self.name, self.kind, self.mixed) == (other.name, other.kind, other.mixed)
            and self.axes == other.axes
            and np.array_equal(self.blocks, other.blocks)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.kind, self.axes, self.blocks.tobytes()))

    @property
    def size(self) -> int:
        """Number of channels."""
        return self.blocks.size

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(self.blocks.max()) + 1

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All axes: of writers, of what is carried, of readers. None occurs twice."""
        return tuple(dict.fromkeys((*self.writers, *self.carried, *self.readers)))

    def members(self) -> Iterator[NDArray[np.intp]]:
        """Yield the channels of each block."""
        order = np.argsort(self.blocks, kind="stable")
        yield from np.split(order, np.cumsum(np.bincount(self.blocks))[:-1])

    def __str__(self) -> str:
        blocks = f" in {self.n_blocks} blocks" if self.n_blocks > 1 else ""
        parts = [f"{self.name}: {self.size} channels{blocks}, {self.kind}"]
        for title, axes in (
            ("written by", self.writers),
            ("carried", self.carried),
            ("read by", self.readers),
        ):
            if axes:
                parts.append(f"  {title:<10} {', '.join(map(str, axes))}")
        return "\n".join(parts)


@dataclass(frozen=True)
class FixedAxis:
    """An axis (or a part of it) that must stay in place, and why."""

    tensor: str
    dim: int
    why: str


@dataclass(frozen=True)
class ChannelGraph:
    """A network's channels: the spaces whose channels can be exchanged, and what cannot move.

    Parameters
    ----------
    spaces : tuple of Space
        In the order in which the network writes them.
    fixed : tuple of FixedAxis
        Axes with a part that belongs to no space.
    """

    spaces: tuple[Space, ...]
    fixed: tuple[FixedAxis, ...] = field(default=())

    @property
    def n_channels(self) -> int:
        """Channels of all spaces together."""
        return sum(space.size for space in self.spaces)

    def space(self, name: str) -> Space:
        """Return a space by its name."""
        found = {space.name: space for space in self.spaces}
        if name not in found:
            raise KeyError(f"there is no space {name!r}; there are {', '.join(found)}")
        return found[name]

    def __str__(self) -> str:
        lines = [str(space) for space in self.spaces]
        reasons: dict[str, list[str]] = {}
        for axis in self.fixed:
            reasons.setdefault(axis.why, []).append(f"{axis.tensor}[{axis.dim}]")
        lines += [f"left in place ({why}): {', '.join(axes)}" for why, axes in reasons.items()]
        return "\n".join(lines)
