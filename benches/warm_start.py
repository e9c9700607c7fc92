"""Warm re-solves: part of the masses b changed, or all costs a little, against POT from nothing.

    python benches/warm_start.py [--size 4096] [--repeats 3] [--share 0.1]

One thread on each side, the runs of a repeat one after the other; medians. POT is also given the
potentials of its own first solution.
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

from otbr_fast import ot
from otbr_fast.bench.families import FAMILIES

KINDS = ("I", "L", "assignment", "random")
NO_LIMIT = 10**9


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def compare(kind: str, size: int, share: float, repeats: int) -> None:
    problem = FAMILIES[kind].make(size, size, 0, "float64").with_cost()
    a, b, M = problem.a, problem.b, problem.cost()
    rng = np.random.default_rng(1)
    changed = b * np.where(rng.random(size) < share, rng.uniform(0.5, 1.5, size), 1.0)
    changed *= a.sum() / changed.sum()
    shaken = M * (1 + 0.01 * rng.random(M.shape))
    first = ot.solve(M, a, b, n_threads=1)
    _, log = pot.emd(a, b, M, numItermax=NO_LIMIT, log=True)
    for what, masses, costs in (("masses", changed, M), ("costs", b, shaken)):

        def theirs(b: Any = masses, M: Any = costs, **options: Any) -> float:
            return float(pot.emd2(a, b, M, numItermax=NO_LIMIT, **options))

        def ours(b: Any = masses, M: Any = costs, **options: Any) -> float:
            return float(ot.solve(M, a, b, n_threads=1, **options).value)

        runs: dict[str, Callable[[], float]] = {
            "POT": theirs,
            "POT, its potentials": partial(theirs, potentials_init=(log["u"], log["v"])),
            "cold": ours,
            "warm": partial(ours, warmstart=first),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            values = []
            for name, run in runs.items():
                seconds, value = timed(run)
                times[name].append(seconds)
                values.append(value)
            if not np.allclose(values, values[0], rtol=1e-9, atol=0):
                raise AssertionError(f"{kind}, {what}: they do not agree: {values}")
        of_pot = [p / w for p, w in zip(times["POT"], times["warm"], strict=True)]
        shown = ", ".join(f"{name} {statistics.median(t):.3f} s" for name, t in times.items())
        print(
            f"{kind} {size}, other {what}: {shown}; warm is {statistics.median(of_pot):.0f} x POT"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.1, help="of b that changes")
    args = parser.parse_args()
    for kind in KINDS:
        compare(kind, args.size, args.share, args.repeats)


if __name__ == "__main__":
    main()
