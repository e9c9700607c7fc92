"""Recalibration: what was scaled is put right, and odd batch norms do no harm."""

from __future__ import annotations

import copy

import pytest
import torch
from digit_networks import attacked_network
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models import InputSpec
from otbr_fast.repair import prune
from otbr_fast.repair.recalibrate import recalibrate
from otbr_fast.repair.surrogates import Surrogates

INPUTS = InputSpec(shape=(2, 8, 8))


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = nn.Sequential(
            nn.Conv2d(2, 5, 3),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Conv2d(5, 6, 3, bias=False),
            nn.BatchNorm2d(6, momentum=None),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(6, 4),
        )
        model(torch.randn(200, 2, 8, 8))  # running statistics that are not the surrogates'
        return model.eval()


def surrogates(count: int = 64) -> Surrogates:
    generator = torch.Generator().manual_seed(0)
    return Surrogates(torch.rand(count, 2, 8, 8, generator=generator), torch.arange(count) % 4)


def scaled(model: nn.Module, factors: torch.Tensor) -> nn.Module:
    result = copy.deepcopy(model)
    with torch.no_grad():
        result.get_parameter("0.weight").mul_(factors[:, None, None, None])
        result.get_parameter("0.bias").mul_(factors)
        result.get_parameter("3.weight").mul_(factors[0])
    return result


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_goes_so_far(share: float) -> None:
    model = network()
    broken = scaled(model, torch.tensor([0.5, 2.0, 4.0, 0.25, 1.0]))
    whole = recalibrate(broken, model, INPUTS, surrogates())
    some = recalibrate(broken, model, INPUTS, surrogates(), share=share)
    for name, start in broken.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            wanted = start + share * (whole.get_buffer(name) - start)
            assert torch.allclose(some.get_buffer(name), wanted, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_is_a_part(share: float) -> None:
    with pytest.raises(RepairError, match="share"):
        recalibrate(network(), network(), INPUTS, surrogates(), share=share)


def test_scaled_channels_answer_as_before() -> None:
    """Powers of two, so that bfloat16 rounds alike."""
    model = network()
    broken = scaled(model, torch.tensor([0.5, 2.0, 4.0, 0.25, 1.0]))
    mended = recalibrate(broken, model, INPUTS, surrogates())
    x = torch.randn(50, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    apart = (broken(x) - model(x)).abs().max()
    torch.testing.assert_close(mended(x), model(x), rtol=0, atol=float(apart) * 0.01)
    ratio = torch.tensor([0.25, 4.0, 16.0, 0.0625, 1.0])
    expected = model.get_buffer("1.running_var") * ratio
    torch.testing.assert_close(mended.get_buffer("1.running_var"), expected, rtol=1e-3, atol=0)


def test_nothing_moves_where_nothing_changed() -> None:
    model = network()
    same = recalibrate(model, model, INPUTS, surrogates())
    for name, values in model.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], values, msg=name)


def test_a_pruned_network_is_more_accurate_after_it() -> None:
    trained = attacked_network()
    chosen = torch.arange(24).numpy() % 3 == 0
    pruned = prune(trained.model, {"4": chosen})
    mended = recalibrate(pruned, trained.model, trained.inputs, trained.surrogates)
    x = trained.inputs.normalize(trained.task.test.images.float() / 255)

    def accuracy(model: nn.Module) -> float:
        return float((model(x).argmax(dim=1) == trained.task.test.labels).double().mean())

    assert accuracy(mended) >= accuracy(pruned)
    assert not torch.equal(mended.get_buffer("5.running_var"), pruned.get_buffer("5.running_var"))


def test_dead_channels_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbr_fast.repair.surrogates._PIXELS_AT_ONCE", 64 * 20)
    model = network()
    with torch.no_grad():
        model.get_parameter("0.weight")[1] = 0  # dead in both
    repaired = copy.deepcopy(model)
    with torch.no_grad():
        repaired.get_parameter("0.weight")[2] = 0  # dead in the repaired one only
    mended = recalibrate(repaired, model, INPUTS, surrogates())
    mean, var = (mended.get_buffer(f"1.running_{what}") for what in ("mean", "var"))
    assert torch.isfinite(mean).all()
    assert torch.isfinite(var).all()
    assert (var >= 0).all()
    assert var[1] == model.get_buffer("1.running_var")[1]
    assert var[2] < 1e-6


def test_batch_norms_without_statistics_and_networks_without_batch_norms() -> None:
    plain = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()
    )
    result = recalibrate(plain, plain, INPUTS, surrogates())
    assert result is not plain
    torch.testing.assert_close(result.state_dict(), plain.state_dict())


def test_what_is_left_alone() -> None:
    model = network()
    broken = scaled(model, torch.full((5,), 0.3)).train()
    states = [copy.deepcopy(m.state_dict()) for m in (model, broken)]
    random_state = torch.random.get_rng_state()
    mended = recalibrate(broken, model, INPUTS, surrogates())
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert broken.training
    assert not mended.training
    for m, state in zip((model, broken), states, strict=True):
        assert all(torch.equal(m.state_dict()[k], v) for k, v in state.items())
    changed = {
        name
        for name, values in mended.state_dict().items()
        if not torch.equal(values, states[1][name])
    }
    assert changed == {f"{k}.running_{what}" for k in (1, 4) for what in ("mean", "var")}


def test_half_precision_is_kept() -> None:
    model = network().half()
    assert {t.dtype for t in recalibrate(model, model, INPUTS, surrogates()).parameters()} == {
        torch.float16
    }


def test_broken_weights_are_refused() -> None:
    model = network()
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.get_parameter("3.weight")[0] = torch.nan
    with pytest.raises(RepairError, match="batch norm '4' are not finite"):
        recalibrate(broken, model, INPUTS, surrogates())
