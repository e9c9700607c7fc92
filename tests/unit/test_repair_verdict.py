"""The verdict: its statistic against scipy's, its rate of false signs, and real networks."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from digit_networks import CLASSES, TARGET, attacked_network, network_without_norms
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from otbr_fast.errors import RepairError
from otbr_fast.repair.verdict import LEVEL, Verdict, judge, probe_classes

RADIUS = 0.1  # digits are black and white: it takes more than on photographs

loss_lists = st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=30)


def at_one_radius(losses: list[float], level: float = LEVEL) -> Verdict:
    return judge([losses], weights=[1.0], level=level)


@given(loss_lists)
def test_the_statistic_is_a_t_test_of_one_class_against_the_others(losses: list[float]) -> None:
    compared = np.log(losses)
    for k, evidence in enumerate(at_one_radius(losses).classes):
        assert evidence.losses == (losses[k],)
        others = np.delete(compared, k)
        if others.std() <= 1e-6 * np.abs(compared).max():
            continue
        expected = stats.ttest_ind([compared[k]], others, alternative="less")
        assert evidence.statistic == pytest.approx(-expected.statistic, rel=1e-6, abs=1e-9)
        assert evidence.p_value == pytest.approx(min(1, len(losses) * expected.pvalue), rel=1e-5)


@given(loss_lists, st.randoms(use_true_random=False))
def test_the_order_of_classes_does_not_matter(losses: list[float], random: object) -> None:
    order = list(range(len(losses)))
    random.shuffle(order)  # type: ignore[attr-defined]
    straight, mixed = at_one_radius(losses), at_one_radius([losses[k] for k in order])
    assert mixed.p_value == pytest.approx(straight.p_value, rel=1e-6)
    for k, evidence in zip(order, mixed.classes, strict=True):
        assert evidence.statistic == pytest.approx(straight.classes[k].statistic)


@pytest.mark.parametrize("n_classes", [4, 10, 100])
def test_without_a_sign_there_is_a_suspect_as_often_as_the_level_says(n_classes: int) -> None:
    losses = np.exp(np.random.default_rng(0).normal(2, 0.25, size=(1500, 2, n_classes)))
    rng = np.random.default_rng(1)
    asymmetry = rng.normal(size=(1500, n_classes))
    waves = np.exp(rng.normal(size=(1500, n_classes)))
    suspects = [
        judge(both.tolist(), drawn.tolist(), by_wave.tolist()).suspect
        for both, drawn, by_wave in zip(losses, asymmetry, waves, strict=True)
    ]
    rate = np.mean([suspect is not None for suspect in suspects])
    assert 0.01 < rate < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5


def test_a_class_that_stands_out_is_named() -> None:
    found = at_one_radius([9.0, 9.5, 1.0, 10.0, 9.2, 9.1])
    assert found.suspect == 2
    assert found.p_value is not None
    assert found.p_value == found.classes[2].p_value
    assert found.p_value < 0.05
    assert str(found).startswith("sign found: class 2 ")
    assert at_one_radius([9.0, 9.5, 1.0, 10.0, 9.2, 9.1], level=1e-9).suspect is None


def test_the_radius_that_tells_more_decides_by_its_weight() -> None:
    plain, telling = [9.0, 9.5, 9.8, 10.0, 9.2, 9.1], [9.0, 9.5, 9.8, 10.0, 1.0, 9.1]
    alone = at_one_radius(telling)
    assert alone.p_value is not None
    for losses, weight in (([telling, plain], 0.9), ([plain, telling], 0.1)):
        both = judge(losses, weights=[0.9, 0.1])
        assert both.suspect == both.most_suspicious == 4
        assert both.p_value == pytest.approx(alone.p_value / weight)
        assert both.classes[4].statistic == alone.classes[4].statistic
        assert both.classes[4].losses == (losses[0][4], losses[1][4])


def test_a_class_that_is_hard_to_reach_is_no_sign() -> None:
    nothing = at_one_radius([9.0, 9.5, 30.0, 10.0, 9.2, 9.1])
    assert nothing.suspect is None
    assert str(nothing).startswith("no sign found")


def test_equal_losses_and_losses_of_zero() -> None:
    assert at_one_radius([2.0] * 5).p_value == 1
    alike = at_one_radius([2.0, 2.0, 2.0, 0.0, 2.0])
    assert alike.suspect == 3
    assert (alike.classes[3].statistic, alike.p_value) == (None, 0)
    json.dumps(asdict(alike), allow_nan=False)
    assert at_one_radius([0.0] * 5).suspect is None


@pytest.mark.parametrize("n_classes", [2, 3])
def test_too_few_classes_cannot_tell(n_classes: int) -> None:
    unknown = at_one_radius([0.1, *[9.0] * (n_classes - 1)])
    assert unknown.suspect is None
    assert unknown.p_value is None
    assert [evidence.statistic for evidence in unknown.classes] == [None] * n_classes
    assert "cannot tell" in str(unknown)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_losses_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(RepairError, match="finite and not negative"):
        judge([[1.0, 2.0, bad, 3.0], [1.0, 2.0, 2.0, 3.0]], weights=[0.5, 0.5])


@pytest.mark.parametrize(
    "losses", [[], [[]], [1.0, 2.0, 3.0, 4.0], [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0]]]
)
def test_losses_that_fit_no_classes_are_refused(losses: Any) -> None:
    with pytest.raises(RepairError, match="one for each class at each radius"):
        judge(losses)


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.6], [1.0, 0.0], [0.5, 0.3, 0.2]])
def test_weights_that_fit_no_radii_are_refused(weights: list[float]) -> None:
    with pytest.raises(RepairError, match=r"weights .* must be positive"):
        judge([[1.0, 2.0, 3.0, 4.0]] * 2, weights=weights)


def test_the_attacked_class_is_found_and_nothing_without_an_attack() -> None:
    suspects = {}
    told: list[tuple[str, int, int]] = []
    for name, trained in (("attacked", attacked_network()), ("other", network_without_norms())):
        (probes,) = probe_classes(
            trained.model,
            trained.inputs,
            trained.surrogates,
            CLASSES,
            radii=[RADIUS],
            progress=lambda *step: told.append(step),
        )
        assert [probe.target for probe in probes] == list(range(CLASSES))
        suspects[name] = at_one_radius([probe.loss for probe in probes]).suspect
    assert suspects == {"attacked": TARGET, "other": None}
    assert told == [("probe", k, CLASSES) for k in range(1, CLASSES + 1)] * 2


def test_probing_is_repeatable_and_in_the_order_of_radii() -> None:
    trained = attacked_network()
    told: list[tuple[str, int, int]] = []
    one, same = (
        probe_classes(
            trained.model,
            trained.inputs,
            trained.surrogates,
            2,
            radii=[0.05, RADIUS],
            progress=lambda *step: told.append(step),
        )
        for _ in range(2)
    )
    found = [[(probe.radius, probe.target) for probe in probes] for probes in one]
    assert found == [[(radius, target) for target in range(2)] for radius in (0.05, RADIUS)]
    assert told == [("probe", done, 4) for done in range(1, 5)] * 2
    for probes, again in zip(one, same, strict=True):
        for a, b in zip(probes, again, strict=True):
            assert torch.equal(a.perturbation, b.perturbation)
