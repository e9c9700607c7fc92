"""PyTorch files, read without ever running what is in them."""

from __future__ import annotations

import operator
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otbr_fast.errors import CheckpointError

_REFUSED = re.compile(r"(?:GLOBAL |got <class ')([\w.]+)")  # in the words of torch.load

SafeGlobal = Callable[..., Any] | tuple[Callable[..., Any], str]


def read_torch_file(path: Path) -> object:
    """Read a file that ``torch.save`` wrote: tensors, numbers, texts, containers, numeric arrays.

    Raises
    ------
    CheckpointError
        The file cannot be read, is damaged, or holds anything else, which is refused by name.
        Nothing in it has been run.
    """
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
    except Exception as error:  # damaged bytes may raise anything while they are decoded
        raise CheckpointError(f"{path} {_reason(error)}") from error
    return content


def _reason(error: Exception) -> str:
    refused = _REFUSED.search(str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return (
            f"is refused: it asks for {refused[1]!r}, and reading that could run code. Nothing was "
            "run. Ask for the weights alone, as .safetensors or torch.save(model.state_dict(), ...)"
        )
    return (
        "is damaged, incomplete, not a PyTorch file, or holds other things than weights. Nothing "
        "in it was run. Get an undamaged copy, of the weights alone."
    )


def _numpy_globals() -> list[SafeGlobal]:
    """List what rebuilds numeric arrays and scalars, under numpy's names before and since 2.0.

    The rebuilding functions are numpy's own, as an array's pickle names them. Of the types only
    those of numbers are listed: arrays of objects stay refused.
    """
    rebuilders: dict[str, Callable[..., Any]] = {
        "_reconstruct": operator.itemgetter(0)(np.empty(0).__reduce__()),
        "scalar": operator.itemgetter(0)(np.float64(0).__reduce__()),
    }
    renamed: list[SafeGlobal] = [
        (function, f"{module}.multiarray.{name}")
        for name, function in rebuilders.items()
        for module in ("numpy.core", "numpy._core")
    ]
    number_types = [type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efd"]
    return [np.ndarray, np.dtype, *renamed, *dict.fromkeys(number_types)]
