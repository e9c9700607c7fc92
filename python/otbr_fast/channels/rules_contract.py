"""Sums of products: convolutions, linear layers, matrix products, attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from otbr_fast.channels.labels import Axes, Label, Labelled, compact, tidy

Dims = frozenset[int]


def contract(axes: Axes, x: Labelled, y: Labelled, equation: str, why: str) -> Labelled:
    """Label a sum of products, in einsum's notation.

    What is summed over is read: the channels that meet there are one channel each, whatever the
    other axes, and end. Channels along axes that only one of the two has pass on. Axes that both
    have and that are kept (groups, heads) bind: channels that lie along such an axis and others
    can be exchanged only within a place on it; those that lie along it alone meet entry by entry.
    """
    left, _, kept = equation.partition("->")
    letters_x, _, letters_y = left.partition(",")
    letters = "".join(dict.fromkeys(letters_x + letters_y))
    a, b = _spread(x, letters_x, letters), _spread(y, letters_y, letters)
    summed = frozenset(i for i, letter in enumerate(letters) if letter not in kept)
    bound = frozenset(i for i in range(len(letters)) if a.shape[i] > 1 < b.shape[i]) - summed
    _read(axes, a, b, summed, bound, why)
    _meet(axes, a, b, bound, why)
    passing = [*_passing(axes, a, summed, bound), *_passing(axes, b, summed, bound)]
    is_active = x.is_active or y.is_active
    order = [letters.index(letter) for letter in kept]
    rest = [i for i in range(len(letters)) if i not in order]
    labels = []
    for label in _without_repeats(passing):
        if is_active:
            axes.note(label, "writer")
            label = Label(label.ids)
        ids = label.ids.permute(*order, *rest)
        labels.append(replace(label, ids=ids.reshape(ids.shape[: len(order)])))
    sizes = (max(a.shape[i], b.shape[i]) for i in order)
    return Labelled(tuple(sizes), tuple(labels), is_active)


def _spread(operand: Labelled, own: str, letters: str) -> Labelled:
    """Give an operand all letters' axes, of size 1 where it has none."""

    def spread(values: Sequence[int]) -> list[int]:
        return [values[own.index(letter)] if letter in own else 1 for letter in letters]

    order = [own.index(letter) for letter in letters if letter in own]
    labels = []
    for label in operand.labels:
        ids = label.ids.permute(order).reshape(spread(label.ids.shape))
        labels.append(replace(label, ids=ids))
    return Labelled(tuple(spread(operand.shape)), tuple(labels), operand.is_active)


def _read(axes: Axes, a: Labelled, b: Labelled, summed: Dims, bound: Dims, why: str) -> None:
    """Let the channels that are summed over meet."""
    left = [label for label in tidy(axes.ids, b.labels) if label.dims & summed]
    for label in tidy(axes.ids, a.labels):
        if not label.dims & summed:
            continue
        meeting = [other for other in left if other.dims & label.dims & summed]
        if not meeting:
            axes.ids.fix(label.ids, why)
            continue
        other = max(meeting, key=lambda one: len(one.dims & label.dims))
        left.remove(other)
        kept = label.dims & other.dims & (summed | bound)
        axes.ids.unify(
            _collapsed(axes, label.ids, kept, why), _collapsed(axes, other.ids, kept, why), why
        )
        if kept & bound:
            axes.ids.block(axes.ids.roots(_cut(label.ids, kept)), kept & bound)
        axes.note(label, "reader")
        axes.note(other, "reader")
    for other in left:
        axes.ids.fix(other.ids, why)


def _meet(axes: Axes, a: Labelled, b: Labelled, bound: Dims, why: str) -> None:
    """Let channels that lie along bound axes alone meet what the other has there."""
    for one, another in ((a, b), (b, a)):
        for label in tidy(axes.ids, one.labels):
            if not label.dims <= bound:
                continue
            others = [la for la in tidy(axes.ids, another.labels) if la.dims & label.dims]
            if not others:
                axes.ids.fix(label.ids, why)
            for other in others:
                whole = _collapsed(axes, other.ids, label.dims, why)
                axes.ids.unify(label.ids, whole, why)
                axes.note(label, "carried")
                axes.note(other, "carried")


def _passing(axes: Axes, owner: Labelled, summed: Dims, bound: Dims) -> Iterator[Label]:
    for label in tidy(axes.ids, owner.labels):
        if label.dims & summed:
            continue
        if label.dims & bound and not label.dims <= bound:
            axes.ids.block(label.ids, label.dims & bound)
        if label.dims <= bound:  # it acts on each channel by itself: no writer
            label = Label(label.ids)
        yield label


def _cut(ids: torch.Tensor, kept: Dims) -> torch.Tensor:
    """Return the first place along all axes but the kept ones."""
    for d in range(ids.ndim):
        if d not in kept:
            ids = ids.narrow(d, 0, 1)
    return ids


def _collapsed(axes: Axes, ids: torch.Tensor, kept: Dims, why: str) -> torch.Tensor:
    """Make channels one that differ only in axes that are not kept, and return them once."""
    first = _cut(ids, kept)
    axes.ids.unify(ids, first, why)
    return compact(axes.ids.roots(first))


def _without_repeats(labels: Iterable[Label]) -> list[Label]:
    found: list[Label] = []
    for label in labels:
        for i, known in enumerate(found):
            if known.ids.shape == label.ids.shape and torch.equal(known.ids, label.ids):
                found[i] = Label(known.ids, known.axes | label.axes)
                break
        else:
            found.append(label)
    return found
