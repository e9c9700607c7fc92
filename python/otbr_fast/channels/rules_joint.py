"""Operations entry by entry: what acts on a channel moves with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otbr_fast.channels.labels import Axes, Label, Labelled, broadcast_together, tidy


def join(
    axes: Axes, operands: Sequence[Labelled], why: str, *, is_sum: bool = False
) -> tuple[Labelled, frozenset[int]]:
    """Label the result of an operation entry by entry on operands that are broadcast.

    Channels that meet in one entry are one channel. A channel that meets what does not vary along
    its axes is left alone; one that meets what varies there, but has no channel, is bound to its
    place.

    Returns
    -------
    result : Labelled
    summed : frozenset of int
        If it is a sum: the channels that at least two activations contribute to.
    """
    ndim = max(len(operand.shape) for operand in operands)
    result = _aligned(axes, operands[0], ndim)
    summed: set[int] = set()
    for operand in operands[1:]:
        result = _joined(axes, result, _aligned(axes, operand, ndim), why, summed)
    labels = tidy(axes.ids, result.labels)
    joined = Labelled(result.shape, labels, result.is_active, reach=result.reach)
    return joined, frozenset(summed if is_sum else ())


def _aligned(axes: Axes, operand: Labelled, ndim: int) -> Labelled:
    """Give an operand the result's number of axes."""
    missing = ndim - len(operand.shape)
    labels = (
        Label(label.ids.view([1] * missing + list(label.ids.shape)), label.axes)
        for label in tidy(axes.ids, operand.labels)
    )
    return Labelled(
        (1,) * missing + operand.shape,
        tuple(labels),
        operand.is_active,
        reach=(1,) * missing + operand.extent,
    )


def _joined(axes: Axes, a: Labelled, b: Labelled, why: str, summed: set[int]) -> Labelled:
    labels: list[Label] = []
    left = list(b.labels)
    is_active = a.is_active or b.is_active
    for label in a.labels:
        if _is_constant(b, label):
            labels.append(_kept(axes, label, a, is_active))
            continue
        partner = _partner(label, left)
        if partner is None:
            labels.extend(_bound(axes, label, b, why))
            continue
        left.remove(partner)
        axes.ids.unify(label.ids, partner.ids, why)
        if a.is_active and b.is_active:
            summed.update(axes.ids.roots(label.ids).ravel().tolist())
        merged = broadcast_together(label.ids, partner.ids)[0]
        labels.append(Label(merged, _carried(axes, label, partner, is_active)))
    for label in left:
        if _is_constant(a, label):
            labels.append(_kept(axes, label, b, is_active))
        else:
            labels.extend(_bound(axes, label, a, why))
    shape = np.broadcast_shapes(a.shape, b.shape)
    reach = np.broadcast_shapes(a.extent, b.extent)
    return Labelled(shape, tidy(axes.ids, labels), is_active, reach=reach)


def _is_constant(operand: Labelled, label: Label) -> bool:
    return all(operand.extent[d] == 1 for d in label.dims)


def _bound(axes: Axes, label: Label, other: Labelled, why: str) -> list[Label]:
    """Bind channels to their places along the axes on which what they meet varies.

    If it varies along all of the channels' axes, they are fixed.
    """
    if other.is_active:
        axes.note(label, "carried")
    varying = frozenset(d for d in label.dims if other.extent[d] > 1)
    if varying == label.dims:
        axes.ids.fix(label.ids, why)
        return []
    axes.ids.block(label.ids, varying)
    return [Label(label.ids) if other.is_active else label]


def _partner(label: Label, others: Sequence[Label]) -> Label | None:
    """Return the label that varies along most of the same axes."""
    meeting = [other for other in others if other.dims & label.dims]
    same = (len(other.dims & label.dims) - len(other.dims ^ label.dims) for other in meeting)
    return max(zip(same, range(len(meeting)), meeting, strict=True), default=(0, 0, None))[2]


def _kept(axes: Axes, label: Label, owner: Labelled, is_active: bool) -> Label:
    """Note that a parameter spreads its channels over an activation, if that is so."""
    if not is_active or owner.is_active:
        return label
    axes.note(label, "writer")
    return Label(label.ids)


def _carried(axes: Axes, a: Label, b: Label, is_active: bool) -> frozenset[tuple[str, int, int]]:
    if not is_active:
        return a.axes | b.axes
    axes.note(a, "carried")
    axes.note(b, "carried")
    return frozenset()
