"""What POT's front tells of an entropic solution besides returning it."""

from __future__ import annotations

import logging
import warnings

import numpy as np
from numpy.typing import NDArray

_LOGGER = logging.getLogger("otbr_fast.ot")


def log_errors(errors: NDArray[np.float64] | None, n_iter: int) -> None:
    """Log the errors on the way at level INFO, as `verbose` asks for."""
    _LOGGER.info("sinkhorn: error %s after %d passes", errors, n_iter)


def warn_of_limit(stopThr: float, numItermax: int, stacklevel: int) -> None:
    """Warn that the passes ran out before the error was small; `stacklevel` as in `warnings`."""
    warnings.warn(
        f"Sinkhorn did not reach stopThr = {stopThr} in {numItermax} iterations; increase "
        "numItermax or reg.",
        stacklevel=stacklevel + 1,
    )
