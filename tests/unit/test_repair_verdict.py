"""The verdict: its statistic against scipy's, its rate of false signs, and real networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from digit_networks import CLASSES, TARGET, attacked_network, network_without_norms
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from otbr_fast.errors import RepairError
from otbr_fast.repair import verdict
from otbr_fast.repair.verdict import judge, probe_classes

RADIUS = 0.1  # digits are black and white: it takes more than on photographs

loss_lists = st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=30)


def values(losses: list[float]) -> np.ndarray:
    return np.log(losses) if verdict.LOG_LOSSES else np.asarray(losses)


@given(loss_lists)
def test_the_statistic_is_a_t_test_of_one_class_against_the_others(losses: list[float]) -> None:
    compared = values(losses)
    for k, evidence in enumerate(judge(losses).classes):
        others = np.delete(compared, k)
        if others.std() < 1e-6 * np.abs(compared).max():
            continue
        expected = stats.ttest_ind([compared[k]], others, alternative="less")
        assert evidence.statistic == pytest.approx(-expected.statistic, rel=1e-6, abs=1e-9)
        assert evidence.p_value == pytest.approx(min(1, len(losses) * expected.pvalue), rel=1e-5)


@given(loss_lists, st.randoms(use_true_random=False))
def test_the_order_of_classes_does_not_matter(losses: list[float], random: object) -> None:
    order = list(range(len(losses)))
    random.shuffle(order)  # type: ignore[attr-defined]
    straight, mixed = judge(losses), judge([losses[k] for k in order])
    assert mixed.p_value == pytest.approx(straight.p_value, rel=1e-6)
    for k, evidence in zip(order, mixed.classes, strict=True):
        assert evidence.statistic == pytest.approx(straight.classes[k].statistic, rel=1e-6)


@pytest.mark.parametrize("n_classes", [4, 10, 100])
def test_without_a_sign_there_is_a_suspect_as_often_as_the_level_says(n_classes: int) -> None:
    draws = np.random.default_rng(0).normal(8, 1, size=(1500, n_classes))
    losses = np.exp(draws / 4) if verdict.LOG_LOSSES else draws
    rate = np.mean([judge(list(row)).suspect is not None for row in losses])
    assert 0.01 < rate < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5


def test_a_class_that_stands_out_is_named() -> None:
    found = judge([9.0, 9.5, 1.0, 10.0, 9.2, 9.1])
    assert found.suspect == 2
    assert found.p_value is not None
    assert found.p_value == found.classes[2].p_value
    assert found.p_value < 0.05
    assert str(found).startswith("sign found: class 2 ")
    assert judge([9.0, 9.5, 1.0, 10.0, 9.2, 9.1], level=1e-9).suspect is None


def test_a_class_that_is_hard_to_reach_is_no_sign() -> None:
    nothing = judge([9.0, 9.5, 30.0, 10.0, 9.2, 9.1])
    assert nothing.suspect is None
    assert str(nothing).startswith("no sign found")


def test_equal_losses_and_losses_of_zero() -> None:
    assert judge([2.0] * 5).p_value == 1
    assert judge([2.0, 2.0, 2.0, 0.0, 2.0]).suspect == 3
    assert judge([0.0] * 5).suspect is None


@pytest.mark.parametrize("n_classes", [2, 3])
def test_too_few_classes_cannot_tell(n_classes: int) -> None:
    unknown = judge([0.1, *[9.0] * (n_classes - 1)])
    assert unknown.suspect is None
    assert unknown.p_value is None
    assert [evidence.statistic for evidence in unknown.classes] == [None] * n_classes
    assert "cannot tell" in str(unknown)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_losses_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(RepairError, match="finite and not negative"):
        judge([1.0, 2.0, bad, 3.0])


def test_the_attacked_class_is_found_and_nothing_without_an_attack() -> None:
    suspects = {}
    told: list[tuple[str, int, int]] = []
    for name, trained in (("attacked", attacked_network()), ("other", network_without_norms())):
        probes = probe_classes(
            trained.model,
            trained.inputs,
            trained.surrogates,
            CLASSES,
            radius=RADIUS,
            progress=lambda *step: told.append(step),
        )
        assert [probe.target for probe in probes] == list(range(CLASSES))
        suspects[name] = judge([probe.loss for probe in probes]).suspect
    assert suspects == {"attacked": TARGET, "other": None}
    assert told == [("probe", k, CLASSES) for k in range(1, CLASSES + 1)] * 2


def test_probing_is_repeatable() -> None:
    trained = attacked_network()
    one, same = (
        probe_classes(trained.model, trained.inputs, trained.surrogates, 2, radius=RADIUS)
        for _ in range(2)
    )
    assert all(torch.equal(a.perturbation, b.perturbation) for a, b in zip(one, same, strict=True))
