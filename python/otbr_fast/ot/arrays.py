"""numpy arrays and CPU torch tensors, without importing torch.

A tensor can only come from somebody who has imported torch, so it is found in `sys.modules`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]  # C-contiguous, float32 or float64
Vector = NDArray[np.float64]


def is_tensor(x: object) -> bool:
    """Whether this is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def to_numpy(x: Any, name: str) -> NDArray[Any]:
    """Take any array-like as a numpy array, without a copy where that is possible.

    Raises
    ------
    ValueError
        A tensor on a GPU or one that requires a gradient, a sparse matrix, complex numbers.
    """
    if is_tensor(x):
        if x.device.type != "cpu":
            raise ValueError(
                f"{name} is on {x.device}; the solvers run on the CPU, use {name}.cpu()"
            )
        if x.requires_grad:
            raise ValueError(
                f"{name} requires a gradient, and the solvers give none; use {name}.detach()"
            )
        half = {"torch.float16", "torch.bfloat16"}
        x = (x.float() if str(x.dtype) in half else x).numpy()
    if hasattr(x, "tocoo"):
        raise ValueError(f"{name} is a sparse matrix, which is not supported; give a dense one")
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {array.dtype}; real numbers are needed")
    return array


def matrix(x: Any, name: str) -> Matrix:
    """Take as a C-contiguous matrix, float32 if it is that or half precision, else float64."""
    array = to_numpy(x, name)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; a matrix is needed")
    single = array.dtype in (np.float16, np.float32)
    return np.ascontiguousarray(array, dtype=np.float32 if single else np.float64)


def masses(x: Any, name: str, length: int) -> Vector:
    """Take as a float64 vector; None and an empty list stand for uniform masses."""
    array = np.empty(0) if x is None else to_numpy(x, name)
    if array.ndim == 1 and array.size == 0:
        return np.full(length, 1.0 / length) if length else np.empty(0)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; a vector of {length} masses is needed")
    return np.ascontiguousarray(array, dtype=np.float64)


_Default = TypeVar("_Default", int, None)


def count(x: Any, name: str, default: _Default) -> int | _Default:
    """Take as a positive whole number; a float that is one will do, as in POT."""
    if x is None:
        return default
    if x != int(x) or x < 1:
        raise ValueError(f"{name} is {x}; it must be a whole number, at least 1, or None")
    return int(x)


def like(array: NDArray[Any], sources: Iterable[Any]) -> Any:
    """Give back the kind of the sources: a tensor if any of them is one."""
    return as_tensor(array) if any(is_tensor(x) for x in sources) else array


def as_tensor(array: NDArray[Any]) -> Any:
    """Give back a tensor that shares the array's memory."""
    return sys.modules["torch"].from_numpy(array)
