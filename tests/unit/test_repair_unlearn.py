"""Random unlearning: the order of random numbers, both modes, and what it must leave alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models import InputSpec
from otbr_fast.repair import RepairConfig, random_unlearn

INPUTS = InputSpec(shape=(3, 6, 6), low=-1.0, high=3.0, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
CLASSES = 4


def small_net(dropout: bool = False) -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.Flatten(),
        *([nn.Dropout(0.5)] if dropout else []),
        nn.Linear(20, CLASSES),
    )


def config(**changes: Any) -> RepairConfig:
    unlearning = {"ranking": "nwc", "steps": 3, "lr": 0.01, "batch_size": 8}
    settings = {"gamma": 0.2, "mode": "paper", "seed": 7, **unlearning}
    return RepairConfig.model_validate({**settings, **changes})


class Recorder(nn.Module):
    """Notes what a network is fed, and answers with its scores."""

    def __init__(self, net: nn.Module, fed: list[torch.Tensor]) -> None:
        super().__init__()
        self.net = net
        self.fed = fed

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return Recorder(copy.deepcopy(self.net, memo), self.fed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.fed.append(x.detach().clone())
        return torch.as_tensor(self.net(x))


def restated_unlearning(net: nn.Module, settings: RepairConfig, classes_drawn: int) -> nn.Module:
    """The published behaviour, from its description: see the paper, stage 1."""
    net = copy.deepcopy(net).train()
    generator = torch.Generator()
    generator.manual_seed(settings.seed)
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    for _ in range(settings.steps):
        noise = torch.rand(settings.batch_size, 3, 6, 6, generator=generator)
        labels = torch.randint(0, classes_drawn, (settings.batch_size,), generator=generator)
        log_p = torch.log_softmax(net(noise), dim=1)[torch.arange(len(labels)), labels]
        gradients = torch.autograd.grad(log_p.mean(), list(net.parameters()))
        with torch.no_grad():
            for parameter, v, gradient in zip(net.parameters(), velocity, gradients, strict=True):
                v.mul_(settings.momentum).add_(gradient)
                parameter.sub_(settings.lr * v)
    return net


def test_paper_mode_draws_and_steps_as_described() -> None:
    net, settings = small_net(), config()
    expected = restated_unlearning(net, settings, classes_drawn=CLASSES - 1)
    unlearned = random_unlearn(net, INPUTS, CLASSES, settings)
    for (name, one), other in zip(
        unlearned.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7, msg=name)
    moved = (unlearned.state_dict()["0.weight"] - net.state_dict()["0.weight"]).abs().max()
    assert moved > 1e-3  # so that the tolerance above means something


def test_paper_mode_feeds_raw_noise_and_default_mode_the_models_own_inputs() -> None:
    fed: list[torch.Tensor] = []
    random_unlearn(Recorder(small_net(), fed), INPUTS, CLASSES, config())
    random_unlearn(Recorder(small_net(), fed), INPUTS, CLASSES, config(mode="default"))
    generator = torch.Generator().manual_seed(7)
    raw = torch.rand(8, 3, 6, 6, generator=generator)
    assert torch.equal(fed[0], raw)
    std = torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    mean = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    torch.testing.assert_close(fed[3], (raw * 4 - 1 - mean) / std)


@pytest.mark.parametrize(("mode", "drawn"), [("paper", {0, 1, 2}), ("default", {0, 1, 2, 3})])
def test_only_paper_mode_never_draws_the_last_class(
    mode: str, drawn: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[int] = []
    real = nn.functional.cross_entropy

    def spy(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        labels.extend(targets.tolist())
        return real(scores, targets)

    monkeypatch.setattr("otbr_fast.repair.unlearn.cross_entropy", spy)
    random_unlearn(small_net(), INPUTS, CLASSES, config(mode=mode, batch_size=64))
    assert set(labels) == drawn


def test_it_raises_the_loss() -> None:
    """On enough steps, so that the sign of the objective cannot be wrong."""
    net = small_net()
    settings = config(mode="default", steps=30, batch_size=64)
    unlearned = random_unlearn(net, INPUTS, CLASSES, settings)
    noise = INPUTS.normalize(torch.rand(256, 3, 6, 6, generator=torch.Generator()) * 4 - 1)
    labels = torch.arange(256) % CLASSES
    with torch.no_grad():
        before = nn.functional.cross_entropy(net.train()(noise), labels)
        after = nn.functional.cross_entropy(unlearned.train()(noise), labels)
    assert after > before + 0.5


class Forgetful(nn.Module):
    """Drops activations without a dropout module, as attention and stochastic depth do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(nn.functional.dropout(x, 0.5, self.training))
        return logits


def test_what_layers_draw_themselves_is_decided_by_the_seed_too() -> None:
    net = Forgetful()

    def weights(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        state = torch.random.get_rng_state()
        unlearned = random_unlearn(net, INPUTS, CLASSES, config(seed=seed))
        assert torch.equal(torch.random.get_rng_state(), state)
        return unlearned.get_parameter("net.0.weight")

    assert torch.equal(weights(1, 10), weights(1, 11))
    assert not torch.equal(weights(1, 10), weights(2, 10))


@pytest.mark.parametrize("mode", ["paper", "default"])
def test_the_input_model_and_the_global_generator_are_left_alone(mode: str) -> None:
    net = small_net(dropout=True).eval().requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    state = torch.random.get_rng_state()
    with torch.no_grad():
        unlearned = random_unlearn(net, INPUTS, CLASSES, config(mode=mode))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert not net.training
    assert not unlearned.training
    assert not any(p.requires_grad or p.grad is not None for p in net.parameters())
    assert not torch.equal(unlearned.state_dict()["0.weight"], before["0.weight"])


def test_the_seed_decides_and_the_global_seed_does_not() -> None:
    def weights(seed: int, global_seed: int) -> torch.Tensor:
        net = small_net(dropout=True)
        torch.manual_seed(global_seed)
        unlearned = random_unlearn(net, INPUTS, CLASSES, config(seed=seed))
        return unlearned.get_parameter("0.weight")

    assert torch.equal(weights(1, 10), weights(1, 11))
    assert not torch.equal(weights(1, 10), weights(2, 10))


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    random_unlearn(
        small_net(), INPUTS, CLASSES, config(), progress=lambda *facts: told.append(facts)
    )
    assert told == [("unlearn", 1, 3), ("unlearn", 2, 3), ("unlearn", 3, 3)]


def test_divergence_is_refused_with_a_remedy() -> None:
    with pytest.raises(RepairError, match=r"loss .* lower lr than 1000"):
        random_unlearn(small_net(), INPUTS, CLASSES, config(lr=1e3, steps=50))
    conv = nn.Conv2d(3, 2, 6)
    nn.init.constant_(conv.weight, 1e35)
    huge = nn.Sequential(conv, nn.Flatten(), nn.Linear(2, CLASSES))
    with pytest.raises(RepairError, match=r"weight '2\.weight' is not finite.* lower lr"):
        random_unlearn(huge, INPUTS, CLASSES, config(lr=1e3, steps=1))


def test_half_precision_is_unlearned_in_float32() -> None:
    unlearned = random_unlearn(small_net().half(), INPUTS, CLASSES, config())
    assert {p.dtype for p in unlearned.parameters()} == {torch.float32}


def test_one_class_is_refused() -> None:
    with pytest.raises(RepairError, match="num_classes=1"):
        random_unlearn(small_net(), INPUTS, 1, config())
