"""Surrogates: what the network takes them for, their range, statistics, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from digit_networks import Trained, attacked_network, network_without_norms
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models import InputSpec, run
from otbr_fast.repair.statistics import StatisticsGap, running, tracking_norms
from otbr_fast.repair.surrogates import (
    Surrogates,
    blurred,
    images_at_once,
    mixed,
    renewed,
    synthesize,
)

INPUTS = InputSpec(shape=(2, 9, 7), low=-3.0, high=5.0)


@pytest.fixture
def attacked() -> Trained:
    return attacked_network()


@pytest.fixture
def without_norms() -> Trained:
    return network_without_norms()


def untrained(n_classes: int = 5, channels: int = 2) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.BatchNorm1d(4),
            nn.Dropout(0.5),
            nn.Linear(4, n_classes),
        ).eval()


def gap_on(trained: Trained, images: torch.Tensor) -> float:
    with StatisticsGap(copy.deepcopy(trained.model)) as gap, torch.no_grad():
        _, distance = gap.run(trained.inputs, images)
    assert distance is not None
    return float(distance)


def test_the_network_takes_them_for_their_labels(attacked: Trained) -> None:
    surrogates = attacked.surrogates
    answers = run(attacked.model, attacked.inputs, surrogates.images).argmax(dim=1)
    assert (answers == surrogates.labels).float().mean() > 0.5  # by chance: 0.1
    assert torch.equal(surrogates.labels.bincount(), torch.full((10,), 20))


def test_they_come_closer_to_the_datas_statistics_than_what_they_start_from(
    attacked: Trained,
) -> None:
    start = synthesize(attacked.model, attacked.inputs, 10, count=200, steps=1)
    data = attacked.task.test.images[:200].float() / 255
    on_surrogates = gap_on(attacked, attacked.surrogates.images)
    # Cross-entropy alone leaves six tenths.
    assert gap_on(attacked, data) < on_surrogates < 0.5 * gap_on(attacked, start.images)


def test_without_batch_norm_they_are_still_taken_for_their_labels(without_norms: Trained) -> None:
    made = without_norms.surrogates
    answers = run(without_norms.model, without_norms.inputs, made.images).argmax(dim=1)
    assert (answers == made.labels).float().mean() > 0.5
    noise = torch.rand(made.images.shape, generator=torch.Generator().manual_seed(0))
    assert made.images.diff(dim=2).abs().mean() < 0.5 * noise.diff(dim=2).abs().mean()


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 7), (5, 6, 20), (3, 3, 3)])
def test_any_shape_within_the_range(shape: tuple[int, int, int]) -> None:
    inputs = InputSpec(shape=shape, low=-3.0, high=5.0)
    surrogates = synthesize(untrained(channels=shape[0]), inputs, 5, count=12, steps=2)
    assert surrogates.images.shape == (15, *shape)
    assert surrogates.images.dtype == torch.float32
    assert float(surrogates.images.min()) >= -3
    assert float(surrogates.images.max()) <= 5
    assert float(surrogates.images.std()) > 0.5


def test_many_classes_and_batches_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbr_fast.repair.surrogates._PIXELS_AT_ONCE", 63 * 50)
    told: list[tuple[str, int, int]] = []
    surrogates = synthesize(
        untrained(120), INPUTS, 120, count=7, steps=2, progress=lambda *step: told.append(step)
    )
    assert torch.equal(surrogates.labels, torch.arange(120))
    assert told == [("synthesize", k, 6) for k in range(1, 7)]
    assert images_at_once(InputSpec(shape=(3, 4096, 4096))) == 8


def test_the_seed_decides_and_nothing_else_is_touched() -> None:
    model = untrained().train()
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    with torch.no_grad():
        one, same, other = (synthesize(model, INPUTS, 5, count=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not one.images.requires_grad


def test_a_network_in_half_precision() -> None:
    surrogates = synthesize(untrained().half(), INPUTS, 5, count=5, steps=2)
    assert surrogates.images.dtype == torch.float32


def test_broken_weights_are_refused() -> None:
    model = untrained()
    with torch.no_grad():
        model.get_parameter("0.weight")[0, 0, 0, 0] = torch.nan
    with pytest.raises(RepairError, match=r"not finite.*weights"):
        synthesize(model, INPUTS, 5, count=5, steps=2)


@pytest.mark.parametrize(("classes", "count", "steps"), [(1, 5, 2), (5, 0, 2), (5, 5, 0)])
def test_too_little_is_refused(classes: int, count: int, steps: int) -> None:
    with pytest.raises(RepairError, match="at least"):
        synthesize(untrained(), INPUTS, classes, count=count, steps=steps)


def test_of_others_leaves_the_target_out() -> None:
    surrogates = Surrogates(torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 1, 2]))
    assert torch.equal(surrogates.of_others(1), surrogates.images[[0, 3]])
    with pytest.raises(RepairError, match="other classes than 0"):
        Surrogates(torch.rand(1, 1, 2, 2), torch.tensor([0])).of_others(0)


def test_the_gap_is_nothing_where_the_statistics_are_the_batches_own() -> None:
    model = untrained().train()
    images = torch.rand(40, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    for norm in tracking_norms(model).values():
        norm.momentum = 1.0
    model(images)  # running statistics are now this batch's, with n - 1 in the variance
    with StatisticsGap(model.eval()) as gap, torch.no_grad():
        _, same = gap.run(InputSpec(shape=(2, 9, 7)), images)
        _, other = gap.run(InputSpec(shape=(2, 9, 7)), images * 2)
    assert same is not None
    assert other is not None
    # The second layer saw the first's batch statistics, and now sees its running ones.
    assert float(same) < 0.05 < float(other)


def test_hooks_are_gone_after_an_error() -> None:
    model = untrained()
    with pytest.raises(RuntimeError), StatisticsGap(model) as gap:
        gap.run(INPUTS, torch.rand(2, 3, 9, 7))
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_norms_without_running_statistics_do_not_count() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()
    )
    assert tracking_norms(model) == {}
    with StatisticsGap(model) as gap:
        assert gap.run(INPUTS, torch.rand(2, 2, 9, 7))[1] is None
    mean, var = running(nn.BatchNorm2d(3))
    assert torch.equal(mean, torch.zeros(3))
    assert torch.equal(var, torch.ones(3))


def test_mixed_images_keep_at_least_half_of_their_own() -> None:
    """With one-hot images, what is left of each can be read off."""
    images = torch.eye(36).view(36, 1, 6, 6)
    parts = mixed(images, torch.Generator().manual_seed(0)).flatten(1)
    torch.testing.assert_close(parts.sum(dim=1), torch.ones(36))
    assert (parts.diagonal() >= 0.5).all()
    assert ((parts > 0).sum(dim=1) <= 2).all()
    assert (parts.diagonal() < 1).any()


def test_half_of_the_images_are_blurred_and_keep_their_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((64, 3, 15, 20), generator=generator)
    result = blurred(images, generator)
    same = torch.isclose(result, images, atol=1e-6).flatten(1).all(dim=1)
    assert 16 < int(same.sum()) < 48
    torch.testing.assert_close(result.mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    assert (result.std(dim=(2, 3)) <= images.std(dim=(2, 3)) + 1e-6).all()


def test_one_classs_images_are_made_anew_from_another_network(attacked: Trained) -> None:
    """The other network calls the classes 3 and 8 by each other's name."""
    made, inputs = attacked.surrogates, attacked.inputs
    swapped = copy.deepcopy(attacked.model)
    last = swapped.get_submodule("13")
    with torch.no_grad():
        for values in last.parameters():
            values[[3, 8]] = values[[8, 3]]
    told: list[tuple[str, int, int]] = []
    progress = lambda *step: told.append(step)  # noqa: E731
    after = renewed(made, swapped, inputs, 3, seed=4, progress=progress)
    assert len(after.of_others(3)) == 180
    assert torch.equal(after.of_others(3), made.of_others(3))
    new = after.images[after.labels == 3]
    assert len(new) == 50  # a quarter of 200
    assert (run(swapped, inputs, new).argmax(dim=1) == 3).float().mean() > 0.5
    assert (run(attacked.model, inputs, new).argmax(dim=1) == 8).float().mean() > 0.5
    assert told[-1] == ("renew", 24, 24)
    again = renewed(made, swapped, inputs, 3, seed=4)
    assert torch.equal(again.images, after.images)
