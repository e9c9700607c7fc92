from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otbr_fast.bench.families import DIMENSION, FAMILIES, SMALL_SIZES
from otbr_fast.bench.layers import layer_problem, layer_rows
from otbr_fast.bench.problem import Problem
from otbr_fast.io import save_safetensors
from otbr_fast.models import PreActResNet

DTYPES = ("float32", "float64")


@given(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(2, 40),
    st.integers(0, 5),
    st.sampled_from(DTYPES),
)
def test_problems_are_transport_problems(name: str, size: int, seed: int, dtype: str) -> None:
    family = FAMILIES[name]
    (n, m), *others = family.shapes([size])
    assert not others
    problem = family.make(n, m, seed, dtype).with_cost()
    M = problem.cost()
    assert problem.shape == (n, m)
    assert M.shape[-2:] == (n, m)
    assert M.dtype == dtype
    assert np.isfinite(M).all()
    assert (M >= 0).all()
    for masses in (problem.a, problem.b):
        assert masses.dtype == np.float64
        assert (masses >= 0).all()
        np.testing.assert_allclose(masses.sum(axis=-1), 1, rtol=1e-12)


@given(st.sampled_from(sorted(FAMILIES)), st.integers(2, 20), st.integers(0, 5))
def test_a_seed_makes_one_problem(name: str, size: int, seed: int) -> None:
    family = FAMILIES[name]
    ((n, m),) = family.shapes([size])
    first, again, other = (family.make(n, m, s, "float64") for s in (seed, seed, seed + 1))
    np.testing.assert_equal(vars(first), vars(again))
    values, others = (np.concatenate([np.ravel(x) for x in _arrays(p)]) for p in (first, other))
    assert not np.array_equal(values, others)


def _arrays(problem: Problem) -> list[np.ndarray]:
    return [x for x in (problem.M, problem.X, problem.Y, problem.a, problem.b) if x is not None]


def test_pruned_rows_are_those_of_the_other_side_and_a_tenth_are_zero() -> None:
    X, Y = FAMILIES["P"].make(50, 50, 0, "float64").points()
    zero = ~X.any(axis=1)
    assert zero.sum() == 5
    np.testing.assert_array_equal(X[~zero], Y[~zero])
    assert X.shape == (50, DIMENSION)


def test_assignment_is_square_and_uniform_and_others_are_not() -> None:
    assignments = {
        name
        for name, family in FAMILIES.items()
        if family.make(9, 9, 0, "float64").is_uniform_square
    }
    assert assignments == {"assignment", "L"}
    assert not FAMILIES["L"].make(4, 8, 0, "float64").is_uniform_square


def test_ties_are_small_integers() -> None:
    M = FAMILIES["ties"].make(20, 20, 0, "float64").cost()
    assert set(np.unique(M)) <= set(range(10))
    assert len(np.unique(M)) < M.size / 10


def test_rectangular_problems_have_1500_rows_to_4096_columns() -> None:
    assert FAMILIES["rectangular"].shapes([4096, 8]) == [(3, 8), (1500, 4096)]


def test_images_are_square_and_smooth() -> None:
    ((n, m),) = FAMILIES["images"].shapes([1000])
    assert (n, m) == (1024, 1024)
    image = FAMILIES["images"].make(n, m, 0, "float64").a.reshape(32, 32)
    steps = np.abs(np.diff(np.log(image), axis=0)).mean()
    shuffled = np.random.default_rng(0).permutation(image.ravel()).reshape(32, 32)
    assert steps < np.abs(np.diff(np.log(shuffled), axis=0)).mean() / 2


def test_small_problems_are_a_stack_of_different_ones() -> None:
    problem = FAMILIES["small"].make(5, 5, 0, "float64")
    parts = list(problem.parts())
    assert len(parts) == len(problem.cost()) > 1
    assert len({part.cost().tobytes() for part in parts}) == len(parts)
    assert all(part.cost().shape == (5, 5) for part in parts)


@pytest.mark.parametrize(
    ("sizes", "shapes"), [((512,), SMALL_SIZES), ((8, 4, 100), (4, 8)), ((64,), (64,))]
)
def test_small_problems_stay_small(sizes: tuple[int, ...], shapes: tuple[int, ...]) -> None:
    assert FAMILIES["small"].shapes(sizes) == [(size, size) for size in shapes]


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_problem_survives_its_file(name: str, dtype: str, tmp_path: Path) -> None:
    problem = FAMILIES[name].make(4, 4, 0, dtype)
    for kept in (problem, problem.with_cost()):
        kept.save(tmp_path / "p.npz")
        np.testing.assert_equal(vars(Problem.load(tmp_path / "p.npz")), vars(kept))


def test_a_problem_without_cost_or_points_says_so() -> None:
    with pytest.raises(ValueError, match="with_cost"):
        FAMILIES["I"].make(3, 3, 0, "float64").cost()
    with pytest.raises(ValueError, match="no points"):
        FAMILIES["random"].make(3, 3, 0, "float64").points()


def test_layers_come_one_for_each_number_of_neurons(
    tiny_resnet: PreActResNet, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    save_safetensors(tiny_resnet.state_dict(), path)
    layers = layer_rows(path)
    assert {len(rows) for rows in layers.values()} == {4, 6, 8}
    for name, rows in layers.items():
        weight = tiny_resnet.get_parameter(f"{name}.weight").detach()
        np.testing.assert_array_equal(rows, weight.flatten(1).double().numpy())


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_a_layer_loses_the_share_of_its_neurons(share: float) -> None:
    rows = np.random.default_rng(1).standard_normal((20, 6))
    X, Y = layer_problem(rows, share, 0, "float64").points()
    pruned = ~X.any(axis=1)
    assert pruned.sum() == round(share * 20)
    np.testing.assert_array_equal(X[~pruned], Y[~pruned])
    np.testing.assert_array_equal(Y, rows)
    assert math.isclose(layer_problem(rows, share, 0, "float64").b.sum(), 1)
