"""The verdict: its statistic against scipy's, its rate of false signs, and real networks."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from digit_networks import CLASSES, TARGET, attacked_network, network_without_norms
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from otbr_fast.errors import RepairError
from otbr_fast.repair.verdict import judge, probe_classes

RADII = (0.05, 0.1)  # digits are black and white: it takes more than on photographs

rows = st.integers(4, 30).flatmap(
    lambda n: st.lists(
        st.lists(st.floats(1e-3, 1e3), min_size=n, max_size=n), min_size=2, max_size=2
    )
)


@given(rows, st.floats(0.05, 0.95))
def test_the_statistic_is_a_t_test_of_one_class_against_the_others(
    losses: list[list[float]], weight: float
) -> None:
    logs, n_classes = np.log(losses), len(losses[0])
    weights = (weight, 1 - weight)
    for k, evidence in enumerate(judge(losses, weights=weights).classes):
        others = np.delete(logs, k, axis=1)
        if (others.std(axis=1) < 1e-6 * np.abs(logs).max()).any():
            continue
        tests = [
            stats.ttest_ind([row[k]], rest, alternative="less")
            for row, rest in zip(logs, others, strict=True)
        ]
        expected = [n_classes * t.pvalue / w for t, w in zip(tests, weights, strict=True)]
        assert evidence.losses == (losses[0][k], losses[1][k])
        assert evidence.p_value == pytest.approx(min(1, *expected), rel=1e-5)
        assert any(
            evidence.statistic == pytest.approx(-t.statistic, rel=1e-6, abs=1e-9) for t in tests
        )


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_classes_does_not_matter(losses: list[list[float]], random: Random) -> None:
    order = list(range(len(losses[0])))
    random.shuffle(order)
    straight, mixed = judge(losses), judge([[row[k] for k in order] for row in losses])
    assert mixed.p_value == pytest.approx(straight.p_value, rel=1e-6)
    for k, evidence in zip(order, mixed.classes, strict=True):
        assert evidence.p_value == pytest.approx(straight.classes[k].p_value, rel=1e-6)


@pytest.mark.parametrize("n_classes", [4, 10, 100])
def test_without_a_sign_there_is_a_suspect_as_often_as_the_level_says(n_classes: int) -> None:
    """At both radii, which are taken to be independent here."""
    losses = np.exp(np.random.default_rng(0).normal(2, 0.25, size=(1500, 2, n_classes)))
    rate = np.mean([judge(both.tolist()).suspect is not None for both in losses])
    assert 0.01 < rate < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5


@pytest.mark.parametrize("at", [0, 1])
def test_a_class_that_stands_out_at_either_radius_is_named(at: int) -> None:
    plain = [9.0, 9.5, 9.3, 10.0, 9.2, 9.1]
    outstanding = [9.0, 9.5, 1.0, 10.0, 9.2, 9.1]
    losses = [outstanding, plain] if at == 0 else [plain, outstanding]
    found = judge(losses)
    assert found.suspect == found.most_suspicious == 2
    assert found.p_value is not None
    assert found.p_value == found.classes[2].p_value
    assert found.p_value < 0.05
    assert str(found).startswith("sign found: class 2 ")
    unsure = judge(losses, level=1e-12)
    assert unsure.suspect is None
    assert unsure.most_suspicious == 2


def test_a_class_that_is_hard_to_reach_is_no_sign() -> None:
    nothing = judge([[9.0, 9.5, 30.0, 10.0, 9.2, 9.1]] * 2)
    assert nothing.suspect is None
    assert str(nothing).startswith("no sign found")


def test_equal_losses_and_losses_of_zero() -> None:
    assert judge([[2.0] * 5] * 2).p_value == 1
    assert judge([[2.0, 2.0, 2.0, 0.0, 2.0]] * 2).suspect == 3
    assert judge([[0.0] * 5] * 2).suspect is None


@pytest.mark.parametrize("n_classes", [2, 3])
def test_too_few_classes_cannot_tell(n_classes: int) -> None:
    unknown = judge([[9.0] * (n_classes - 1) + [0.1]] * 2)
    assert unknown.suspect is None
    assert unknown.p_value is None
    assert unknown.most_suspicious == n_classes - 1
    assert [evidence.statistic for evidence in unknown.classes] == [None] * n_classes
    assert "cannot tell" in str(unknown)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_losses_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(RepairError, match="finite and not negative"):
        judge([[1.0, 2.0, bad, 3.0]] * 2)


def test_the_attacked_class_is_found_and_nothing_without_an_attack() -> None:
    suspects = {}
    told: list[tuple[str, int, int]] = []
    for name, trained in (("attacked", attacked_network()), ("other", network_without_norms())):
        compared = probe_classes(
            trained.model,
            trained.inputs,
            trained.surrogates,
            CLASSES,
            radii=RADII,
            progress=lambda *step: told.append(step),
        )
        for radius, probes in zip(RADII, compared, strict=True):
            assert [probe.target for probe in probes] == list(range(CLASSES))
            assert {probe.radius for probe in probes} == {radius}
        losses = [[probe.loss for probe in probes] for probes in compared]
        suspects[name] = judge(losses, weights=(0.5, 0.5)).suspect
    assert suspects == {"attacked": TARGET, "other": None}
    assert told == [("probe", k, 2 * CLASSES) for k in range(1, 2 * CLASSES + 1)] * 2


def test_probing_is_repeatable() -> None:
    trained = attacked_network()
    (one,), (same,) = (
        probe_classes(trained.model, trained.inputs, trained.surrogates, 2, radii=(0.1,))
        for _ in range(2)
    )
    assert all(torch.equal(a.perturbation, b.perturbation) for a, b in zip(one, same, strict=True))
