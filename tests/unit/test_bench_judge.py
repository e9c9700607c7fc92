from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otbr_fast.bench.judge import judge, outliers
from otbr_fast.bench.problem import Problem
from otbr_fast.bench.reading import marginal_error, plan_cost, read
from otbr_fast.bench.results import Cell, Entry

NUMBERS = st.floats(1e-3, 1e3)


@given(NUMBERS, st.integers(1, 6))
def test_equal_values_have_no_outlier(value: float, count: int) -> None:
    assert not outliers({str(i): value * (1 + 1e-13 * i) for i in range(count)}, 1e-9)


@given(NUMBERS, st.integers(2, 5), st.sampled_from([1e-8, -1e-8, 0.1, math.nan, math.inf]))
def test_one_against_several_is_the_outlier(value: float, count: int, off: float) -> None:
    values = {str(i): value for i in range(count)} | {"odd": value * (1 + off)}
    assert outliers(values, 1e-9) == {"odd"}


@given(NUMBERS, st.integers(1, 3))
def test_nobody_is_right_where_as_many_say_otherwise(value: float, count: int) -> None:
    values = {f"a{i}": value for i in range(count)} | {f"b{i}": 2 * value for i in range(count)}
    assert outliers(values, 1e-9) == set(values)


def test_no_values_have_no_outlier() -> None:
    assert outliers({}, 1e-9) == set()
    assert outliers({"only": math.nan}, 1e-9) == {"only"}


def cell(task: str, *entries: Entry, dtype: str = "float64") -> Cell:
    facts = {"task": task, "family": "I", "n": 4, "m": 4, "dtype": dtype, "entries": entries}
    return Cell.model_validate(facts)


def entry(solver: str, **facts: object) -> Entry:
    return Entry.model_validate({"solver": solver, "label": solver, "seconds": [1.0], **facts})


def test_costs_are_compared_to_a_relative_1e_9() -> None:
    judged = cell(
        "exact",
        entry("ours", value=1.0),
        entry("near", value=1 + 5e-10),
        entry("cut short", value=1 + 3e-9),
        entry("died", status="failed"),
    )
    judge(judged)
    assert [e.agrees for e in judged.entries] == [True, True, False, None]


def test_a_float32_cost_may_be_rounded_to_it() -> None:
    judged = cell("exact", entry("a", value=1.0), entry("b", value=1 + 6e-8), dtype="float32")
    judge(judged)
    assert [e.agrees for e in judged.entries] == [True, True]


def test_one_result_alone_is_not_called_right() -> None:
    judged = cell("exact", entry("ours", value=1.0))
    judge(judged)
    assert judged.entries[0].agrees is None


@pytest.mark.parametrize("error", [None, 1e-3])
def test_distances_are_judged_by_their_error(error: float | None) -> None:
    judged = cell(
        "distances",
        entry("good", error=1e-15),
        entry("bad", error=error),
        entry("mm", is_bound=True),
    )
    judge(judged)
    assert [e.agrees for e in judged.entries] == [True, False, None]


@given(st.integers(0, 1000))
def test_marginal_error_is_the_l1_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan, a, b = rng.random((5, 7)), rng.random(5), rng.random(7)
    expected = sum(abs(plan[i].sum() - a[i]) for i in range(5)) + sum(
        abs(plan[:, j].sum() - b[j]) for j in range(7)
    )
    assert math.isclose(marginal_error(plan, a, b), expected)
    assert marginal_error(plan, plan.sum(1), plan.sum(0)) < 1e-14
    assert math.isclose(plan_cost(plan, plan), (plan**2).sum())


def test_float32_plans_are_summed_in_float64() -> None:
    plan = np.full((1, 3_000_000), 1 / 3, dtype=np.float32)
    mass = 3_000_000 * float(np.float32(1 / 3))
    assert abs(marginal_error(plan, np.array([mass]), plan[0].astype(float))) < 1e-6


def test_a_wrong_distance_is_an_error() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.random((40, 3)), rng.random((30, 3))
    D = np.sqrt(((X[:, None] - Y[None]) ** 2).sum(-1))
    problem = Problem(np.full(40, 1 / 40), np.full(30, 1 / 30), X, Y, "euclidean")
    value, error = read("distances", problem, [D])
    assert math.isclose(value, D.mean())
    assert error is not None
    assert error < 1e-15
    D[0, 0] += 0.1
    _, error = read("distances", problem, [D])
    assert error is not None
    assert error > 0.01
