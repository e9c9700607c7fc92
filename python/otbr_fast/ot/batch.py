"""Many problems at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from otbr_fast import _core
from otbr_fast.ot.arrays import constant, count, to_numpy
from otbr_fast.ot.result import OTResult
from otbr_fast.ot.solver import solve


def solve_batch(
    M: Any, a: Any = None, b: Any = None, *, n_threads: int | None = None, **options: Any
) -> list[OTResult]:
    """Solve several problems in parallel, each on one thread.

    Parameters
    ----------
    M : array-like, shape (k, n, m) or (n, m), or a list of k matrices
        Costs; one matrix is shared by all problems, without a copy.
    a, b : array-like, shapes (k, n) and (k, m) or (n,) and (m,), or a list of k vectors, optional
        Masses, as in `solve`; one vector is shared by all problems.
    n_threads : int, optional
        Problems solved at a time; as many as there are cores by default.
    **options
        Passed to `solve`.

    Returns
    -------
    list of OTResult, length k

    Raises
    ------
    ValueError
        Different numbers of problems, none at all, or what `solve` refuses.
    """
    given = {"M": _problems(M, 2), "a": _problems(a, 1), "b": _problems(b, 1)}
    lengths = {name: len(each) for name, each in given.items() if each is not None}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{k} of {name}" for name, k in lengths.items()) or "one of each"
        raise ValueError(f"a batch needs the same number of problems everywhere; found {found}")
    shared = {"M": M, "a": a, "b": b}
    arguments = [
        tuple(shared[name] if each is None else each[k] for name, each in given.items())
        for k in range(next(iter(lengths.values())))
    ]
    workers = count(n_threads, "n_threads", None) or _core.default_threads()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="otbr-batch")
    try:
        return list(pool.map(lambda problem: solve(*problem, **options, n_threads=1), arguments))
    finally:
        # After an error or Ctrl-C: what has not begun does not begin.
        pool.shutdown(cancel_futures=True)


def _problems(x: Any, dimensions: int) -> list[Any] | None:
    """Return the k arrays, or None if there is one for all."""
    if x is None:
        return None
    if isinstance(x, (list, tuple)) and len(x) and getattr(x[0], "ndim", 0):
        return list(x)
    return list(x) if to_numpy(constant(x), "x").ndim > dimensions else None
