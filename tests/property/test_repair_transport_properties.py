"""The reduced transport is the whole problem: same cost as POT's, exact marginals, canonical."""

from __future__ import annotations

import numpy as np
import ot as pot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from otbr_fast.repair import (
    LayerTransport,
    Mode,
    costs,
    mass,
    neuron_costs,
    transport_layer,
    transport_neurons,
)

Array = NDArray[np.float64]
Layer = tuple[Array, NDArray[np.bool_], Array]


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Weights with equal and zero rows, any pruned set, and masses from uniform to extreme."""
    n = draw(st.integers(1, 40))
    d = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = draw(st.sampled_from([1e-6, 1.0, 1e4])) * rng.normal(size=(n, d))
    for k in range(n):
        if rng.random() < 0.15:
            weights[k] = weights[rng.integers(n)] * rng.integers(0, 2)
    pruned = rng.random(n) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    spread = draw(st.sampled_from([0.0, 0.1, 1.0, 8.0]))  # of the masses' logarithms
    nwc = np.exp(spread * rng.normal(size=n)) * (rng.random(n) < draw(st.sampled_from([0.8, 1.0])))
    return weights, pruned, mass("layer", nwc, "default")


def full_cost(weights: Array, pruned: NDArray[np.bool_]) -> Array:
    sources = np.where(pruned[:, None], 0.0, weights)
    return np.asarray(np.linalg.norm(sources[:, None] - weights[None], axis=-1))


def pots_cost(cost: Array, beta: Array) -> float:
    """Of the cost scaled to 1, because POT's tolerances are absolute."""
    scale = cost.max() or 1.0
    alpha = np.full(beta.size, 1 / beta.size)
    return float(scale * pot.emd2(alpha, beta, cost / scale, numItermax=10**7))


def check_marginals(transport: LayerTransport, beta: Array) -> None:
    plan = transport.plan
    assert plan.shape == (beta.size, beta.size)
    assert plan.data.min(initial=0.0) >= 0
    np.testing.assert_allclose(plan.sum(axis=1), 1 / beta.size, rtol=0, atol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0), beta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["default", "paper"])
@given(layer=layers())
@settings(max_examples=150)
def test_cost_equals_pots_and_marginals_are_exact(mode: Mode, layer: Layer) -> None:
    weights, pruned, beta = layer
    cost = full_cost(weights, pruned)
    best = pots_cost(cost, beta)
    transport = transport_layer("layer", weights, pruned, beta, mode)
    scale = max(best, 1e-6 * cost.max())  # a cost of almost 0 has no relative precision
    assert abs(transport.value - best) <= 1e-9 * scale
    assert abs((transport.plan.toarray() * cost).sum() - best) <= 1e-9 * scale
    assert abs(transport.duality_gap) <= 1e-9 * scale
    check_marginals(transport, beta)


@given(layer=layers())
@settings(max_examples=150)
def test_default_plan_is_canonical(layer: Layer) -> None:
    """What can stay stays, and the pruned rows, which are one point, are treated alike."""
    weights, pruned, beta = layer
    transport = transport_layer("layer", weights, pruned, beta)
    plan = transport.plan.toarray()
    staying = np.minimum(1 / beta.size, beta)[~pruned]
    assert (np.diag(plan)[~pruned] >= staying * (1 - 1e-12)).all()
    assert (plan[pruned] == plan[pruned][:1]).all()
    rows, columns = transport.solved_shape
    assert rows <= (~pruned).sum() + 1
    assert columns <= beta.size


@given(layer=layers(), seed=st.integers(0, 2**32))
@settings(max_examples=100)
def test_pushing_is_the_dense_product_with_the_map(layer: Layer, seed: int) -> None:
    weights, pruned, beta = layer
    n = beta.size
    transport = transport_layer("layer", weights, pruned, beta)
    T = transport.plan.toarray() / beta
    rng = np.random.default_rng(seed)
    values, kernels = rng.normal(size=(n, 3)), rng.normal(size=(4, n, 2, 3))
    tolerance = 1e-9 * max(1.0, T.sum(axis=1).max())
    np.testing.assert_allclose(transport.push(values), T.T @ values, atol=tolerance)
    mixed = np.einsum("oihw,ik->okhw", kernels, T)
    np.testing.assert_allclose(transport.push_inputs(kernels), mixed, atol=tolerance)


@given(layer=layers())
@settings(max_examples=50)
def test_a_layer_that_keeps_its_masses_and_neurons_does_not_move(layer: Layer) -> None:
    weights, _, beta = layer
    n = beta.size
    nothing = np.zeros(n, dtype=np.bool_)
    transport = transport_layer("layer", weights, nothing, np.full(n, 1 / n))
    assert transport.value == 0
    assert transport.solved_shape == (0, 0)
    np.testing.assert_allclose(transport.push(weights), weights, rtol=1e-12)


@given(layer=layers(), seed=st.integers(0, 2**32))
@settings(max_examples=50)
def test_several_weights_of_the_same_neurons_add_their_distances(layer: Layer, seed: int) -> None:
    weights, pruned, beta = layer
    other = np.random.default_rng(seed).normal(size=(beta.size, 4)) * abs(weights).max()
    both = neuron_costs([weights, other])
    full = full_cost(weights, pruned) + full_cost(other, pruned)
    best = pots_cost(full, beta)
    transport = transport_neurons("layer", both, pruned, beta)
    scale = max(best, 1e-6 * full.max())
    assert abs(transport.value - best) <= 1e-9 * scale
    assert abs((transport.plan.toarray() * full).sum() - best) <= 1e-9 * scale
    check_marginals(transport, beta)


@pytest.mark.parametrize("most", [None, 0], ids=["kept", "found"])
@given(layer=layers(), seed=st.integers(0, 2**32), from_zero=st.booleans())
@settings(max_examples=50)
def test_costs_of_some_neurons_are_those_of_their_rows(
    most: int | None, layer: Layer, seed: int, from_zero: bool
) -> None:
    """Whether all distances are kept or those that are asked for are found."""
    weights = layer[0]
    rng = np.random.default_rng(seed)
    chosen, sources, targets = (np.flatnonzero(rng.random(len(weights)) < 0.7) for _ in range(3))
    sources, targets = sources[sources < chosen.size], targets[targets < chosen.size]
    with pytest.MonkeyPatch.context() as patch:
        if most is not None:
            patch.setattr(costs, "MOST_KEPT", most)
        some = neuron_costs([weights]).take(chosen)
    points = np.concatenate([weights[chosen[sources]], np.zeros((1, weights.shape[1]))])
    distances = np.linalg.norm(points[:, None] - weights[None, chosen[targets]], axis=-1)
    if not (sources.size + from_zero and targets.size):
        return
    found = some.moving(sources, targets, from_zero=from_zero)
    expected = distances if from_zero else distances[:-1]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * abs(weights).max())


@given(layer=layers())
@settings(max_examples=50)
def test_transport_is_the_same_where_distances_are_too_many_to_be_kept(layer: Layer) -> None:
    weights, pruned, beta = layer
    kept = transport_layer("layer", weights, pruned, beta)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "MOST_KEPT", 0)
        found = transport_layer("layer", weights, pruned, beta)
    assert found.value == pytest.approx(kept.value, rel=1e-12)
    check_marginals(found, beta)


@given(layer=layers())
@settings(max_examples=50)
def test_float32_stays_and_is_as_precise_as_it_can_be(layer: Layer) -> None:
    """The same weights, in both types."""
    weights, pruned, beta = layer
    narrow = weights.astype(np.float32)
    best = transport_layer("layer", narrow.astype(np.float64), pruned, beta)
    found = transport_layer("layer", narrow, pruned, beta)
    assert found.value == pytest.approx(best.value, rel=1e-5, abs=1e-12 * abs(weights).max())
    pushed = found.push(narrow)
    assert pushed.dtype == np.float32
    exact = (found.plan.toarray() / beta).T @ narrow.astype(np.float64)
    np.testing.assert_allclose(pushed, exact, rtol=0, atol=1e-6 * abs(weights).max())


@given(layer=layers(), seed=st.integers(0, 2**32))
@settings(max_examples=100)
def test_a_start_from_other_pruned_neurons_changes_no_cost(layer: Layer, seed: int) -> None:
    weights, pruned, beta = layer
    others = np.random.default_rng(seed).random(beta.size) < 0.3
    known = neuron_costs([weights])
    warm = transport_neurons("layer", known, others, beta)
    found = transport_neurons("layer", known, pruned, beta, warm=warm)
    cold = transport_neurons("layer", known, pruned, beta)
    scale = max(cold.value, 1e-6 * abs(weights).max())
    assert abs(found.value - cold.value) <= 1e-9 * scale
    assert found.solved_shape == cold.solved_shape
    check_marginals(found, beta)
