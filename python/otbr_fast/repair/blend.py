"""A weight fused with its transported self: λ Tᵀ W1 T_prev + (1 − λ) W2, a few rows at a time."""

from __future__ import annotations

import numpy as np

from otbr_fast.repair.maps import Floats, NeuronMap

_ENTRIES = 1 << 19  # of a block of rows, which should stay in the second-level cache


def blend(
    weight: Floats,
    base: Floats,
    rows: NeuronMap | None,
    inputs: NeuronMap | None,
    lambda_: float,
    out: Floats,
    *,
    n_threads: int | None = None,
) -> bool:
    """Write the share λ of a transported weight, and the rest of another, into ``out``.

    Besides ``out`` only some rows are held at a time. All arrays are of one type, float32 or
    float64, and C-contiguous; sums are in float64.

    Parameters
    ----------
    weight : ndarray, shape (n_out, n_in, q)
        What is transported.
    base : ndarray, shape (n_out, n_in, q)
        The backdoored network's weight W2.
    rows : NeuronMap, optional
        Tᵀ of the neurons that the weight makes; by default they stay in place.
    inputs : NeuronMap, optional
        T_prevᵀ of the channels that it reads; by default, if there are ``rows``, they stay.
    lambda_ : float
        λ.
    out : ndarray, shape (n_out, n_in, q)
        Not the memory of ``weight`` or ``base``.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Returns
    -------
    bool
        Whether all that was written is finite.
    """
    n_out, n_in, q = weight.shape
    size = max(1, _ENTRIES // max(1, n_in * q))
    keep = 1 - lambda_
    last = None if inputs is None else inputs.scaled(lambda_)
    buffer = np.empty((min(size, n_out), n_in, q), weight.dtype)
    finite = True
    for start in range(0, n_out, size):
        stop = min(start + size, n_out)
        moved, own, target = weight[start:stop], base[start:stop], out[start:stop]
        if rows is not None and last is not None:
            moved = buffer[: stop - start]
            rows.part(start, stop).apply(_flat(weight), _flat(moved), n_threads=n_threads)
        if last is not None:
            last.apply(moved, target, keep=keep, base=own, n_threads=n_threads)
        elif rows is not None:
            share = rows.part(start, stop).scaled(lambda_)
            flat = (_flat(weight), _flat(target))
            share.apply(*flat, keep=keep, base=_flat(own), n_threads=n_threads)
        finite = finite and _is_finite(target)
    return finite


def _is_finite(values: Floats) -> bool:
    """Tell by their sum, which is quick; where that overflows, one by one."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum()
    return bool(np.isfinite(total)) or bool(np.isfinite(values).all())


def _flat(weight: Floats) -> Floats:
    """View a weight with one row a neuron, as what lies along a middle axis."""
    return weight.reshape(1, len(weight), -1)
