"""Fused layers against the paper's equations, written out densely with numpy and POT.

Plans are not unique where pruned rows are identical, so what is compared is chosen to be unique:
the first fused layer (pruned rows are 0, so how they share mass does not show), whole chains with
at most one pruned neuron a layer, and any chain along the same plans.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import ot as pot
import pytest
import torch
from numpy.typing import NDArray

from otbr_fast.models import PreActResNet
from otbr_fast.repair import (
    ConvChain,
    LayerReport,
    Mode,
    PrunedMasks,
    RepairConfig,
    conv_chain,
    fuse,
    fuse_transported,
    transport_layers,
)

Array = NDArray[np.float64]
LAMBDA = 0.3


class Case:
    """A random network with random NWCs, as unlearning would give."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.model = PreActResNet((1, 1, 2), (5, 6, 9, 12), in_channels=3, num_classes=4).double()
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
        self.chain: ConvChain = conv_chain(self.model)
        self.names = [layer.name for layer in self.chain.layers]
        # Four decimals, so that both modes see the same numbers.
        self.nwc = {
            layer.name: np.round(rng.lognormal(size=layer.out_channels), 4) + 0.01
            for layer in self.chain.layers
        }

    def prune_each(self, counts: list[int]) -> PrunedMasks:
        pruned = {}
        for name, count in zip(self.names, counts, strict=True):
            chosen = self.rng.permutation(self.nwc[name].size)[:count]
            pruned[name] = np.isin(np.arange(self.nwc[name].size), chosen)
        return pruned

    def weight(self, name: str) -> Array:
        return np.array(self.model.get_parameter(f"{name}.weight").detach().numpy())


def equations(
    case: Case, pruned: PrunedMasks, plans: Mapping[str, Array] | None = None
) -> tuple[dict[str, Array], dict[str, float]]:
    """Fuse by the paper's stage 2; returns the fused weights and each transport's cost."""
    fused: dict[str, Array] = {}
    costs: dict[str, float] = {}
    T_prev: Array | None = None
    for name in case.names:
        W2 = case.weight(name)
        n = len(W2)
        if not fused and not pruned[name].any():
            continue
        W1 = W2.copy()
        W1[pruned[name]] = 0
        # Not pot.dist, whose matrix product leaves 1e-8 between equal rows.
        C = np.linalg.norm(W1.reshape(n, 1, -1) - W2.reshape(1, n, -1), axis=2)
        beta = case.nwc[name] / case.nwc[name].sum()
        P = pot.emd(np.full(n, 1 / n), beta, C) if plans is None else plans[name]
        T = P @ np.diag(1 / beta)
        mixed = W1 if T_prev is None else np.einsum("oihw,ik->okhw", W1, T_prev)
        moved = (T.T @ mixed.reshape(n, -1)).reshape(W2.shape)
        fused[name] = LAMBDA * moved + (1 - LAMBDA) * W2
        costs[name] = float((P * C).sum())
        T_prev = T
    return fused, costs


def config(mode: Mode) -> RepairConfig:
    return RepairConfig(gamma=0.1, mode=mode, lambda_=LAMBDA)


def assert_weights(model: torch.nn.Module, case: Case, expected: Mapping[str, Array]) -> None:
    for name, tensor in model.state_dict().items():
        original = case.model.state_dict()[name]
        wanted = expected.get(name.removesuffix(".weight"), original.numpy())
        np.testing.assert_allclose(tensor.numpy(), wanted, rtol=1e-9, atol=1e-10, err_msg=name)


def assert_costs(layers: tuple[LayerReport, ...], expected: dict[str, float]) -> None:
    """A layer before the first fused one has no cost."""
    costs = {layer.name: layer.ot_cost for layer in layers if layer.ot_cost is not None}
    assert costs == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["paper", "default"])
@pytest.mark.parametrize("seed", range(5))
def test_first_fused_layer(mode: Mode, seed: int) -> None:
    """However many neurons are pruned; the layer is the third, so those before must not change."""
    case = Case(seed)
    pruned = case.prune_each([0, 0, 4, 3, 5, 0, 2, 8, 3])
    expected, costs = equations(case, pruned)
    fused, layers = fuse(case.model, pruned, case.nwc, case.chain, config(mode))
    for name in case.names[:2]:
        assert np.array_equal(fused.get_parameter(f"{name}.weight").detach(), case.weight(name))
    first = case.names[2]
    got = fused.get_parameter(f"{first}.weight").detach().numpy()
    np.testing.assert_allclose(got, expected[first], rtol=1e-9, atol=1e-10)
    assert_costs(layers, costs)


@pytest.mark.parametrize("mode", ["paper", "default"])
@pytest.mark.parametrize("seed", range(5))
def test_whole_chain_with_at_most_one_pruned_neuron_a_layer(mode: Mode, seed: int) -> None:
    case = Case(seed)
    counts = [0, *case.rng.integers(0, 2, size=len(case.names) - 1)]
    counts[1] = 1
    pruned = case.prune_each(counts)
    expected, costs = equations(case, pruned)
    fused, layers = fuse(case.model, pruned, case.nwc, case.chain, config(mode))
    assert_weights(fused, case, expected)
    assert [layer.n_pruned for layer in layers] == counts
    assert_costs(layers, costs)


@pytest.mark.parametrize("mode", ["paper", "default"])
@pytest.mark.parametrize("seed", range(5))
def test_whole_chain_along_the_same_plans(mode: Mode, seed: int) -> None:
    """Any number of pruned neurons; that the plans are optimal is checked by cost and marginals."""
    case = Case(seed)
    pruned = case.prune_each(
        [int(case.rng.integers(1, case.nwc[name].size)) for name in case.names]
    )
    transports = transport_layers(case.model, pruned, case.nwc, case.chain, config(mode))
    plans = {transport.name: transport.plan.toarray() for transport in transports}
    expected, costs = equations(case, pruned, plans)
    _, best = equations(case, pruned)
    assert_weights(fuse_transported(case.model, pruned, transports, LAMBDA), case, expected)
    for transport in transports:
        name, n = transport.name, len(transport.beta)
        assert costs[name] == pytest.approx(best[name], rel=1e-9)
        np.testing.assert_allclose(plans[name].sum(axis=1), 1 / n, rtol=0, atol=1e-12)
        beta = case.nwc[name] / case.nwc[name].sum()
        np.testing.assert_allclose(plans[name].sum(axis=0), beta, rtol=0, atol=1e-12)
