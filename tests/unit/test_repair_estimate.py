"""What a repair is told to take: shapes, memory bounds, and what grows with what."""

from __future__ import annotations

import pytest
import torch

from otbr_fast.models import InputSpec, PreActResNet
from otbr_fast.repair import Mode, RepairConfig, costs
from otbr_fast.repair.estimate import estimate

INPUTS = InputSpec(shape=(3, 16, 16))
CONFIG = RepairConfig(gamma=0.1, n_threads=1)


def test_shapes_are_those_of_the_spaces(tiny_resnet: PreActResNet) -> None:
    found = estimate(tiny_resnet, INPUTS, CONFIG, 7, 2)
    state = tiny_resnet.state_dict()
    problem = next(p for p in found.problems if p.name == "layer1.0.conv1")
    n, *rest = state["layer1.0.conv1.weight"].shape
    assert problem.n_neurons == n
    assert problem.fan_in == torch.Size(rest).numel()
    assert problem.flops == n * n * problem.fan_in
    assert found.network_bytes == sum(tensor.nbytes for tensor in state.values())
    assert found.peak_bytes >= found.n_networks * found.network_bytes
    assert found.n_results == 14
    assert found.seconds > 0
    assert found.to_dict()["seconds"] == found.seconds


def test_what_is_held_depends_on_whether_there_is_a_choice(tiny_resnet: PreActResNet) -> None:
    one, several = (estimate(tiny_resnet, INPUTS, CONFIG, 1, count) for count in (1, 2))
    assert (one.n_networks, several.n_networks) == (2, 3)
    assert several.peak_bytes - one.peak_bytes == one.network_bytes


def test_a_stream_counts_all_that_write_it(tiny_resnet: PreActResNet) -> None:
    found = estimate(tiny_resnet, INPUTS, CONFIG, 1, 1)
    stem = next(p for p in found.problems if p.name == "conv1")
    assert stem.fan_in > tiny_resnet.get_parameter("conv1.weight")[0].numel()


@pytest.mark.parametrize(("mode", "factor"), [("default", 1), ("paper", 7)])
def test_distances_are_shared_by_gammas_but_in_paper_mode(
    tiny_resnet: PreActResNet, mode: Mode, factor: int
) -> None:
    config = RepairConfig(gamma=0.1, mode=mode, n_threads=1)
    one, seven = (estimate(tiny_resnet, INPUTS, config, count, 1) for count in (1, 7))
    for few, many in zip(one.problems, seven.problems, strict=True):
        assert many.flops == factor * few.flops


def test_distances_that_are_not_kept_take_a_quarter_of_their_matrix(
    tiny_resnet: PreActResNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = estimate(tiny_resnet, INPUTS, CONFIG, 2, 1)
    monkeypatch.setattr(costs, "MOST_KEPT", 0)
    found = estimate(tiny_resnet, INPUTS, CONFIG, 2, 1)
    for one, other in zip(kept.problems, found.problems, strict=True):
        assert other.work_bytes == one.n_neurons**2
        assert one.work_bytes == 5 * one.n_neurons**2
