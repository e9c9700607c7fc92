"""What `emd`, `emd2` and `sinkhorn2` take and give back, beside numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import ot as pot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, eye_array, random_array

from otbr_fast import ot

RNG = np.random.default_rng(11)
M = RNG.random((6, 9))
A, B = np.ones(6) / 6, np.ones(9) / 9
SEVERAL = RNG.random((9, 3))
SEVERAL /= SEVERAL.sum(0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_and_arrays_keep_numpys_dtype(dtype: Any) -> None:
    a, b, cost = A.astype(dtype), B.astype(dtype), M.astype(dtype)
    value, log = ot.emd2(a, b, cost, log=True, return_matrix=True, check_marginals=False)
    assert type(value) is dtype
    assert {log[key].dtype for key in ("u", "v", "G")} == {np.dtype(dtype)}
    assert type(ot.sinkhorn2(A, B, cost, 0.1)) is dtype
    assert ot.sinkhorn(A, B, cost, 0.1).dtype == dtype
    assert type(ot.emd2([], [], [[1, 2], [2, 1]])) is np.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_numbers_and_tensors_keep_torchs_dtype(dtype: torch.dtype) -> None:
    cost = torch.tensor(M, dtype=dtype)
    value, log = ot.emd2([], [], cost, log=True, return_matrix=True)
    assert {x.dtype for x in (value, log["u"], log["v"], log["G"], log["cost"])} == {dtype}
    assert value.shape == ()
    assert ot.sinkhorn2([], [], cost, 0.1).dtype == dtype
    assert ot.sinkhorn([], [], cost, 0.1).dtype == dtype
    assert float(value) == pytest.approx(float(ot.emd2(A, B, M)), rel=0.02)


def test_integer_masses_do_not_truncate_the_plan() -> None:
    """POT gives a plan of integers, here all zero, and a warning."""
    cost = np.array([[0.0, 3.0], [3.0, 1.0], [2.0, 2.0]])
    a, b = np.array([1, 1, 1]), np.array([1.5, 1.5])
    plan = ot.emd(a, b, cost)
    assert plan.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert ot.emd2(a, [2, 1], cost.astype(int)) == pytest.approx(3)


def test_several_histograms_come_back_one_by_one() -> None:
    ours, theirs = ot.emd2(A, SEVERAL, M, log=True), pot.emd2(A, SEVERAL, M, log=True)
    assert isinstance(ours, list)
    for (value, log), (expected, their_log) in zip(ours, theirs, strict=True):
        assert value == pytest.approx(expected, rel=1e-12)
        assert set(log) == set(their_log)
    assert [float(x) for x in ot.emd2(A, SEVERAL.tolist(), M)] == [x for x, _ in ours]
    for warned in (ot.emd2(A, SEVERAL, torch.tensor(M)), ot.emd2(A, torch.tensor(SEVERAL), M)):
        assert all(isinstance(x, torch.Tensor) for x in warned)


def test_sinkhorn2_gives_pots_costs_and_logs() -> None:
    value, log = ot.sinkhorn2(A, B, M, 0.1, log=True)
    expected, _ = pot.sinkhorn2(A, B, M, 0.1, log=True)
    assert value == pytest.approx(expected, rel=1e-7)
    assert {"u", "v", "err", "niter", "warmstart"} <= set(log)
    several, log = ot.sinkhorn2(A, SEVERAL, M, 0.1, log=True)
    np.testing.assert_allclose(several, pot.sinkhorn2(A, SEVERAL, M, 0.1), rtol=1e-6)
    assert (log["u"].shape, log["v"].shape) == ((6, 3), (9, 3))
    assert len(log["err"]) == len(log["niter"]) == 3
    _, again = ot.sinkhorn(A, SEVERAL, M, 0.1, log=True, warmstart=log["warmstart"])
    assert sum(again["niter"]) < sum(log["niter"])
    _, none = ot.sinkhorn2(A, np.empty((9, 0)), M, 0.1, log=True)
    assert (none["u"].shape, none["v"].shape, none["err"]) == ((6, 0), (9, 0), [])
    assert ot.sinkhorn2(A, np.empty((9, 0)), M, 0.1).shape == (0,)
    assert ot.emd2(A, np.empty((9, 0)), M) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda M: ot.emd([], [], M, numItermax=2),
        lambda M: ot.emd2([], [], M, numItermax=2),
        lambda M: ot.sinkhorn([], [], M, 0.01, numItermax=1),
        lambda M: ot.sinkhorn2([], [], M, 0.01, numItermax=1, warn=True),
    ],
)
def test_warnings_point_at_the_caller(call: Callable[[Any], Any]) -> None:
    with pytest.warns(UserWarning, match="numItermax") as seen:
        call(RNG.random((80, 80)))
    assert [warning.filename for warning in seen] == [__file__]


def test_arguments_are_left_as_they_were() -> None:
    b = 2 * B
    copies = [x.copy() for x in (A, b, M)]
    ot.emd(A, b, M, check_marginals=False)[...] = 7
    ot.emd2(A, b, M, check_marginals=False, log=True)
    for x, copy in zip((A, b, M), copies, strict=True):
        np.testing.assert_array_equal(x, copy)


def test_emd_of_a_tensor_that_requires_a_gradient_is_a_plain_plan() -> None:
    cost = torch.tensor(M, requires_grad=True)
    plan, log = ot.emd([], [], cost, log=True)
    assert not plan.requires_grad
    assert not log["u"].requires_grad
    (plan * cost).sum().backward()
    torch.testing.assert_close(cost.grad, plan)


def sparse_problem(n: int, m: int, seed: int) -> tuple[Any, Any, Any]:
    """Random edges, a staircase from northwest among them, so that any masses fit; NaN is none."""
    rng = np.random.default_rng(seed)
    a, b = rng.random(n) + 0.01, rng.random(m) + 0.01
    a, b = a / a.sum(), b / b.sum()
    there = (rng.random((n, m)) < 0.3) | (pot.emd(a, b, -np.multiply.outer(range(n), range(m))) > 0)
    return np.where(there, rng.integers(-3, 4, (n, m)), np.nan), a, b


@settings(max_examples=200)
@given(n=st.integers(2, 15), m=st.integers(2, 15), seed=st.integers(0, 2**32 - 1))
def test_sparse_costs_agree_with_a_linear_program_of_the_edges(n: int, m: int, seed: int) -> None:
    """Edges of cost 0 and below too."""
    costs, a, b = sparse_problem(n, m, seed)
    rows, cols = np.nonzero(~np.isnan(costs))
    edges = coo_array((costs[rows, cols], (rows, cols)), shape=(n, m))
    plan, log = ot.emd(a, b, edges, log=True)
    assert isinstance(plan, coo_array)
    dense = plan.toarray()
    np.testing.assert_allclose(dense.sum(1), a, atol=1e-12)
    np.testing.assert_allclose(dense.sum(0), b, atol=1e-12)
    assert not np.isnan(costs[dense > 0]).any()
    balance = np.vstack([np.eye(n)[:, rows], np.eye(m)[:, cols]])
    expected = linprog(costs[rows, cols], A_eq=balance, b_eq=np.r_[a, b]).fun
    assert log["cost"] == pytest.approx(expected, abs=1e-7)
    assert ot.emd2(a, b, edges) == log["cost"]
    assert a @ log["u"] + b @ log["v"] == pytest.approx(log["cost"], abs=1e-11)
    assert np.nanmin(costs - log["u"][:, None] - log["v"]) >= -1e-11


def test_sparse_tensors_and_formats() -> None:
    edges = csr_array(np.array([[1.0, 2.0], [0.0, 1.0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's CSR layout is "beta"
        tensor = torch.tensor(edges.toarray()).to_sparse_csr()
    plan = ot.emd([], [], tensor)
    assert plan.is_sparse
    np.testing.assert_allclose(plan.to_dense(), ot.emd([], [], edges).toarray())
    twice = coo_array(([1.0, 2.0, 1.0], ([0, 0, 1], [0, 0, 1])), shape=(2, 2))
    assert ot.emd2([], [], twice) == pytest.approx(2.0)  # 3 and 1, as scipy adds duplicates
    indices = torch.tensor([[0, 0, 1], [0, 1, 1]])
    values = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    cost = torch.sparse_coo_tensor(indices, values, (2, 2), check_invariants=True).requires_grad_()
    ot.emd2([], [], cost).backward()
    assert cost.grad is not None
    np.testing.assert_allclose(cost.grad.to_dense(), [[0.5, 0], [0, 0.5]])


def test_an_edge_of_infinite_cost_is_none() -> None:
    cost = np.where(M > 0.8, np.inf, M)
    value, log = ot.emd2(A, B, coo_array(cost), log=True)
    assert value == pytest.approx(ot.emd2(A, B, cost), rel=1e-12)
    assert np.isfinite(log["cost"])
    with pytest.raises(ValueError, match="make more of M finite"):
        ot.emd(A, B, coo_array(np.full(M.shape, np.inf)))


def test_edges_are_not_blamed_for_a_limit() -> None:
    edges = random_array((30, 30), density=0.3, rng=1) + eye_array(30)
    with (
        pytest.warns(UserWarning, match="numItermax reached"),
        pytest.raises(ValueError, match="increase numItermax"),
    ):
        ot.emd2([], [], edges, numItermax=1)


def test_edges_that_cannot_carry_the_masses_are_named() -> None:
    edges = coo_array(([1.0, 1.0], ([0, 1], [0, 0])), shape=(2, 2))
    with pytest.raises(ValueError, match=r"leave 0\.5 of the mass"):
        ot.emd2([], [], edges)
    with pytest.raises(ValueError, match="without a single edge"):
        ot.emd([], [], coo_array((2, 2)))
