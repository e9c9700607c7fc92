"""Points without their distances: time, gap and memory, each in a process of its own.

    python benches/solve_sample.py [--sizes 16384,65536] [--dimensions 2] [--threads 2]

Points in the unit cube; a uniform, b lognormal. Sources and targets that lie apart take longer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import numpy as np

from otbr_fast import ot


def solve(size: int, dimension: int, threads: int) -> None:
    rng = np.random.default_rng(size)
    X, Y = rng.random((2, size, dimension))
    b = rng.lognormal(size=size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    result = ot.solve_sample(X, Y, None, b / b.sum(), n_threads=threads)
    seconds = time.perf_counter() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    gap = result.certificate.duality_gap / result.value
    print(
        f"n = {size}, d = {dimension}, {threads} threads: {seconds:.1f} s, {result.status}, "
        f"relative gap {gap:.1e}, {result.n_iter} pivots, {memory:.2f} GiB",
        flush=True,
    )


def main() -> None:
    def numbers(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=numbers, default=[16_384, 65_536])
    parser.add_argument("--dimensions", type=numbers, default=[2])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for dimension in args.dimensions:
        for size in args.sizes:
            task = (size, dimension, args.threads)
            process = multiprocessing.get_context("spawn").Process(target=solve, args=task)
            process.start()
            process.join()


if __name__ == "__main__":
    main()
