"""Distances against longer arithmetic, within the documented bound."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from otbr_fast import ot


@st.composite
def near_rows(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and slightly moved copies of them, far from the origin or near it."""
    d = draw(st.integers(1, 70))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offset = draw(st.sampled_from([0.0, 1.0, 1e3]))
    move = draw(st.sampled_from([0.0, 1e-12, 1e-7, 1e-3, 1.0]))
    X = (rng.standard_normal((9, d)) + offset).astype(dtype)
    Y = (X[:7] + move * rng.standard_normal((7, d))).astype(dtype)
    return X, Y


@settings(max_examples=300)
@given(near_rows())
def test_squared_distances_keep_the_bound(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    X, Y = rows
    d, unit = X.shape[1], np.finfo(X.dtype).eps / 2
    found = ot.cost_matrix(X, Y, metric="sqeuclidean")
    assert found.dtype == X.dtype
    for i, j in [(0, 0), (1, 5), (6, 6), (8, 2)]:
        pairs = zip(X[i].tolist(), Y[j].tolist(), strict=True)
        true = float(sum((Fraction(x) - Fraction(y)) ** 2 for x, y in pairs))
        assert abs(float(found[i, j]) - true) <= 16 * (d + 8) * unit * true
    equal = (X[:, None] == Y[None]).all(2)
    assert (found[equal] == 0).all()


@settings(max_examples=100)
@given(near_rows(), st.sampled_from(["euclidean", "sqeuclidean", "cosine"]))
def test_metrics_agree_with_their_definitions(
    rows: tuple[NDArray[Any], NDArray[Any]], metric: Any
) -> None:
    X, Y = (r.astype(np.longdouble) for r in rows)
    square = ((X[:, None] - Y[None]) ** 2).sum(2)
    norms = np.sqrt((X**2).sum(1))[:, None] * np.sqrt((Y**2).sum(1))[None]
    expected = {
        "sqeuclidean": square,
        "euclidean": np.sqrt(square),
        "cosine": 1 - (X @ Y.T) / norms,
    }[metric]
    found = ot.cost_matrix(*rows, metric=metric, n_threads=2)
    tolerance = 1e-4 if found.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(
        found,
        expected.astype(float),
        rtol=tolerance,
        atol=1e-6 * tolerance if metric != "cosine" else tolerance,
    )


@settings(max_examples=50)
@given(near_rows(), st.sampled_from(["euclidean", "sqeuclidean", "cosine"]), st.integers(1, 3))
def test_one_matrix_alone_is_that_matrix_against_itself(
    rows: tuple[NDArray[Any], NDArray[Any]], metric: Any, n_threads: int
) -> None:
    X = np.concatenate(rows)
    found = ot.cost_matrix(X, metric=metric, n_threads=n_threads)
    assert found.dtype == X.dtype
    assert np.array_equal(found, ot.cost_matrix(X, X, metric=metric))
    assert np.array_equal(found, found.T)
    assert not np.diag(found).any()


def test_bad_rows_are_refused_by_name() -> None:
    good = np.ones((2, 3))
    with pytest.raises(ValueError, match="Y has 2 columns, expected 3"):
        ot.cost_matrix(good, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"X\[1, 2\] is NaN"):
        ot.cost_matrix([[1.0, 2, 3], [4, 5, np.nan]], good)
    with pytest.raises(ValueError, match="zero vector"):
        ot.cost_matrix(np.zeros((1, 3)), good, metric="cosine")
    with pytest.raises(ValueError, match="manhattan"):
        ot.cost_matrix(good, good, metric="manhattan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_threads"):
        ot.cost_matrix(good, good, n_threads=0)
