"""What a report takes from networks, plans and images."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from otbr_fast.evaluate import Metrics
from otbr_fast.models import PreActResNet
from otbr_fast.repair import ChainStages, LayerReport, conv_chain
from otbr_fast.repair.weights import rows
from otbr_fast.report.repair_facts import PLAN_CELLS, layer_facts, measured, plan_map, png


@given(seed=st.integers(0, 99), n=st.integers(1, 600), share=st.floats(0, 1))
def test_a_plan_keeps_its_mass_and_its_order(seed: int, n: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pruned = rng.uniform(size=n) < share
    plan = sparse.random_array((n, n), density=min(1.0, 3 / n), rng=rng)
    told = plan_map("a", plan, pruned)
    cells = np.array(told.cells, dtype=float)
    assert len(cells) == min(n, PLAN_CELLS)
    k = told.pruned_cells
    assert (k > 0) is bool(pruned.any())
    assert (k < len(cells)) is not bool(pruned.all())
    dense = plan.toarray()
    for is_pruned, part in ((True, cells[:k]), (False, cells[k:])):
        assert part.sum() == pytest.approx(dense[pruned == is_pruned].sum(), rel=1e-4, abs=1e-9)
    assert cells[:, :k].sum() == pytest.approx(dense[:, pruned].sum(), rel=1e-4, abs=1e-9)


def test_a_small_plan_is_only_sorted() -> None:
    plan = np.arange(9.0).reshape(3, 3)
    told = plan_map("a", plan, np.array([False, True, False]))
    order = [1, 0, 2]
    np.testing.assert_array_equal(np.array(told.cells, dtype=float), plan[np.ix_(order, order)])


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 5, 7), (7, 5)), ((1, 8, 8), (8, 8)), ((3, 192, 96), (32, 64))]
)
def test_images_are_shown_and_made_small(
    shape: tuple[int, int, int], size: tuple[int, int]
) -> None:
    content = base64.b64decode(png(np.full(shape, 0.5)))
    assert Image.open(io.BytesIO(content)).size == size


def test_bytes_and_fractions_are_the_same_image() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    assert png(whole) == png(whole / 255)


@pytest.mark.parametrize(
    "values", [np.zeros((4, 4)), np.zeros((2, 4, 4)), np.full((1, 2, 2), np.nan)]
)
def test_what_is_no_image_is_refused(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    with pytest.raises(ValueError, match="an image"):
        png(values)


def test_layers_hold_norms_of_each_network(tiny_resnet: PreActResNet) -> None:
    reports = [LayerReport("conv1", 4, 1, 0.5, 0.0, 0.01)]
    mask = np.array([False, True, False, False])
    (facts,) = layer_facts(
        reports,
        ranking={"conv1": np.arange(4.0)},
        pruned={"conv1": mask},
        norms={"backdoored": ChainStages(conv_chain(tiny_resnet)).norms(tiny_resnet)},
    )
    assert facts.pruned == (1,)
    assert facts.ranking == (0.0, 1.0, 2.0, 3.0)
    wanted = np.sqrt((rows(tiny_resnet, "conv1") ** 2).sum(axis=1))
    assert facts.norms["backdoored"] == pytest.approx(tuple(wanted), rel=1e-5)
    assert layer_facts(reports)[0].pruned is None


def test_measured_rates_are_against_the_network_before() -> None:
    before = Metrics(0.9, 1.0, 0.0, 0.9, (0.9, None))
    after = Metrics(0.8, 0.0, 0.8, 0.5, (0.8, None))
    told = measured(after, before)
    assert told.der == pytest.approx(0.95)
    assert told.hder == pytest.approx(0.8)
    assert told.recalls == (0.8, None)
    assert measured(before).der is None
