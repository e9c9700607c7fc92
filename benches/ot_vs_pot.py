"""Speed of emd, sinkhorn and cost_matrix against POT, paired in one run on the same work.

    python benches/ot_vs_pot.py [--sizes 512 1024 2048 4096] [--repeats 3] [--threads 1]

Each line is the median over the repeats of our time, of POT's and of their ratio; ours and POT's
runs alternate. Both sides get the same number of threads: for POT's Sinkhorn and distances, which
run on BLAS, through threadpoolctl. Objectives are compared in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import ot as pot
from threadpoolctl import threadpool_limits

import otbr_fast
from otbr_fast import ot

NO_LIMIT = 10**9
DIMENSION = 256


def points(family: str, n: int) -> tuple[Any, Any, Any]:
    """Make rows X, Y and masses b of a family; a is uniform.

    I: independent gaussian rows. P: pruned against backdoored rows, a tenth of them zero,
    lognormal b. L: points in the unit square.
    """
    rng = np.random.default_rng(n)
    uniform = np.full(n, 1 / n)
    if family == "L":
        return rng.random((n, 2)), rng.random((n, 2)), uniform
    Y = rng.standard_normal((n, DIMENSION))
    if family == "I":
        return rng.standard_normal((n, DIMENSION)), Y, uniform
    X = Y.copy()
    X[rng.choice(n, n // 10, replace=False)] = 0
    b = rng.lognormal(size=n)
    return X, Y, b / b.sum()


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def compare(
    label: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    repeats: int,
    *,
    rtol: float,
    measure: Callable[[Any], Any] = lambda result: result,
) -> None:
    """Time both in turn; what is measured of the first results must agree."""
    times = []
    for repeat in range(repeats):
        (mine, x), (other, y) = timed(ours), timed(theirs)
        if repeat == 0:
            np.testing.assert_allclose(measure(x), measure(y), rtol=rtol)
        times.append((mine, other, other / mine))
    mine, other, ratio = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{label:28} {mine:9.4f} {other:9.4f} {ratio:7.2f}", flush=True)


def compare_exact(family: str, n: int, repeats: int, threads: int) -> None:
    X, Y, b = points(family, n)
    a, M = np.full(n, 1 / n), pot.dist(X, Y, metric="euclidean")
    ours = partial(ot.emd2, a, b, M, numThreads=threads)
    theirs = partial(pot.emd2, a, b, M, numItermax=NO_LIMIT)
    compare(f"emd {family} {n}", ours, theirs, repeats, rtol=1e-9)


def compare_entropic(n: int, relative_reg: float, repeats: int, threads: int) -> None:
    """Time to an L2 marginal error of 1e-7."""
    X, Y, b = points("I", n)
    a, M = np.full(n, 1 / n), pot.dist(X, Y, metric="euclidean")
    problem = (a, b, M, relative_reg * M.max())
    ours = partial(ot.sinkhorn, *problem, stopThr=1e-7, n_threads=threads)
    theirs = partial(pot.sinkhorn, *problem, stopThr=1e-7, method="sinkhorn_log")
    compare(
        f"sinkhorn {relative_reg} max(M) {n}",
        ours,
        theirs,
        repeats,
        rtol=1e-6,
        measure=lambda plan: (plan * M).sum(),
    )


def compare_distances(n: int, dtype: str, repeats: int, threads: int) -> None:
    X, Y = (x.astype(dtype) for x in points("I", n)[:2])
    ours = partial(ot.cost_matrix, X, Y, n_threads=threads)
    theirs = partial(pot.dist, X, Y, metric="euclidean")
    compare(f"{dtype} distances {n} x {DIMENSION}", ours, theirs, repeats, rtol=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print({**otbr_fast.show_versions(), "used threads": args.threads})
    print(f"{'':28} {'ours (s)':>9} {'POT (s)':>9} {'ratio':>7}")
    with threadpool_limits(args.threads):
        for n in args.sizes:
            for family in ("I", "P", "L"):
                compare_exact(family, n, args.repeats, args.threads)
            compare_entropic(n, 0.05, args.repeats, args.threads)
            for dtype in ("float32", "float64"):
                compare_distances(n, dtype, args.repeats, args.threads)


if __name__ == "__main__":
    main()
