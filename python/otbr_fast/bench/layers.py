"""Problems from the layers of a checkpoint: pruned against backdoored rows, as in the repair."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from otbr_fast.bench.problem import Array, Problem


def layer_rows(path: Path, model_name: str | None = None) -> dict[str, Array]:
    """Read the neurons of a network's convolutions, one layer for each number of neurons.

    Parameters
    ----------
    path : Path
        What `otbr_fast.io.load_checkpoint` reads.
    model_name : str, optional
        The architecture, where neither description nor weights tell it.

    Returns
    -------
    dict of str to ndarray, shape (n, d)
        By the layer's name; of several layers with n neurons the deepest, in float64.

    Raises
    ------
    CheckpointError, UnsupportedModelError
        The file is refused, or the network has no chain of convolutions.
    """
    from otbr_fast.io import load_checkpoint
    from otbr_fast.repair import conv_chain
    from otbr_fast.repair.weights import rows

    model, _ = load_checkpoint(path).build(model_name)
    deepest = {layer.out_channels: layer.name for layer in conv_chain(model).layers}
    return {name: rows(model, name).astype(np.float64) for _, name in sorted(deepest.items())}


def layer_problem(rows: Array, share: float, seed: int, dtype: str) -> Problem:
    """Make the problem of a layer of which a random share of neurons is pruned; lognormal b."""
    n = len(rows)
    rng = np.random.default_rng((seed, n))
    X = rows.copy()
    X[rng.choice(n, round(share * n), replace=False)] = 0
    b = rng.lognormal(size=n)
    return Problem(np.full(n, 1 / n), b / b.sum(), X.astype(dtype), rows.astype(dtype), "euclidean")
