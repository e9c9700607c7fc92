"""Operations that only move entries: channel ids move with them, by the very same operation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from otbr_fast.channels.labels import FIXED, Axes, AxisKey, Label, Labelled, compact, tidy

MOVING = frozenset(
    {
        "view", "reshape", "_unsafe_view", "view_as", "reshape_as", "permute",
        "transpose", "t", "numpy_T", "mT", "movedim", "moveaxis", "swapaxes", "swapdims",
        "ravel", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "expand_as",
        "select", "slice",
        "narrow", "chunk", "split", "split_with_sizes", "unbind", "tensor_split", "cat",
        "concat", "stack", "hstack", "vstack", "roll", "flip", "repeat", "tile",
        "repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
        "native_channel_shuffle", "pad", "unfold", "im2col", "diagonal", "index",
        "index_select",
    }
)  # fmt: skip
"""Names of ATen operations that move entries."""

COPYING = frozenset(
    {
        "contiguous", "clone", "alias", "detach", "to", "_to_copy", "type_as",
        "lift_fresh_copy", "dropout", "feature_dropout", "alpha_dropout",
    }
)  # fmt: skip
"""Names of those that leave each entry where it is (dropout does, in eval mode)."""


def move(
    axes: Axes, name: str, args: Sequence[object], kwargs: dict[str, object]
) -> list[list[Label]]:
    """Label what an operation that moves entries makes.

    Parameters
    ----------
    axes : Axes
    name : str
        Of the ATen operation; it is called with ids in place of the operands' numbers.
    args, kwargs
        What it was called with.

    Returns
    -------
    list of list of Label
        The labels of each output.
    """
    operation = getattr(torch.ops.aten, _SAME.get(name, name))
    operands = operands_of(args, kwargs)
    outputs: list[list[Label]] = []
    for slot in _slots(axes, operands):
        if name in ("cat", "concat"):
            _unify_tokens(axes, slot, args[1] if len(args) > 1 else kwargs.get("dim", 0))
        ids = iter(
            [
                _full(axes, label, operand, _dims(slot))
                for label, operand in zip(slot, operands, strict=True)
            ]
        )
        if name in _ON_FLOATS:
            ids = iter([each.double() for each in ids])
        moved = operation(
            *(_substituted(arg, ids) for arg in args),
            **{key: _substituted(arg, ids) for key, arg in kwargs.items()},
        )
        keys = frozenset[AxisKey]().union(*(label.axes for label in slot if label))
        results = [moved] if isinstance(moved, torch.Tensor) else list(moved)
        outputs = outputs or [[] for _ in results]
        for labels, result in zip(outputs, results, strict=True):
            small = compact(result.long())
            axes.ids.sign(small)
            labels.append(Label(small, keys))
    return [list(tidy(axes.ids, labels)) for labels in outputs]


_SAME = {"view": "reshape", "_unsafe_view": "reshape", "view_as": "reshape_as"}
"""Views need numbers that lie in order in memory, but ids need not."""

_ON_FLOATS = frozenset({"pad", "im2col"})
"""Torch has these for floating point numbers only; below 2^53 they are exact ids."""


def _unify_tokens(axes: Axes, slot: Sequence[Label | None], dim: object) -> None:
    """Make one what is laid side by side, but not along its channels' axis: tokens of one kind."""
    assert isinstance(dim, int)
    labels = [label for label in slot if label is not None]
    if any(dim % label.ids.ndim in label.dims for label in labels):
        return
    for label in labels[1:]:
        axes.ids.unify(labels[0].ids, label.ids, "tokens side by side")


def operands_of(*args: object) -> list[Labelled]:
    """Return all labelled operands among arguments, in the order in which they are met."""
    found: list[Labelled] = []
    for arg in args:
        if isinstance(arg, Labelled):
            found.append(arg)
        elif isinstance(arg, (tuple, list)):
            found += operands_of(*arg)
        elif isinstance(arg, Mapping):
            found += operands_of(*arg.values())
    return found


def _substituted(arg: object, ids: Iterator[torch.Tensor]) -> object:
    """Put ids in place of operands, in the order of `operands_of`."""
    if isinstance(arg, Labelled):
        return next(ids)
    if isinstance(arg, (tuple, list)):
        return [_substituted(each, ids) for each in arg]
    return arg


def _full(axes: Axes, label: Label | None, operand: Labelled, dims: frozenset[int]) -> torch.Tensor:
    """Return ids for each entry, without using memory for those that repeat.

    A constant that is the same everywhere is made of channels of its own.
    """
    if label is not None:
        return label.ids.expand(operand.shape)
    is_uniform = operand.reach is not None and all(size == 1 for size in operand.reach)
    if operand.is_active or not is_uniform:
        return torch.tensor(FIXED).expand(operand.shape)
    shape = [size if d in dims else 1 for d, size in enumerate(operand.shape)]
    ids = axes.ids.fresh(math.prod(shape)).view(shape)
    axes.ids.sign(ids)
    return ids.expand(operand.shape)


def _slots(axes: Axes, operands: Sequence[Labelled]) -> list[list[Label | None]]:
    """Match the operands' labels: those along the same axes belong together."""
    slots: list[list[Label | None]] = []
    for place, operand in enumerate(operands):
        for label in tidy(axes.ids, operand.labels):
            free = [slot for slot in slots if slot[place] is None]
            fitting = [slot for slot in free if _dims(slot) & label.dims]
            if fitting:
                slot = max(fitting, key=lambda one: len(_dims(one) & label.dims))
            else:
                slot = [None] * len(operands)
                slots.append(slot)
            slot[place] = label
    return slots


def _dims(slot: Sequence[Label | None]) -> frozenset[int]:
    return frozenset[int]().union(*(label.dims for label in slot if label))
