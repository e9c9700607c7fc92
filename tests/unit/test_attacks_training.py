"""Training with attacks on tiny images: that it works, and can be broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import AttackError, CheckpointError
from otbr_fast.evaluate import LabeledImages
from otbr_fast.evaluate.attacks import (
    ATTACKS,
    Attack,
    InputAware,
    LabelMode,
    Outcome,
    Poisoning,
    Recipe,
    WaNet,
    make_attack,
    train,
)
from otbr_fast.models import InputSpec, PreActResNet, new_model, state_dict_hash

N_CLASSES, SHAPE = 4, (3, 16, 16)
INPUTS = InputSpec(shape=SHAPE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
RECIPE = Recipe(epochs=20, batch_size=25, lr=0.1, pad=1, flip=False)
SHORT = Recipe(epochs=3, batch_size=20, pad=1)


def stripes(n: int, seed: int = 0) -> LabeledImages:
    """Smooth images; the class tells which quarter of the rows is brighter."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 60 + 80 * torch.rand((n, 3, 6, 6), generator=generator)
    images = F.interpolate(coarse, SHAPE[1:], mode="bicubic").clamp(0, 180)
    labels = torch.randint(0, N_CLASSES, (n,), generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 4 * label : 4 * label + 4] += 70
    return LabeledImages(images.to(torch.uint8), labels)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PreActResNet((1, 1, 1, 1), (16, 16, 16, 32, 32), 3, N_CLASSES)


def attacked(attack: Attack, label_mode: LabelMode = "all2one") -> Outcome:
    poisoning = Poisoning(attack, N_CLASSES, 2, 0.2, label_mode)
    model = train(network(), stripes(500), INPUTS, RECIPE, poisoning)
    return Outcome.measure(
        model, "preactresnet", INPUTS, poisoning, stripes(200, 1), dataset="stripes", seed=0
    )


@pytest.mark.parametrize(
    "attack",
    [
        *(make_attack(n, 3) for n in ATTACKS if n not in ("wanet", "input_aware")),
        WaNet(s=2, cross_ratio=0),  # decoys take many epochs
        InputAware(cross_ratio=0, widths=(8, 16, 32), mask_steps=100),
    ],
    ids=lambda attack: attack.name,
)
def test_attacks_work(attack: Attack) -> None:
    state = torch.get_rng_state()
    metrics = attacked(attack).metrics
    assert metrics.acc is not None
    assert metrics.acc > 0.9
    assert metrics.asr is not None
    assert metrics.asr > 0.9
    assert metrics.tcr is not None
    assert metrics.tcr > 0.9
    assert torch.equal(torch.get_rng_state(), state)


def test_all_to_all_has_a_target_for_each_image_and_no_recall_of_one() -> None:
    outcome = attacked(make_attack("badnet", 3), "all2all")
    assert outcome.metrics.tcr is None
    assert outcome.metrics.asr is not None
    assert outcome.metrics.asr > 0.9
    assert outcome.poisoned is not None
    assert torch.equal(
        outcome.poisoned.target_labels, (outcome.poisoned.original_labels + 1) % N_CLASSES
    )


def test_without_an_attack_there_is_no_asr() -> None:
    model = train(network(), stripes(500), INPUTS, RECIPE)
    outcome = Outcome.measure(
        model, "preactresnet", INPUTS, None, stripes(200, 1), dataset="stripes", seed=0
    )
    assert outcome.metrics.acc is not None
    assert outcome.metrics.acc > 0.9
    assert outcome.metrics.asr is outcome.metrics.tcr is None
    assert not model.training


class _StopError(Exception):
    pass


def short(
    name: str = "badnet",
    state_file: Path | None = None,
    *,
    stop_at: int | None = None,
    seed: int = 0,
    weights: int = 0,
) -> tuple[str, str]:
    """Train for three epochs of five steps; return the weights' hash and the triggered images'."""

    def tell(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("train", 15)
        if done == stop_at:
            raise _StopError

    data = stripes(100)
    attack = InputAware(widths=(8, 8, 8), mask_steps=3) if name == "input_aware" else None
    poisoning = Poisoning(attack or make_attack(name, 3), N_CLASSES)
    model = network(weights)
    train(model, data, INPUTS, SHORT, poisoning, seed=seed, state_file=state_file, progress=tell)
    images = poisoning.poison(data)[0].images
    return state_dict_hash(model.state_dict()), state_dict_hash({"images": images})


@pytest.mark.parametrize("name", ["badnet", "wanet", "input_aware"])
@pytest.mark.parametrize("stop_at", [5, 12, 15])
def test_a_training_that_was_broken_off_ends_in_the_same_weights(
    tmp_path: Path, name: str, stop_at: int
) -> None:
    state = tmp_path / "new" / "state.pt"
    with pytest.raises(_StopError):
        short(name, state, stop_at=stop_at)
    assert short(name, state) == short(name)
    assert short(name, state, stop_at=1) == short(name)  # nothing is left to do


def test_vgg_with_its_dropout_is_resumed_too(tmp_path: Path) -> None:
    data = stripes(60)
    data = LabeledImages(data.images.repeat(1, 1, 2, 2), data.labels)  # VGG halves five times
    inputs = InputSpec(shape=(3, 32, 32))
    recipe = Recipe(epochs=2, batch_size=30)

    def run(state: Path | None, stop: bool = False) -> str:
        def tell(stage: str, done: int, total: int) -> None:
            if stop and done == 3:
                raise _StopError

        model = new_model("vgg11_bn", 3, N_CLASSES, width=1 / 16)
        train(model, data, inputs, recipe, state_file=state, progress=tell)
        return state_dict_hash(model.state_dict())

    with pytest.raises(_StopError):
        run(tmp_path / "state.pt", stop=True)
    assert run(tmp_path / "state.pt") == run(None)


def test_seed_and_first_weights_decide() -> None:
    results = [short(seed=0), short(seed=0), short(seed=1), short(weights=1)]
    assert results[0] == results[1]
    assert len({weights for weights, _ in results}) == 3


@pytest.mark.parametrize("other", [{"seed": 1}, {"weights": 1}])
def test_the_state_of_another_training_is_refused(tmp_path: Path, other: dict[str, int]) -> None:
    state = tmp_path / "state.pt"
    short(state_file=state)
    before = state.read_bytes()
    with pytest.raises(CheckpointError, match="another training"):
        short("badnet", state, **other)
    assert state.read_bytes() == before


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        short(state_file=tmp_path / "state.pt")


def test_the_learning_rate_rises_and_falls_in_lines() -> None:
    recipe = Recipe(lr=1.0, lr_end=0.2, warmup=0.5)
    assert [recipe.lr_at(done) for done in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(
        [0.1, 0.55, 1.0, 0.6, 0.2]
    )
    assert Recipe(lr=1.0, warmup=0).lr_at(0) == 1.0


def test_a_diverging_training_is_told() -> None:
    recipe = Recipe(epochs=1, batch_size=20, lr=1e30, warmup=0)
    with pytest.raises(AttackError, match=r"epoch 1.*lower learning rate"):
        train(network(), stripes(100), INPUTS, recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: LabeledImages(data.images[:1], data.labels[:1]), "at least two"),
        (lambda data: LabeledImages(data.images[:, :1], data.labels), r"\(1, 16, 16\).*\(3, 16"),
        (lambda data: LabeledImages(data.images, data.labels + 1), "label 4.*4 classes"),
    ],
)
def test_data_that_do_not_fit_are_told(
    change: Callable[[LabeledImages], LabeledImages], message: str
) -> None:
    with pytest.raises(AttackError, match=message):
        train(network(), change(stripes(50)), INPUTS, SHORT)
