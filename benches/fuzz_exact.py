"""Look for a problem that the exact solver gets wrong.

    python benches/fuzz_exact.py [--count 100000] [--seed 0] [--largest 44]

Problems of all families of tests/property/strategies.py, in float32 and float64, solved with one
and with two threads, on the core, on the whole matrix, from a hint, and in metric mode. Every
result must carry a proof that numpy confirms, and POT's objective to a relative 1e-9. Failures are
printed with what is needed to make the problem again; the exit status tells whether there were any.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import ot as pot

from otbr_fast import _core

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "property"))
from strategies import COSTS, MASSES, Transport, make_cost, make_masses

NO_LIMIT = 10**9
SEARCHES = (None, "core", "whole")


def draw(seed: int, largest: int) -> Transport:
    rng = np.random.default_rng(seed)
    n, m = (int(k) for k in rng.integers(1, largest + 1, 2))
    cost, left, right = (str(rng.choice(names)) for names in (COSTS, MASSES, MASSES))
    M, a, b = make_cost(cost, n, m, rng), make_masses(left, n, rng), make_masses(right, m, rng)
    return Transport(M, a, b, f"seed {seed}: {n} x {m}, cost {cost}, masses {left} and {right}")


def check(problem: Transport) -> None:
    M, total = problem.M.astype(np.float64), problem.a.sum()
    scale = np.abs(M).max() or 1.0
    b = problem.b * (total / problem.b.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = pot.emd2(problem.a, problem.b, M / scale, numItermax=NO_LIMIT) * scale
    # Once more on the core, from a problem with the masses of another order.
    other = _core.solve_exact(problem.M, problem.a[::-1].copy(), problem.b, 2**62, 1, search="core")
    hints = (other.hint_v, other.core_rows, other.core_cols, other.basis_rows, other.basis_cols)
    ways: list[dict[str, Any]] = [{"search": search} for search in SEARCHES]
    ways += [{"search": "core", "start": hints}, {"metric": True}]
    for k, way in enumerate(ways):
        result = _core.solve_exact(problem.M, problem.a, problem.b, 2**62, 1 + k % 2, **way)
        plan = np.zeros(M.shape)
        plan[result.rows, result.cols] = result.masses
        reduced = M - result.u[:, None] - result.v
        rounding = 1e-14 * (scale + np.abs(result.u).max() + np.abs(result.v).max())
        error = np.abs(plan.sum(1) - problem.a).sum() + np.abs(plan.sum(0) - b).sum()
        tolerance = max(1e-9 * abs(theirs), 1e-14 * scale * total)
        facts = {
            "status": result.status == "optimal",
            "marginals": error <= 1e-12 * total,
            "mass": bool((result.masses > 0).all()),
            "reduced costs": reduced.min() >= -rounding,
            "slack": not plan.any() or np.abs(reduced[plan > 0]).max() <= rounding,
            "objective": abs(result.value - theirs) <= tolerance,
        }
        wrong = [name for name, holds in facts.items() if not holds]
        if wrong:
            raise AssertionError(f"{', '.join(way)} {way.get('search')}: {', '.join(wrong)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=44)
    args = parser.parse_args()
    failures, start = 0, time.monotonic()
    for seed in range(args.seed, args.seed + args.count):
        problem = draw(seed, args.largest)
        try:
            check(problem)
        except Exception as error:
            failures += 1
            print(f"{problem.label}: {type(error).__name__}: {error}", flush=True)
    seconds = time.monotonic() - start
    print(f"{args.count} problems, five searches each: {failures} wrong, {seconds:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
