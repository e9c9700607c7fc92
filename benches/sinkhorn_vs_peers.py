"""Time of entropic solvers to an L1 marginal error of 1e-6, paired in one run on the same work.

    python benches/sinkhorn_vs_peers.py [--size 4096] [--threads 2] [--repeats 3] [--seconds 60]

A peer that is not installed is named; one that does not get there within `--seconds` (judged by
its speed over its first passes) is given with the error it got to. Errors are measured here, in
float64, from the plans. The last lines compare a pass of the iteration with one that finds the
maximum.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import ot as pot
import torch
from threadpoolctl import threadpool_limits

from otbr_fast import _core, ot

ERROR = 1e-6
Solver = Callable[[Any, Any, Any, float, int, float], Any]


def problem(family: str, n: int) -> tuple[Any, Any, Any]:
    """Make costs and masses: gaussian rows (I) or points in the unit square (L)."""
    rng = np.random.default_rng(n)
    if family == "I":
        X, Y = rng.standard_normal((2, n, 256))
    else:
        X, Y = rng.random((2, n, 2))
    b = rng.lognormal(size=n)
    return np.full(n, 1 / n), b / b.sum(), ot.cost_matrix(X, Y).astype(np.float32)


def error_of(plan: Any, a: Any, b: Any) -> float:
    plan = np.asarray(plan)
    rows, columns = plan.sum(1, dtype=np.float64), plan.sum(0, dtype=np.float64)
    return float(np.abs(rows - a).sum() + np.abs(columns - b).sum())


def pots(method: str, dtype: torch.dtype) -> Solver:
    def solve(a: Any, b: Any, M: Any, reg: float, passes: int, stop: float) -> Any:
        arrays = (torch.as_tensor(x, dtype=dtype) for x in (a, b, M))
        return pot.sinkhorn(*arrays, reg, method=method, numItermax=passes, stopThr=stop)

    return solve


def ours(threads: int) -> Solver:
    def solve(a: Any, b: Any, M: Any, reg: float, passes: int, stop: float) -> Any:
        return ot.sinkhorn(a, b, M, reg, numItermax=passes, stopThr=stop, n_threads=threads)

    return solve


def otts() -> Solver | None:
    try:
        import jax
        from ott.geometry import geometry
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import sinkhorn as ott_sinkhorn
    except ImportError:
        return None

    def solve(a: Any, b: Any, M: Any, reg: float, passes: int, stop: float) -> Any:
        geom = geometry.Geometry(cost_matrix=jax.numpy.asarray(M), epsilon=reg)
        solver = ott_sinkhorn.Sinkhorn(threshold=ERROR, max_iterations=passes, lse_mode=True)
        solution = solver(linear_problem.LinearProblem(geom, a=a, b=b))
        return np.asarray(solution.matrix)

    return solve


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def race(solver: Solver, data: tuple[Any, Any, Any], reg: float, seconds: float) -> str | float:
    """Seconds to the error, or why there are none."""
    a, b, M = data
    stop = ERROR / np.sqrt(len(b))
    solver(a, b, M, reg, 1, stop)  # what is compiled or loaded once does not count
    short, long = (timed(lambda k=k: solver(a, b, M, reg, k, 0.0))[0] for k in (2, 12))  # type: ignore[misc]
    passes = max(20, int(seconds / max((long - short) / 10, 1e-4)))
    taken, plan = timed(lambda: solver(a, b, M, reg, passes, stop))
    error = error_of(plan, a, b)
    return taken if error <= ERROR else f"{error:.0e} after {taken:.1f} s"


def passes_against_reading(n: int, threads: int) -> None:
    """Print the time of a pass, from runs of 2 and of 102 of them, against the maximum's."""
    for dtype in (np.float32, np.float64):
        a, b, M = problem("L", n)
        M = M.astype(dtype)
        reg = 0.02 * float(M.max())
        tensor = torch.from_numpy(M)

        def run(passes: int, M: Any = M, a: Any = a, b: Any = b, reg: float = reg) -> float:
            plan = np.empty_like(M)
            call = partial(_core.solve_entropic, M, a, b, reg, passes, 0.0, None, threads, plan)
            return min(timed(call)[0] for _ in range(2))

        ratios = []
        for _ in range(5):
            reading = min(timed(tensor.amax)[0] for _ in range(5))
            ratios.append((run(102) - run(2)) / 100 / reading)
        ratio = statistics.median(ratios)
        print(f"pass / reading M once, {M.dtype}, {threads} threads: {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    peers: dict[str, Solver | None] = {
        "POT kernel, torch f32": pots("sinkhorn", torch.float32),
        "POT kernel, torch f64": pots("sinkhorn", torch.float64),
        "POT sinkhorn_log, torch f32": pots("sinkhorn_log", torch.float32),
        "OTT-JAX": otts(),
    }
    print(f"n = {options.size}, {options.threads} threads, {options.repeats} repeats")
    with threadpool_limits(options.threads):
        for family in "IL":
            data = problem(family, options.size)
            for relative in (0.05, 0.005, 0.0005):
                reg = relative * float(data[2].max())
                compare(f"{family} {relative}", peers, data, reg, options)
        passes_against_reading(options.size, options.threads)


def compare(
    label: str,
    peers: dict[str, Solver | None],
    data: tuple[Any, Any, Any],
    reg: float,
    options: argparse.Namespace,
) -> None:
    own = ours(options.threads)
    mine = [race(own, data, reg, options.seconds) for _ in range(options.repeats)]
    reached = [x for x in mine if isinstance(x, float)]
    if len(reached) < len(mine):
        print(f"{label}: ours {mine}")
        return
    print(f"{label}: ours {statistics.median(reached):.3f} s", flush=True)
    for name, peer in peers.items():
        if peer is None:
            print(f"    {name}: not installed")
            continue
        ratios: list[float] = []
        for _ in range(options.repeats):
            theirs = race(peer, data, reg, options.seconds)
            paired = race(own, data, reg, options.seconds)
            if isinstance(theirs, str) or isinstance(paired, str):
                print(f"    {name}: {theirs}", flush=True)
                break
            ratios.append(theirs / paired)
        else:
            print(f"    {name}: {statistics.median(ratios):.1f} times ours", flush=True)


if __name__ == "__main__":
    main()
