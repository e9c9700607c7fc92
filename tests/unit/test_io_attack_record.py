"""Attacks kept as BackdoorBench records, and read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from otbr_fast.errors import CheckpointError, OutputExistsError
from otbr_fast.evaluate import EvaluationSet, LabeledImages
from otbr_fast.evaluate.attacks import BadNet, InputAware, LabelMode, Outcome, Poisoning
from otbr_fast.io import (
    load_checkpoint,
    load_record,
    read_description,
    save_attack_record,
    state_dict_hash,
)
from otbr_fast.models import InputSpec, PreActResNet

N_TEST = 30


def settings(model: PreActResNet, channels: int = 3) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    indices = torch.arange(0, N_TEST, 3)
    return {
        "model_name": "preactresnet18",
        "num_classes": 5,
        "state_dict": model.state_dict(),
        "dataset": "cifar10",
        "data_path": "data/cifar10",
        "images": torch.randint(0, 256, (10, channels, 6, 9), generator=generator).to(torch.uint8),
        "original_labels": indices % 5,
        "target_labels": torch.full((10,), 2),
        "indices": indices,
        "n_test": N_TEST,
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_a_record_is_read_as_it_was_written(
    tmp_path: Path, tiny_resnet: PreActResNet, channels: int
) -> None:
    given = settings(tiny_resnet, channels)
    path = save_attack_record(tmp_path / "new" / "badnet_0_1", **given)
    record = load_record(path.parent)
    assert (record.model_name, record.num_classes, record.dataset) == (
        "preactresnet18",
        5,
        "cifar10",
    )
    assert record.img_size == (6, 9, channels)
    assert record.target == 2
    assert state_dict_hash(record.state_dict) == state_dict_hash(given["state_dict"])
    assert record.poisoned[4].path == path.parent / "bd_test_dataset" / "2" / "12.png"
    poisoned = EvaluationSet.from_record(record).poisoned
    assert poisoned is not None
    for name in ("images", "original_labels", "target_labels"):
        assert torch.equal(getattr(poisoned, name), given[name])
    left = sorted(p.name for p in path.parent.iterdir())
    assert left == ["attack_result.pt", "bd_test_dataset"]


def test_a_record_is_not_overwritten_unasked(tmp_path: Path, tiny_resnet: PreActResNet) -> None:
    given = settings(tiny_resnet)
    path = save_attack_record(tmp_path, **given)
    path.unlink()
    with pytest.raises(OutputExistsError, match="bd_test_dataset"):
        save_attack_record(tmp_path, **given)
    fewer = {
        key: value[:2]
        if key in ("images", "original_labels", "target_labels", "indices")
        else value
        for key, value in given.items()
    }
    save_attack_record(tmp_path, **fewer, overwrite=True)
    assert len(load_record(tmp_path).poisoned) == 2
    assert len(list((tmp_path / "bd_test_dataset").rglob("*.png"))) == 2
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda given: given["state_dict"]["linear.bias"].fill_(torch.nan),
        lambda given: given.update(images=given["images"].float()),
        lambda given: given.update(images=given["images"][:, :2]),
    ],
)
def test_what_cannot_be_kept_is_refused(
    tmp_path: Path, tiny_resnet: PreActResNet, spoil: Callable[[dict[str, Any]], object]
) -> None:
    given = settings(tiny_resnet)
    spoil(given)
    with pytest.raises(CheckpointError):
        save_attack_record(tmp_path, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label_mode", ["all2one", "all2all"])
def test_an_outcome_is_kept_whole(
    tmp_path: Path, tiny_resnet: PreActResNet, label_mode: LabelMode
) -> None:
    labels = torch.arange(N_TEST) % 5
    test = LabeledImages(torch.full((N_TEST, 3, 8, 8), 40, dtype=torch.uint8), labels)
    inputs = InputSpec(shape=(3, 8, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    poisoning = Poisoning(BadNet(), 5, 3, 0.2, label_mode)
    outcome = Outcome.measure(
        tiny_resnet, "preactresnet18", inputs, poisoning, test, dataset="mine", seed=7
    )
    outcome.save(tmp_path, data_path="x")
    description = read_description(tmp_path / "model.json")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        checkpoint = load_checkpoint(path)
        assert checkpoint.description == description
        assert state_dict_hash(checkpoint.state_dict) == state_dict_hash(tiny_resnet.state_dict())
    assert description.input_spec() == inputs
    assert description.attack is not None
    assert description.attack.target == (3 if label_mode == "all2one" else None)
    assert (description.attack.name, description.attack.poison_ratio) == ("badnet", 0.2)
    read = EvaluationSet.from_record(load_record(tmp_path), test)
    assert read.target == description.attack.target
    assert read.poisoned is not None
    assert len(read.poisoned) == (24 if label_mode == "all2one" else N_TEST)
    with pytest.raises(OutputExistsError):
        outcome.save(tmp_path)


def test_the_networks_of_an_attack_are_kept(tmp_path: Path, tiny_resnet: PreActResNet) -> None:
    attack = InputAware(widths=(8, 8, 8), seed=3)
    images = torch.full((5, 3, 8, 8), 40, dtype=torch.uint8)
    outcome = Outcome.measure(
        tiny_resnet,
        "preactresnet18",
        InputSpec(shape=(3, 8, 8)),
        Poisoning(attack, 5),
        LabeledImages(images, torch.arange(5)),
        dataset="mine",
        seed=0,
    )
    outcome.save(tmp_path)
    again = InputAware(widths=(8, 8, 8), seed=4)
    again.networks.load_state_dict(load_file(tmp_path / "attack_networks.safetensors"))
    x = images.float() / 255
    with torch.no_grad():
        assert torch.equal(again.apply(x), attack.apply(x))


def test_an_unattacked_network_leaves_no_record_not_even_an_older_one(
    tmp_path: Path, tiny_resnet: PreActResNet
) -> None:
    save_attack_record(tmp_path, **settings(tiny_resnet))
    test = LabeledImages(torch.zeros((5, 3, 8, 8), dtype=torch.uint8), torch.arange(5))
    inputs = InputSpec(shape=(3, 8, 8))
    outcome = Outcome.measure(
        tiny_resnet, "preactresnet18", inputs, None, test, dataset="mine", seed=0
    )
    with pytest.raises(OutputExistsError):
        outcome.save(tmp_path)
    outcome.save(tmp_path, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert read_description(tmp_path / "model.json").attack is None
