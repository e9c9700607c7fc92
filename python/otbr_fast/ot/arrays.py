"""numpy arrays and CPU torch tensors, without importing torch.

A tensor can only come from somebody who has imported torch, so it is found in `sys.modules`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

NO_LIMIT = 2**63  # what a count can be at most; more is the same

Matrix = NDArray[Any]  # C-contiguous, float32 or float64
Vector = NDArray[np.float64]


def is_tensor(x: object) -> bool:
    """Whether this is a torch tensor."""
    if type(x) is np.ndarray:
        return False
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_sparse(x: Any) -> bool:
    """Whether this is a sparse scipy array or torch tensor."""
    if type(x) is np.ndarray:
        return False
    return hasattr(x, "tocoo") or (is_tensor(x) and str(x.layout) != "torch.strided")


def any_tensor(sources: Iterable[Any]) -> bool:
    """Whether one of these is a torch tensor."""
    for x in sources:  # noqa: SIM110 (twice as fast as any(), and called for each small problem)
        if is_tensor(x):
            return True
    return False


def requires_grad(x: Any) -> bool:
    """Whether this is a tensor that wants a gradient."""
    return is_tensor(x) and bool(x.requires_grad)


def refuse_gradient(x: Any, name: str) -> None:
    """Refuse a tensor whose gradient would be lost."""
    if requires_grad(x):
        raise ValueError(
            f"{name} requires a gradient, and this function gives none (solve, emd2 and sinkhorn2 "
            f"give that of the cost); use {name}.detach()"
        )


def constant(x: Any) -> Any:
    """Take a tensor out of its graph; anything else stays as it is."""
    return x.detach() if is_tensor(x) else x


def to_numpy(x: Any, name: str) -> NDArray[Any]:
    """Take any array-like as a numpy array, without a copy where that is possible.

    Raises
    ------
    ValueError
        A tensor on a GPU or one that requires a gradient, a sparse matrix, complex numbers,
        masked entries.
    """
    if is_sparse(x):
        raise ValueError(f"{name} is sparse, and only emd and emd2 take that; give a dense one")
    if is_tensor(x):
        if x.device.type != "cpu":
            raise ValueError(
                f"{name} is on {x.device}; the solvers run on the CPU, use {name}.cpu()"
            )
        refuse_gradient(x, name)
        half = {"torch.float16", "torch.bfloat16"}
        x = (x.float() if str(x.dtype) in half else x).numpy()
    if np.ma.is_masked(x):
        raise ValueError(f"{name} has masked entries; fill them first, forbidden cells with inf")
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {array.dtype}; real numbers are needed")
    return array


def matrix(x: Any, name: str) -> Matrix:
    """Take as a C-contiguous matrix, float32 if it is that or half precision, else float64."""
    if type(x) is np.ndarray and x.dtype == np.float64 and x.ndim == 2 and _is_plain(x):
        return x
    array = to_numpy(x, name)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; a matrix is needed")
    single = array.dtype in (np.float16, np.float32)
    return _plain(array, np.float32 if single else np.float64)


def masses(x: Any, name: str, length: int) -> Vector:
    """Take as a float64 vector; None and an empty list stand for uniform masses."""
    if type(x) is np.ndarray and x.dtype == np.float64 and x.ndim == 1 and x.size == length:
        return x if _is_plain(x) else x.copy()
    array = np.empty(0) if x is None else to_numpy(x, name)
    if array.ndim == 1 and array.size == 0:
        return np.full(length, 1.0 / length) if length else np.empty(0)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; a vector of {length} masses is needed")
    return _plain(array, np.float64)


def _is_plain(x: NDArray[Any]) -> bool:
    return x.flags.c_contiguous and x.flags.aligned


def _plain(x: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Take as a C-contiguous array in which each number lies at a multiple of its size."""
    return np.require(x, dtype, ("C_CONTIGUOUS", "ALIGNED"))


def number(x: Any, name: str) -> float:
    """Take as a number; a tensor without dimensions is one.

    Raises
    ------
    ValueError
        It is none, or a tensor whose gradient would be lost.
    """
    refuse_gradient(x, name)
    try:
        return float(x)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {x!r}; one number is needed") from None


_Default = TypeVar("_Default", int, None)


def count(x: Any, name: str, default: _Default) -> int | _Default:
    """Take as a positive whole number; a float that is one will do, as in POT."""
    if x is None:
        return default
    try:
        whole = int(x)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if whole != x or whole < 1:
        raise ValueError(f"{name} is {x}; it must be a whole number, at least 1, or None")
    return min(whole, NO_LIMIT)


def like(array: NDArray[Any], sources: Iterable[Any]) -> Any:
    """Give back the kind of the sources: a tensor if any of them is one."""
    return as_tensor(array) if any_tensor(sources) else array


def as_tensor(array: NDArray[Any]) -> Any:
    """Give back a tensor that shares the array's memory."""
    return sys.modules["torch"].from_numpy(array)


def as_given(array: NDArray[Any], *sources: Any) -> Any:
    """Give back in the dtype of the first source that has a floating one, as a tensor if any is."""
    dtype = _first_floating_dtype(sources)
    if not any_tensor(sources):
        return array if dtype is None else array.astype(dtype, copy=False)
    if isinstance(dtype, np.dtype):
        return as_tensor(array.astype(dtype, copy=False))
    return as_tensor(array) if dtype is None else as_tensor(array).to(dtype)


def number_as_given(value: float, *sources: Any) -> Any:
    """Give back a number as a numpy scalar or a tensor without dimensions, as `as_given`."""
    if any_tensor(sources):
        return as_given(np.array(value), *sources)
    dtype = _first_floating_dtype(sources)  # a dtype without fields counts as false
    return np.float64(value) if dtype is None else dtype.type(value)


def stacked(numbers: list[Any]) -> Any:
    """Join numbers into a vector, a tensor if they are."""
    tensors = bool(numbers) and is_tensor(numbers[0])
    return sys.modules["torch"].stack(numbers) if tensors else np.array(numbers)


def _first_floating_dtype(sources: Iterable[Any]) -> Any:
    """Find numpy's or torch's dtype of the first source that has elements of a floating one."""
    for x in sources:
        if is_tensor(x):
            if x.is_floating_point() and x.numel():
                return x.dtype
        elif x is not None:
            array = np.asarray(x)
            if array.dtype.kind == "f" and array.size:
                return array.dtype.newbyteorder("=")
    return None
