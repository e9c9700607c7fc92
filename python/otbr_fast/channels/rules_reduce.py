"""Operations over whole axes: sums, means, norms, softmax; and pooling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from otbr_fast.channels.labels import Axes, Label, Labelled, tidy


def mix(axes: Axes, x: Labelled, dims: Iterable[int]) -> list[Label]:
    """Label what treats all entries along some axes alike and together, as softmax does.

    Such an operation does not care for their order. If channels lie along other axes too, they
    can be exchanged only within a place on those.
    """
    over = frozenset(d % len(x.shape) for d in dims)
    labels = list(tidy(axes.ids, x.labels))
    for label in labels:
        if label.dims & over:
            axes.mixed.update(label.ids.ravel().tolist())
            if label.dims - over:
                axes.ids.block(label.ids, label.dims - over)
    return labels


def reduce(axes: Axes, x: Labelled, dims: Iterable[int], keepdim: bool) -> list[Label]:
    """Label a sum over axes: channels along them end."""
    over = frozenset(d % len(x.shape) for d in dims)
    passing = [label for label in mix(axes, x, over) if not label.dims & over]
    if keepdim:
        return passing
    kept = [d for d in range(len(x.shape)) if d not in over]
    return [replace(la, ids=la.ids.reshape([la.ids.shape[d] for d in kept])) for la in passing]


def pool(axes: Axes, x: Labelled, n_dims: int, output: Sequence[int], why: str) -> list[Label]:
    """Label pooling or resizing over the last axes: channels along them are fixed."""
    last = frozenset(range(len(x.shape) - n_dims, len(x.shape)))
    if all(output[d] == 1 for d in last):  # all of them at once
        return reduce(axes, x, last, keepdim=True)
    labels = []
    for label in tidy(axes.ids, x.labels):
        if label.dims & last:
            axes.ids.fix(label.ids, why)
        else:
            labels.append(label)
    return labels


def ordered(axes: Axes, x: Labelled, dims: Iterable[int], why: str) -> list[Label]:
    """Label what depends on the order of the entries along some axes: channels there are fixed."""
    over = frozenset(d % len(x.shape) for d in dims)
    labels = []
    for label in tidy(axes.ids, x.labels):
        if label.dims & over:
            axes.ids.fix(label.ids, why)
        else:
            labels.append(label)
    return labels
