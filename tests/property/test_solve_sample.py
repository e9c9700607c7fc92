"""Transport between points whose distances are never held as a matrix."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from otbr_fast import ot
from strategies import MASSES, Transport, make_masses
from test_exact_ot import check_proof

Metric = Literal["euclidean", "sqeuclidean", "cosine"]
METRICS: tuple[Metric, ...] = ("euclidean", "sqeuclidean", "cosine")


def distances(X: NDArray[Any], Y: NDArray[Any], metric: Metric) -> NDArray[np.float64]:
    if metric != "cosine":
        return np.asarray(cdist(X, Y, metric))
    X, Y = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in (X, Y))
    return np.asarray(0.5 * cdist(X, Y, "sqeuclidean"))


@settings(max_examples=300)
@given(st.data())
def test_agrees_with_the_matrix(data: st.DataObject) -> None:
    n, m, d = (data.draw(st.integers(1, k)) for k in (30, 30, 18))
    metric = data.draw(st.sampled_from(METRICS))
    scale = 10.0 ** data.draw(st.integers(-30, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    points = rng.standard_normal((max(n, m), d)) * scale
    X, Y = points[:n], rng.standard_normal((m, d)) * scale
    if data.draw(st.booleans()):
        Y[: min(n, m) // 2] = X[: min(n, m) // 2]
    a = make_masses(data.draw(st.sampled_from(MASSES)), n, rng)
    b = make_masses(data.draw(st.sampled_from(MASSES)), m, rng)
    M = distances(X, Y, metric)
    check_proof(Transport(M, a, b, ""), ot.solve_sample(X, Y, a, b, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "m", "d"), [(700, 500, 2), (300, 900, 3), (600, 600, 8)])
def test_on_a_core_too(metric: Metric, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.random((n, d)), rng.random((m, d))
    b = make_masses("lognormal", m, rng)
    a = np.full(n, 1 / n)
    one = ot.solve_sample(X, Y, a, b, metric, n_threads=1)
    many = ot.solve_sample(X, Y, a, b, metric, n_threads=3)
    check_proof(Transport(distances(X, Y, metric), a, b, ""), one)
    assert (one.value, one.n_iter, one.certificate) == (many.value, many.n_iter, many.certificate)
    assert one.value == pytest.approx(ot.solve(ot.cost_matrix(X, Y, metric), a, b).value, rel=1e-9)
    cut = ot.solve_sample(X, Y, a, b, metric, numItermax=3)
    assert cut.status == "iteration_limit"
    assert 0 < cut.value - one.value <= cut.certificate.duality_gap
    warm = ot.solve_sample(X, Y, a, b, metric, warmstart=one)
    assert warm.value == pytest.approx(one.value, rel=1e-9)


def test_many_dimensions_and_tensors() -> None:
    X, Y = torch.rand(40, 20), torch.rand(50, 20)
    result = ot.solve_sample(X, Y)
    assert isinstance(result.potentials[0], torch.Tensor)
    assert result.value == pytest.approx(ot.solve(ot.cost_matrix(X, Y)).value, rel=1e-9)
    assert isinstance(ot.solve_sample(X[:, :2], Y[:, :2]).dense_plan(), torch.Tensor)


def test_what_is_no_point_is_refused() -> None:
    X = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"Y has 3 columns, expected 2"):
        ot.solve_sample(X, np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"Y\[1, 0\] is NaN"):
        ot.solve_sample(X, np.array([[0.0, 1.0], [np.nan, 0.0]]))
    with pytest.raises(ValueError, match=r"X\[0\] is"):
        ot.solve_sample(np.zeros((1, 2)), X, metric="cosine")
    with pytest.raises(ValueError, match=r"extent of X and Y is 1\.0+1e160"):
        ot.solve_sample(X * 1e150, -X * 1e160)
    with pytest.raises(ValueError, match=r"extent of X and Y"):
        ot.solve_sample(X * 1e-150, X * 0)
    with pytest.raises(ValueError, match=r"metric is .cityblock."):
        ot.solve_sample(X, X, metric="cityblock")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no gradients"):
        ot.solve_sample(torch.ones(3, 2, requires_grad=True), X)
