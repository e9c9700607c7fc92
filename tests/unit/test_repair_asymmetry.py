"""Asymmetry: easy to come to and hard to leave stands out, near to all others does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from digit_networks import CLASSES, TARGET, attacked_network
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import RepairError
from otbr_fast.repair.asymmetry import asymmetries, losses_between
from otbr_fast.repair.probe import Probe
from otbr_fast.repair.verdict import judge, probe_classes

losses = hnp.arrays(np.float64, (6, 6), elements=st.floats(1e-3, 1e3))


@given(losses)
def test_what_one_class_gains_the_others_lose(values: np.ndarray) -> None:
    assert asymmetries(values).sum() == pytest.approx(0, abs=1e-9)
    assert asymmetries(values.T) == pytest.approx(-asymmetries(values), abs=1e-9)


@given(losses, hnp.arrays(np.float64, 6, elements=st.floats(0.1, 10)))
def test_distances_that_hold_both_ways_do_not_count(values: np.ndarray, far: np.ndarray) -> None:
    both_ways = np.sqrt(values * values.T) * np.outer(far, far)
    assert asymmetries(both_ways) == pytest.approx(np.zeros(6), abs=1e-9)


@given(losses, st.integers(0, 5), st.floats(1.1, 100))
def test_a_way_in_that_is_easier_raises_one_class(
    values: np.ndarray, target: int, easier: float
) -> None:
    opened = values.copy()
    opened[:, target] /= easier
    change = asymmetries(opened) - asymmetries(values)
    assert change[target] == pytest.approx(np.log(easier))
    assert np.delete(change, target) == pytest.approx(np.full(5, -np.log(easier) / 5))


def test_losses_are_each_class_under_each_probe() -> None:
    trained = attacked_network()
    surrogates, inputs = trained.surrogates, trained.inputs
    (probes,) = probe_classes(trained.model, inputs, surrogates, CLASSES, radii=[0.1])
    found = losses_between(trained.model, inputs, surrogates, probes)
    assert (np.diag(found) == 0).all()
    for source, target in ((0, TARGET), (TARGET, 1)):
        moved = probes[target].apply(surrogates.images[surrogates.labels == source], inputs)
        logits = trained.model(inputs.normalize(moved))
        expected = F.cross_entropy(logits, torch.full((len(moved),), target)).item()
        assert found[source, target] == pytest.approx(expected, rel=0.05, abs=2e-3)  # bf16
    # Each class has as many surrogates, so the mean over sources is the probe's own loss.
    means = found.sum(axis=0) / (CLASSES - 1)
    assert means == pytest.approx([probe.loss for probe in probes], rel=0.02)
    assert int(np.argmax(asymmetries(found))) == TARGET


@pytest.mark.parametrize(
    ("easier", "by_wave", "suspect"),
    [(0.9, 3.0, None), (1.08, 3.0, None), (1.08, 0.01, 4), (0.9, 0.01, None), (3.0, 3.0, 4)],
)
def test_a_class_far_from_all_is_found_by_its_asymmetry_or_by_that_and_its_wave(
    easier: float, by_wave: float, suspect: int | None
) -> None:
    rng = np.random.default_rng(0)
    far = np.array([1.0, 1.1, 0.9, 1.2, 5.0, 1.0, 0.8, 1.1, 0.95, 1.05])
    between = np.outer(far, far) * np.exp(rng.normal(0, 0.1, (10, 10)))
    between[:, 4] /= easier  # still no nearer than the others
    own = [(between[:, k].sum() - between[k, k]) / 9 for k in range(10)]
    assert judge([own], weights=[1.0]).suspect is None
    drawn, waves = asymmetries(between).tolist(), rng.uniform(2, 4, 10)
    waves[4] = by_wave
    verdict = judge([own], drawn, waves.tolist(), weights=[0.98, 0.01, 0.01])
    assert verdict.suspect == suspect
    evidence = verdict.classes[4]
    assert (evidence.asymmetry, evidence.wave_loss) == pytest.approx((drawn[4], by_wave))


@pytest.mark.parametrize("bad", [[0.0] * 3, [0.0, 0.0, 0.0, float("nan")]])
def test_asymmetries_that_are_none_are_refused(bad: list[float]) -> None:
    with pytest.raises(RepairError, match=r"asymmetries .* one for each class"):
        judge([[1.0, 2.0, 2.0, 3.0]], bad, [1.0] * 4, weights=[0.5, 0.3, 0.2])


@pytest.mark.parametrize("bad", [[], [1.0] * 3, [1.0, 1.0, 1.0, -1.0], [1.0, 1.0, 1.0, np.inf]])
def test_losses_of_waves_that_are_none_are_refused(bad: list[float]) -> None:
    with pytest.raises(RepairError, match=r"waves' losses .* one for each asymmetry"):
        judge([[1.0, 2.0, 2.0, 3.0]], [0.0] * 4, bad, weights=[0.5, 0.3, 0.2])


def test_a_probe_for_each_class_of_two() -> None:
    trained = attacked_network()
    still = [Probe(k, 0.1, torch.zeros(trained.inputs.shape), 0.0, 0.0) for k in range(2)]
    found = losses_between(trained.model, trained.inputs, trained.surrogates, still)
    assert found.shape == (2, 2)
    assert asymmetries(found).sum() == pytest.approx(0)
