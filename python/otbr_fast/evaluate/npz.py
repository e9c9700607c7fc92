"""Arrays from npz files, with errors that name the file and the key."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from otbr_fast.errors import EvaluationDataError


def read_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[np.generic]]:
    """Read all arrays of numbers in an npz file; arrays of objects are refused, not unpickled."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except OSError as error:
        raise EvaluationDataError(f"{path} cannot be read: {error}.") from error
    except Exception as error:  # damaged bytes may raise anything while they are decoded
        raise EvaluationDataError(
            f"{path} is damaged or not an npz file of plain numbers: {error}."
        ) from error


def take(
    arrays: dict[str, npt.NDArray[np.generic]],
    key: str,
    path: str | os.PathLike[str],
    *,
    kinds: str,
    n_dims: tuple[int, ...],
) -> npt.NDArray[np.generic]:
    """Return the array under a key, of one of these numpy kinds ("u", "i", "f") and dimensions."""
    if key not in arrays:
        raise EvaluationDataError(f"{path} has no array {key!r}, only {sorted(arrays)}.")
    array = arrays[key]
    if array.dtype.kind not in kinds or array.ndim not in n_dims:
        raise EvaluationDataError(
            f"{key!r} in {path} is {array.dtype} of shape {array.shape}; "
            f"kind {kinds!r} with {' or '.join(map(str, n_dims))} dimensions is needed."
        )
    return array
