"""Gradients of transport costs: finite differences, subgradient inequalities, refusals."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from otbr_fast import ot
from strategies import Transport, transports

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
SEEDS = st.integers(0, 2**32 - 1)
EPS = 1e-7  # sums of a and b may differ by a relative 1e-6
ENTROPIC: dict[str, Any] = {"stopThr": 1e-14, "numItermax": 20_000}


def leaves(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    M, a, b = rng.random(shape), rng.random(shape[0]) + 0.1, rng.random(shape[1]) + 0.1
    arrays = (M, a / a.sum(), b / b.sum())
    return tuple(torch.tensor(x, requires_grad=True) for x in arrays)  # type: ignore[return-value]


def assume_no_kink_near(M: Tensor, a: Tensor, b: Tensor) -> None:
    """Basic masses and other reduced costs are far from 0 against the finite differences."""
    result = ot.solve(M.detach(), a.detach(), b.detach())
    plan, (u, v) = result.dense_plan(), result.potentials
    assume(int((plan > 1e-4).sum()) == sum(plan.shape) - 1)
    reduced = M.detach() - u[:, None] - v
    assume(bool((reduced[plan == 0] > 1e-4).all()))


def balanced(x: Tensor, x0: Tensor) -> Tensor:
    """Keep the sum of x0, whatever changes."""
    return x - (x - x0).mean()


@settings(max_examples=60)
@given(shape=SHAPES, seed=SEEDS)
def test_the_exact_cost_has_its_finite_differences(shape: tuple[int, int], seed: int) -> None:
    M, a, b = leaves(shape, seed)
    assume_no_kink_near(M, a, b)

    def value(M: Tensor, a: Tensor, b: Tensor) -> Any:
        result = ot.solve(M, a, b)
        return result.value, result.objective

    a0, b0 = a.detach().clone(), b.detach().clone()

    def emd2(M: Tensor, a: Tensor, b: Tensor) -> Any:
        return ot.emd2(balanced(a, a0), balanced(b, b0), M)

    for function in (value, emd2):
        assert gradcheck(function, (M, a, b), eps=EPS, atol=1e-6)


@settings(max_examples=60)
@given(shape=SHAPES, seed=SEEDS, reg=st.sampled_from([2.0, 0.3, 0.05]))
def test_entropic_costs_have_their_finite_differences(
    shape: tuple[int, int], seed: int, reg: float
) -> None:
    M, a, b = leaves(shape, seed)

    def objective(M: Tensor, a: Tensor, b: Tensor) -> Any:
        return ot.solve(M, a, b, reg, **ENTROPIC).objective

    def value(M: Tensor, a: Tensor, b: Tensor) -> Any:
        return ot.solve(M, a, b, reg, **ENTROPIC).value

    def sinkhorn2(M: Tensor, a: Tensor, b: Tensor) -> Any:
        return ot.sinkhorn2(a, b, M, reg, **ENTROPIC)

    for function in (objective, value, sinkhorn2):
        assert gradcheck(function, (M, a, b), eps=EPS, atol=1e-5, rtol=1e-4)


@settings(max_examples=100)
@given(shape=SHAPES, seed=SEEDS, reg=st.sampled_from([1.0, 0.1]))
def test_the_objective_is_that_of_the_plan(shape: tuple[int, int], seed: int, reg: float) -> None:
    M, a, b = (x.detach() for x in leaves(shape, seed))
    result = ot.solve(M, a, b, reg, **ENTROPIC)
    plan = result.dense_plan()
    primal = (plan * M).sum() + reg * (torch.xlogy(plan, plan) - plan).sum()
    assert result.objective == pytest.approx(float(primal), rel=1e-9, abs=1e-9)
    assert ot.solve(M, a, b).objective == ot.solve(M, a, b).value


def gradients(problem: Transport) -> tuple[float, Tensor, Tensor, Tensor]:
    M, a, b = (torch.tensor(x, requires_grad=True) for x in (problem.M, problem.a, problem.b))
    value = ot.solve(M, a, b).value
    dM, da, db = torch.autograd.grad(value, (M, a, b))
    return value.item(), dM, da, db


@settings(max_examples=300)
@given(problem=transports(), seed=SEEDS)
def test_degenerate_problems_give_a_supergradient_and_a_subgradient(
    problem: Transport, seed: int
) -> None:
    """At kinks too: V is concave in M, convex in (a, b)."""
    value, dM, da, db = gradients(problem)
    rng = np.random.default_rng(seed)
    M = problem.M.astype(np.float64)
    scale = float(np.abs(M).max())
    tolerance = 1e-9 * scale if problem.M.dtype == np.float64 else 1e-6 * scale
    other = (M + scale * rng.standard_normal(M.shape)).astype(problem.M.dtype)
    bound = value + float((dM.numpy().astype(np.float64) * (other.astype(np.float64) - M)).sum())
    assert ot.solve(other, problem.a, problem.b).value <= bound + tolerance
    a, b = (np.roll(x, 1) for x in (problem.a, problem.b))
    bound = value + float(da.numpy() @ (a - problem.a) + db.numpy() @ (b - problem.b))
    assert ot.solve(problem.M, a, b).value >= bound - tolerance


@given(shape=SHAPES, seed=SEEDS)
def test_the_constant_between_the_gradients_of_the_masses(
    shape: tuple[int, int], seed: int
) -> None:
    M, a, b = leaves(shape, seed)
    value = ot.solve(M, a, b).value
    da, db = torch.autograd.grad(value, (a, b))
    assert float(b.detach() @ db) == pytest.approx(0, abs=1e-12)
    assert float(a.detach() @ da) == pytest.approx(value.item(), abs=1e-12)
    da, db = torch.autograd.grad(ot.emd2(a, b, M), (a, b))
    assert float(da.sum()) == pytest.approx(0, abs=1e-12)
    assert float(db.sum()) == pytest.approx(0, abs=1e-12)


def costs(M: Tensor, a: Tensor, b: Tensor) -> dict[str, Any]:
    entropic = ot.solve(M, a, b, 0.1)
    return {
        "exact": ot.solve(M, a, b).value,
        "emd2": ot.emd2(a, b, M),
        "objective": entropic.objective,
        "value": entropic.value,
        "sinkhorn2": ot.sinkhorn2(a, b, M, 0.1),
    }


def test_a_cost_is_differentiated_once_but_walked_back_often() -> None:
    M, a, b = leaves((3, 4), 1)
    for name, cost in costs(M, a, b).items():
        first = torch.autograd.grad(cost, M, retain_graph=True)[0]
        torch.testing.assert_close(
            torch.autograd.grad(3 * cost, M, retain_graph=True)[0], 3 * first
        )
        (again,) = torch.autograd.grad(cost, M, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated again"):
            torch.autograd.grad(again.sum(), M)
        assert not any(x.requires_grad for x in (a.detach(), first)), name


@pytest.mark.parametrize("reg", [None, 0.1])
def test_what_the_caller_does_to_the_result_does_not_change_the_gradients(
    reg: float | None,
) -> None:
    M, a, b = leaves((3, 4), 5)
    expected = torch.autograd.grad(ot.solve(M, a, b, reg).value, (M, a, b))
    result = ot.solve(M, a, b, reg)
    for x in (result.dense_plan(), *result.potentials):
        x.fill_(7.0)
    torch.testing.assert_close(torch.autograd.grad(result.value, (M, a, b)), expected)
    expected = torch.autograd.grad(ot.emd2(a, b, M), (M, a, b))
    value, log = ot.emd2(a, b, M, log=True, return_matrix=True, center_dual=False)
    for key in ("u", "v", "G"):
        log[key].fill_(7.0)
    torch.testing.assert_close(torch.autograd.grad(value, (M, a, b)), expected)


def test_gradients_keep_each_tensors_dtype_and_leave_out_what_wants_none() -> None:
    M, a, b = leaves((3, 4), 2)
    single = M.detach().float().requires_grad_()
    for name, cost in costs(single, a, b.detach()).items():
        dM, da = torch.autograd.grad(cost, (single, a))
        assert (dM.dtype, da.dtype) == (torch.float32, torch.float64), name
        expected = torch.autograd.grad(costs(M, a, b)[name], M)[0]
        torch.testing.assert_close(dM, expected.float(), atol=1e-4, rtol=1e-3)
    (only,) = torch.autograd.grad(ot.emd2([], [], M), M)
    assert only.shape == M.shape
    (mixed,) = torch.autograd.grad(ot.solve(M.detach().numpy(), a).value, a)
    assert mixed.shape == a.shape
    with torch.no_grad():
        assert not any(cost.requires_grad for cost in costs(M, a, b).values())


def test_several_histograms_have_gradients_each() -> None:
    M, a, _ = leaves((3, 4), 3)
    b = torch.softmax(torch.rand(4, 2, generator=torch.Generator().manual_seed(0)).double(), 0)
    b.requires_grad_()
    pairs = {
        "emd2": (torch.stack(ot.emd2(a, b, M)), [ot.emd2(a, b[:, k], M) for k in range(2)]),
        "sinkhorn2": (
            ot.sinkhorn2(a, b, M, 0.2),
            [ot.sinkhorn2(a, b[:, k], M, 0.2) for k in (0, 1)],
        ),
        "sinkhorn": (ot.sinkhorn(a, b, M, 0.2), [ot.sinkhorn2(a, b[:, k], M, 0.2) for k in (0, 1)]),
    }
    for several, single in pairs.values():
        assert several.shape == (2,)
        weighted = several @ torch.tensor([1.0, 2.0]).double()
        expected = single[0] + 2 * single[1]
        torch.testing.assert_close(weighted, expected)
        got, want = (torch.autograd.grad(x, (M, a, b)) for x in (weighted, expected))
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("reg", [None, 0.1])
def test_points_without_mass(reg: float | None) -> None:
    M, _, b = leaves((3, 4), 4)
    a = torch.tensor([0.4, 0.0, 0.6], dtype=torch.float64, requires_grad=True)
    result = ot.solve(M, a.detach(), b, reg)
    for cost in (result.value, result.objective):
        for gradient in torch.autograd.grad(cost, (M, b), retain_graph=True):
            assert gradient.isfinite().all()
        assert (torch.autograd.grad(cost, M, retain_graph=True)[0][1] == 0).all()
    if reg is None:
        assert torch.autograd.grad(ot.solve(M, a, b).value, a)[0].isfinite().all()
    else:
        with pytest.raises(ValueError, match=r"a\[1\] is 0.*detach"):
            ot.solve(M, a, b, reg)


def test_a_plan_of_separate_blocks_has_finite_gradients() -> None:
    """At a small reg no mass at all joins the blocks, and the linear system is singular."""
    M = torch.ones(6, 6, dtype=torch.float64)
    M[:3, :3] = M[3:, 3:] = (
        torch.rand(3, 3, generator=torch.Generator().manual_seed(1)).double() / 9
    )
    M.requires_grad_()
    a = torch.full((6,), 1 / 6, dtype=torch.float64, requires_grad=True)
    for gradient in torch.autograd.grad(ot.solve(M, a, None, 1e-3).value, (M, a)):
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 100


def test_numpy_problems_never_import_torch() -> None:
    code = """
import sys, numpy
from otbr_fast import ot
M = numpy.random.default_rng(0).random((4, 4))
ot.emd([], [], M); ot.emd2([], [], M); ot.sinkhorn([], [], M, 1.0); ot.sinkhorn2([], [], M, 1.0)
ot.solve(M).objective; ot.solve(M, reg=1.0).objective
print([name for name in sys.modules if name.split(".")[0] == "torch"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
