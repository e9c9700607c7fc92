"""Which images are poisoned, how images are cut and mirrored, and new networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from otbr_fast.errors import AttackError, CheckpointError
from otbr_fast.evaluate import LabeledImages
from otbr_fast.evaluate.attacks import BadNet, Poisoning, WaNet, measured_inputs
from otbr_fast.evaluate.attacks.augment import crop_and_flip
from otbr_fast.evaluate.attacks.poisoning import BENIGN, DECOY, POISONED
from otbr_fast.models import build_model, new_model, num_classes, state_dict_hash


def labels(n: int = 100, n_classes: int = 5) -> torch.Tensor:
    return torch.arange(n) % n_classes


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_roles_are_as_many_as_asked_and_spare_the_target_class() -> None:
    roles = Poisoning(WaNet(), 5, 3, 0.1).roles(labels(), seeded())
    assert [int((roles == role).sum()) for role in (BENIGN, POISONED, DECOY)] == [70, 10, 20]
    assert 3 not in labels()[roles == POISONED]
    assert torch.equal(roles, Poisoning(WaNet(), 5, 3, 0.1).roles(labels(), seeded()))
    assert not torch.equal(roles, Poisoning(WaNet(), 5, 3, 0.1).roles(labels(), seeded(1)))


def test_all_to_all_takes_the_next_class_and_every_image() -> None:
    poisoning = Poisoning(BadNet(), 5, poison_ratio=1.0, label_mode="all2all")
    assert poisoning.new_labels(torch.tensor([0, 3, 4])).tolist() == [1, 4, 0]
    assert bool((poisoning.roles(labels(), seeded()) == POISONED).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 5}, "target=5 .* 0 to 4"),
        ({"target": -1}, "target=-1"),
        ({"poison_ratio": 0}, r"poison_ratio=0 is not in \(0, 1\]"),
        ({"poison_ratio": 1.1}, r"poison_ratio=1.1"),
        ({"poison_ratio": float("nan")}, "poison_ratio=nan"),
        ({"poison_ratio": 0.4}, "decoys, 2 for each"),
        ({"label_mode": "all"}, "label_mode='all' is none of"),
    ],
)
def test_settings_out_of_range_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        Poisoning(WaNet(), 5, **settings)


@pytest.mark.parametrize(("ratio", "n"), [(0.1, 9), (0.9, 100)])
def test_too_few_images_are_told(ratio: float, n: int) -> None:
    with pytest.raises(AttackError, match=r"training images is .* Give more images"):
        Poisoning(BadNet(), 5, 0, ratio).roles(labels(n), seeded())


def test_test_images_of_other_classes_are_triggered() -> None:
    images = torch.zeros((100, 3, 8, 8), dtype=torch.uint8)
    poisoned, indices = Poisoning(BadNet(), 5, 1).poison(LabeledImages(images, labels()))
    assert len(poisoned) == 80
    assert torch.equal(labels()[indices], poisoned.original_labels)
    assert set(poisoned.target_labels.tolist()) == {1}
    assert poisoned.images.dtype == torch.uint8
    assert bool((poisoned.images[:, :, -3:, -3:] == 255).all())
    assert int(poisoned.images.sum(dtype=torch.int64)) == 80 * 3 * 9 * 255


def test_images_of_the_target_class_alone_are_refused() -> None:
    images = LabeledImages(torch.zeros((3, 3, 8, 8), dtype=torch.uint8), torch.ones(3).long())
    with pytest.raises(AttackError, match="all 3 images are of the target class 1"):
        Poisoning(BadNet(), 5, 1).poison(images)


def test_crops_are_parts_of_the_bordered_image_mirrored_or_not() -> None:
    images = torch.randint(1, 256, (40, 3, 5, 7), generator=seeded()).to(torch.uint8)
    made = crop_and_flip(images, seeded(1), pad=2, flip=True)
    assert made.shape == images.shape
    assert made.is_contiguous(memory_format=torch.channels_last)
    bordered = torch.nn.functional.pad(images, (2, 2, 2, 2))
    mirrored = 0
    for one, whole in zip(made, bordered, strict=True):
        parts = [whole[:, i : i + 5, j : j + 7] for i in range(5) for j in range(5)]
        plain = any(torch.equal(one, part) for part in parts)
        assert plain or any(torch.equal(one, part.flip(2)) for part in parts)
        mirrored += not plain
    assert 5 < mirrored < 35
    assert torch.equal(crop_and_flip(images, seeded(1), pad=0, flip=False), images)


def test_normalisation_is_measured() -> None:
    images = torch.randint(0, 256, (50, 3, 6, 7), generator=seeded()).to(torch.uint8)
    images[:, 2] = 51
    inputs = measured_inputs(LabeledImages(images, labels(50)))
    x = images[:, :2].double() / 255
    assert inputs.shape == (3, 6, 7)
    assert inputs.mean is not None
    assert inputs.std is not None
    assert inputs.mean[:2] == pytest.approx(x.mean(dim=(0, 2, 3)).tolist(), abs=1e-4)
    assert inputs.std[:2] == pytest.approx(x.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-4)
    assert (inputs.mean[2], inputs.std[2]) == (0.2, 1e-4)  # one value only: no division by 0


@pytest.mark.parametrize("name", ["preactresnet18", "preactresnet34", "vgg13_bn"])
def test_new_networks_are_what_they_are_called(name: str) -> None:
    state = torch.get_rng_state()
    model = new_model(name, 1, 7, width=1 / 16, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert build_model(model.state_dict())[1] == name
    assert num_classes(model) == 7
    assert not model.training
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    again, other = (new_model(name, 1, 7, width=1 / 16, seed=seed) for seed in (3, 4))
    hashes = [state_dict_hash(m.state_dict()) for m in (model, again, other)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("name", "width", "message"), [("resnet18", 1, "preactresnet18"), ("vgg11_bn", 0.001, "0.001")]
)
def test_networks_that_cannot_be_are_told(name: str, width: float, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        new_model(name, 3, 10, width=width)
