"""A weight fused with its transported self: λ Tᵀ W1 T_prev + (1 − λ) W2, a few rows at a time."""

from __future__ import annotations

import numpy as np

from otbr_fast.repair.maps import Floats, NeuronMap

_ENTRIES = 1 << 19  # of a block of rows, which should stay in the second-level cache


def blend(
    weight: Floats,
    rows: NeuronMap,
    inputs: NeuronMap | None,
    lambda_: float,
    out: Floats,
    *,
    n_threads: int | None = None,
) -> None:
    """Write into ``out`` the share λ of a transported weight and the rest of the weight itself.

    Besides ``out`` only some rows are held at a time, in the weight's own precision; sums are in
    float64.

    Parameters
    ----------
    weight : ndarray of float32 or float64, shape (n_out, n_in, ...)
        The backdoored network's weight W2, C-contiguous.
    rows : NeuronMap
        Tᵀ of the neurons; what it does not take of pruned neurons need not be 0 in ``weight``.
    inputs : NeuronMap, optional
        T_prevᵀ of the channels it reads; they stay as they are by default.
    lambda_ : float
        λ.
    out : ndarray of the same shape and dtype
        C-contiguous; not the memory of ``weight``.
    n_threads : int, optional
        All cores by default. The result does not depend on it.

    Notes
    -----
    Maps of transport take shares that sum to 1, so what comes out is between the weight's values:
    a finite weight stays finite.
    """
    n_out, n_in = weight.shape[:2]
    neurons = weight.reshape(1, n_out, -1)
    result = out.reshape(1, n_out, -1)
    size = max(1, _ENTRIES // max(1, neurons.shape[2]))
    push, keep = rows.scaled(lambda_), 1 - lambda_
    buffer = np.empty((1, min(size, n_out), neurons.shape[2]), weight.dtype)
    for start in range(0, n_out, size):
        stop = min(start + size, n_out)
        part, base, target = push.part(start, stop), neurons[:, start:stop], result[:, start:stop]
        if inputs is None:
            part.apply(neurons, target, keep=keep, base=base, n_threads=n_threads)
            continue
        moved = buffer[:, : stop - start]
        part.apply(neurons, moved, n_threads=n_threads)
        moved, base, target = (x.reshape(stop - start, n_in, -1) for x in (moved, base, target))
        inputs.apply(moved, target, keep=keep, base=base, n_threads=n_threads)
