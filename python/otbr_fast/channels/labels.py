"""Channel ids, which of them are one channel, and how they lie on activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

FIXED = 0
"""The id of all places that must not move."""

AxisKey = tuple[str, int, int]
"""A parameter's name, the axis, and the number of groups that it is seen in."""


@dataclass(frozen=True, eq=False)
class Label:
    """One independent way in which an activation's entries belong to channels.

    Parameters
    ----------
    ids : Tensor of int64
        As many axes as the activation; of size 1 where the channel does not depend on the place.
    axes : frozenset of AxisKey
        The parameters' axes that it lies on, as long as it is a parameter that is labelled, and
        not yet an activation.
    """

    ids: torch.Tensor
    axes: frozenset[AxisKey] = frozenset()

    @property
    def dims(self) -> frozenset[int]:
        """The axes along which channels vary."""
        return frozenset(d for d, size in enumerate(self.ids.shape) if size > 1)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A parameter or activation: its shape and its labels.

    Parameters
    ----------
    shape : tuple of int
    labels : tuple of Label
    is_active : bool
        Whether it depends on the network's input.
    name : str, optional
        The parameter that it is, if it is one.
    reach : tuple of int, optional
        The shape, but 1 along axes on which it was expanded, so that it does not vary there.
    """

    shape: tuple[int, ...]
    labels: tuple[Label, ...] = ()
    is_active: bool = True
    name: str | None = None
    reach: tuple[int, ...] | None = None

    @property
    def extent(self) -> tuple[int, ...]:
        """The size of each axis, 1 where it does not vary."""
        return self.shape if self.reach is None else self.reach

    def placed(self, dim: int, ndim: int) -> Labelled:
        """Return a vector laid along an axis of a tensor of so many axes."""
        shape = [1] * ndim
        shape[dim] = -1
        labels = (replace(label, ids=label.ids.view(shape)) for label in self.labels)
        shape[dim] = self.shape[0]
        return replace(self, shape=tuple(shape), labels=tuple(labels), name=None)


class Ids:
    """All channel ids: which of them are one channel, which are fixed, and why."""

    def __init__(self) -> None:
        self._root = np.zeros(1, dtype=np.int64)
        self._why = np.zeros(1, dtype=np.int64)  # of each id: place of the reason in `_reasons`
        self._reasons = [""]
        self._random = np.random.default_rng(0)  # of signatures only; what is found ignores it
        self._signs: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = []
        self._blocks: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = []

    def __len__(self) -> int:
        return self._root.size

    def fresh(self, count: int) -> torch.Tensor:
        """Make new ids, each a channel of its own."""
        ids = np.arange(len(self), len(self) + count)
        self._root = np.concatenate([self._root, ids])
        self._why = np.concatenate([self._why, np.zeros(count, dtype=np.int64)])
        return torch.from_numpy(ids)

    def roots(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the one id that stands for each channel; `FIXED` for all that are fixed."""
        return torch.from_numpy(self._root)[ids]

    def all_roots(self) -> NDArray[np.int64]:
        """Return the one id that stands for each id's channel."""
        return self._root

    def unify(self, a: torch.Tensor, b: torch.Tensor, why: str) -> None:
        """Make each of ``a`` one channel with that of ``b`` in its place (they are broadcast).

        ``why`` is the reason noted for those that become fixed.
        """
        one, other = (
            ids.numpy().ravel() for ids in broadcast_together(self.roots(a), self.roots(b))
        )
        differ = one != other
        if not differ.any():
            return
        pairs = np.unique(np.stack([one[differ], other[differ]]), axis=1)
        ids = np.unique(pairs)
        places = (np.searchsorted(ids, pairs[0]), np.searchsorted(ids, pairs[1]))
        joined = sparse.coo_array((np.ones(pairs.shape[1]), places), shape=(ids.size, ids.size))
        _, group = csgraph.connected_components(joined, directed=False)
        smallest = np.full(group.max() + 1, len(self))
        np.minimum.at(smallest, group, ids)
        moved = np.arange(len(self))
        moved[ids] = smallest[group]
        before, self._root = self._root, moved[self._root]
        newly = (self._root == FIXED) & (before != FIXED)
        if newly.any():
            self._why[newly] = len(self._reasons)
            self._reasons.append(why)

    def fix(self, ids: torch.Tensor, why: str) -> None:
        """Fix channels in their places."""
        self.unify(ids, torch.tensor(FIXED), why)

    def reasons(self, ids: NDArray[np.int64]) -> tuple[str, ...]:
        """Return why those of these ids that are fixed are so."""
        return tuple(self._reasons[i] for i in np.unique(self._why[ids]) if i)

    def sign(self, ids: torch.Tensor) -> None:
        """Note where channels occur: those that occur elsewhere cannot be exchanged with them."""
        self._note(self._signs, ids.numpy().ravel(), np.zeros(ids.numel(), dtype=np.int64))

    def block(self, ids: torch.Tensor, dims: Iterable[int]) -> None:
        """Note that channels can be exchanged only within a place along these axes."""
        shape = ids.shape
        place = torch.zeros([1] * len(shape), dtype=torch.int64)
        for d in sorted(dims):
            along = torch.arange(shape[d]).view([-1 if i == d else 1 for i in range(len(shape))])
            place = place * shape[d] + along
        self._note(self._blocks, ids.numpy().ravel(), place.expand(shape).numpy().ravel())

    def _note(
        self,
        notes: list[tuple[NDArray[np.int64], NDArray[np.uint64]]],
        ids: NDArray[np.int64],
        places: NDArray[np.int64],
    ) -> None:
        random = self._random.integers(2**63, size=int(places.max(initial=0)) + 1, dtype=np.uint64)
        notes.append((ids.copy(), random[places]))

    def signatures(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return two numbers for each root: equal where channels occur alike, and block alike.

        Sums (modulo 2^64) of random numbers of the places: the chance of two different sets of
        places with one sum is below 10⁻⁹ for a million channels.
        """
        return self._summed(self._signs), self._summed(self._blocks)

    def _summed(
        self, notes: Sequence[tuple[NDArray[np.int64], NDArray[np.uint64]]]
    ) -> NDArray[np.uint64]:
        sums = np.zeros(len(self), dtype=np.uint64)
        for ids, numbers in notes:
            np.add.at(sums, self._root[ids], numbers)
        return sums


@dataclass
class Axes:
    """The parameters' axes met so far, and what they were seen to do with their channels."""

    ids: Ids
    found: dict[AxisKey, NDArray[np.int64]] = field(default_factory=dict)
    roles: dict[AxisKey, set[str]] = field(default_factory=dict)
    mixed: set[int] = field(default_factory=set)  # ids of which all are taken together somewhere

    def parameter(self, name: str, shape: Sequence[int]) -> Labelled:
        """Label a parameter: channels of its own along each axis."""
        labels = []
        for dim, size in enumerate(shape):
            if size > 1:
                ids = self._register((name, dim, 1), size)
                labels.append(Label(_along(ids, dim, len(shape)), axes=frozenset({(name, dim, 1)})))
        return Labelled(tuple(shape), tuple(labels), is_active=False, name=name)

    def grouped(self, weight: Labelled, groups: int) -> Labelled:
        """Label a grouped convolution's weight: along axis 1, each group has its own channels."""
        rows, size = weight.shape[:2]
        if weight.name is None or groups == 1:
            return weight
        kept = [label for label in weight.labels if label.dims != {1}]
        if size > 1:
            key = (weight.name, 1, groups)
            ids = self._register(key, groups * size).view(groups, 1, size)
            ids = ids.expand(groups, rows // groups, size).reshape(rows, size)
            ids = ids.view(rows, size, *[1] * (len(weight.shape) - 2))
            kept.append(Label(ids, axes=frozenset({key})))
        return replace(weight, labels=tuple(kept))

    def note(self, label: Label, role: str) -> None:
        """Note what the axes that a label lies on were seen to do."""
        for key in label.axes:
            self.roles.setdefault(key, set()).add(role)

    def _register(self, key: AxisKey, size: int) -> torch.Tensor:
        if key not in self.found:
            ids = self.ids.fresh(size)
            self.found[key] = ids.numpy()
            self.ids.sign(ids)
        return torch.from_numpy(self.found[key])


def _along(ids: torch.Tensor, dim: int, ndim: int) -> torch.Tensor:
    return ids.view([-1 if d == dim else 1 for d in range(ndim)])


def broadcast_together(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Expand two tensors of ids to their common shape."""
    shape = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    return a.expand(shape), b.expand(shape)


def compact(ids: torch.Tensor) -> torch.Tensor:
    """Cut axes along which ids are all the same down to size 1."""
    for d, size in enumerate(ids.shape):
        first = ids.narrow(d, 0, 1)
        if size > 1 and (ids.stride(d) == 0 or torch.equal(ids, first.expand_as(ids))):
            ids = first
    return ids


def tidy(ids: Ids, labels: Iterable[Label]) -> tuple[Label, ...]:
    """Bring labels up to date: one id a channel, and none without a channel that can move."""
    fresh = (replace(label, ids=compact(ids.roots(label.ids))) for label in labels)
    return tuple(label for label in fresh if label.ids.numel() > 1)
