"""Gradients of transport costs for torch. Imported only when a tensor asks for them.

With the plan P and the potentials u, v at the optimum:

- exact cost V = min <P, M>: dM = P, da = u, db = v. Where V has a kink these are a supergradient
  in M, in which V is concave, and a subgradient in (a, b), in which it is convex.
- entropic objective F = min <P, M> + reg sum P (log P - 1): the same, by the envelope theorem.
- entropic cost <P, M>, which P does not minimise: differentiating the optimality conditions gives
  dM = P (1 + log P + x + y), da = u + reg x, db = v + reg y, where (x, y) solves
  [diag(a), P; P^T, diag(b)] (x, y) = -(sum_j P log P, sum_i P log P).

Only changes with sum(da) = sum(db) can be made, so a constant may move between the gradients of
a and b. `solve` scales b to the sum of a and gives the gradient of just that: <b, db> = 0. `emd2`
takes its mean from each, as POT does.

References
----------
Peyré and Cuturi, Computational Optimal Transport, 2019, sections 4.5 and 9.1.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from otbr_fast.ot.arrays import constant, masses, number_as_given, requires_grad
from otbr_fast.ot.result import OTResult

# Parts of the plan that hardly any mass connects leave x and y undetermined between them. There
# this much of the identity settles for x = y = 0, which is the gradient of the objective.
_RIDGE = 1e-12

Lazy: TypeAlias = Callable[[], Tensor]


@dataclass(frozen=True)
class Gradients:
    """What gives the gradients, shapes (n, m), (n,) and (m,); called for those that are wanted."""

    M: Lazy
    a: Lazy
    b: Lazy


class _Differentiable(torch.autograd.Function):
    """A number with known gradients."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, gradients: Gradients, *inputs: Any) -> Tensor:
        ctx.gradients = gradients
        ctx.dtypes = [getattr(x, "dtype", None) for x in inputs]
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, Tensor)))
        return number

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        known = (ctx.gradients.M, ctx.gradients.a, ctx.gradients.b)
        wanted = zip(known, ctx.dtypes, ctx.needs_input_grad[2:], strict=True)
        with torch.no_grad():
            found = [
                (grad * make()).to(dtype) if needed else None for make, dtype, needed in wanted
            ]
        if torch.is_grad_enabled():  # somebody wants to differentiate these gradients too
            found = [x if x is None else _once(x, ctx.saved_tensors) for x in found]
        return None, None, *found


class _Once(torch.autograd.Function):
    """A gradient that refuses to be differentiated, where torch would take it for a constant."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "the gradient of a transport cost cannot be differentiated again; detach() it if it is "
            "meant as a constant"
        )


def _once(gradient: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    marked: Tensor = _Once.apply(gradient, *inputs)
    return marked


def differentiable(number: Any, gradients: Gradients, M: Any, a: Any, b: Any) -> Tensor:
    """Join a tensor without dimensions to the graph of M, a and b."""
    joined: Tensor = _Differentiable.apply(number, gradients, M, a, b)
    return joined


def with_centred_gradients(
    number: Tensor, plan: Lazy, u: Tensor, v: Tensor, M: Any, a: Any, b: Any
) -> Tensor:
    """Join an exact cost to the graph of M, a and b, as POT's `emd2` does."""
    gradients = Gradients(plan, lambda: u - u.mean(), lambda: v - v.mean())
    return differentiable(number, gradients, M, a, b)


def with_gradients(result: OTResult, M: Any, a: Any, b: Any) -> OTResult:
    """Make `value` and `objective` of a result tensors in the graph of M, a and b."""
    a_masses, b_masses = (
        torch.from_numpy(masses(constant(x), name, len(potential)))
        for x, name, potential in zip((a, b), ("a", "b"), result.potentials, strict=True)
    )
    ratio = a_masses.sum() / b_masses.sum()  # what b is scaled by
    if result.reg is not None:
        _refuse_zero_masses(a=a, b=b)

    def balanced(gradients: Gradients) -> Gradients:
        @cache
        def shift() -> Tensor:
            v = gradients.b().masked_fill(b_masses == 0, 0)
            return torch.dot(b_masses, v) / b_masses.sum()

        return replace(
            gradients,
            a=lambda: gradients.a() + shift(),
            b=lambda: ratio * (gradients.b() - shift()),
        )

    def joined(number: float, gradients: Gradients) -> Tensor:
        return differentiable(number_as_given(number, M, a, b), balanced(gradients), M, a, b)

    kept = deepcopy(result)  # the caller may change plan and potentials before the way back
    u, v = kept.potentials
    objective = joined(result.objective, Gradients(kept.dense_plan, lambda: u, lambda: v))
    if result.reg is None:
        return replace(result, value=objective, objective=objective)
    value = joined(result.value, _entropic_cost(kept, result.reg))
    return replace(result, value=value, objective=objective)


def _refuse_zero_masses(**given: Any) -> None:
    for name, x in given.items():
        if requires_grad(x) and bool((x == 0).any()):
            i = int((x == 0).nonzero()[0])
            raise ValueError(
                f"{name}[{i}] is 0, where the entropic objective has no derivative; leave the "
                f"entry out, or use {name}.detach()"
            )


def _entropic_cost(result: OTResult, reg: float) -> Gradients:
    """Gradients of <P, M>."""
    u, v = result.potentials

    @cache
    def responses() -> tuple[Tensor, Tensor]:
        return _responses(result.dense_plan().double())

    def d_cost() -> Tensor:
        plan = result.dense_plan().double()
        x, y = responses()
        gradient: Tensor = plan * (1 + x[:, None] + y) + torch.xlogy(plan, plan)
        return gradient

    return Gradients(d_cost, lambda: u + reg * responses()[0], lambda: v + reg * responses()[1])


def _responses(plan: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for (x, y), scaled so that the blocks on the diagonal become identities."""
    entropy = torch.xlogy(plan, plan)
    a, b = plan.sum(1).sqrt(), plan.sum(0).sqrt()
    a_inverse, b_inverse = (torch.where(s > 0, 1 / s, 0) for s in (a, b))
    scaled = plan * a_inverse[:, None] * b_inverse
    rows, columns = entropy.sum(1) * a_inverse, entropy.sum(0) * b_inverse
    # (I - Q^T Q) y = Q^T rows - columns, whose kernel is b; adding b b^T makes y orthogonal to it.
    matrix = torch.outer(b, b) / (b @ b) - scaled.T @ scaled
    matrix.diagonal().add_(1 + _RIDGE)
    y = torch.linalg.solve(matrix, scaled.T @ rows - columns)
    x = -rows - scaled @ y
    return x * a_inverse, y * b_inverse
