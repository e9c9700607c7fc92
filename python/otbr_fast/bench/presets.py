"""Plans that have a name."""

from __future__ import annotations

from otbr_fast.bench.plan import Grid, Plan

_KINDS = ("I", "P", "L", "assignment", "random", "ties", "rectangular", "images", "small")

PRESETS: dict[str, Plan] = {
    "quick": Plan(
        grids={
            "exact": Grid(families=("I", "P", "L", "assignment", "small"), sizes=(512, 1024)),
            "entropic": Grid(families=("I",), sizes=(512,)),
            "distances": Grid(families=("I",), sizes=(1024,)),
        },
        regs=(0.05, 0.005),
        calls=1000,
        time_limit=20,
    ),
    "readme": Plan(
        grids={
            "exact": Grid(families=_KINDS, sizes=(1024, 2048, 4096, 8192)),
            "entropic": Grid(families=("I",), sizes=(1024, 4096)),
            "distances": Grid(families=("I", "L"), sizes=(1024, 4096)),
        },
        time_limit=120,
    ),
    "full": Plan(
        grids={
            "exact": Grid(families=_KINDS, sizes=(512, 1021, 1024, 2048, 4093, 4096, 8192, 16384)),
            "entropic": Grid(families=("I", "P", "L", "images"), sizes=(512, 1024, 2048, 4096)),
            "distances": Grid(families=("I", "P", "L"), sizes=(512, 1024, 2048, 4096, 8192)),
        },
        dtypes=("float64", "float32"),
        repeats=5,
        time_limit=600,
    ),
}
"""A few minutes on two cores; an hour or more; a day, perhaps."""
