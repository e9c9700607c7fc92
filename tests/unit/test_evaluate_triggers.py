from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate import EvaluationSet, LabeledImages, Trigger, load_trigger


def corner_patch(size: int = 4) -> Trigger:
    """A white pixel in the last corner."""
    mask = torch.zeros(1, size, size)
    mask[:, -1, -1] = 1
    return Trigger(mask, torch.ones(3, size, size))


def test_a_patch_shows_only_under_its_mask() -> None:
    x = torch.rand(5, 3, 4, 4)
    poisoned = corner_patch().apply(x)
    assert bool((poisoned[:, :, -1, -1] == 1).all())
    poisoned[:, :, -1, -1] = x[:, :, -1, -1]
    assert torch.equal(poisoned, x)


def test_a_trigger_from_a_file(tmp_path: Path) -> None:
    mask, pattern = np.full((4, 4), 0.25), np.ones((3, 4, 4), np.float32)
    np.savez(tmp_path / "t.npz", mask=mask, pattern=pattern)
    poisoned = load_trigger(tmp_path / "t.npz").apply(torch.full((2, 3, 4, 4), 0.2))
    torch.testing.assert_close(poisoned, torch.full((2, 3, 4, 4), 0.2 * 0.75 + 0.25))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": None}, "no array 'mask'"),
        ({"pattern": None}, "no array 'pattern'"),
        ({"mask": np.ones((4, 4), np.uint8)}, "'mask' .* uint8"),
        ({"pattern": np.full((3, 4, 4), 255.0)}, r"pattern .*outside \[0, 1\]"),
        ({"mask": np.full((3, 4, 4), np.nan)}, "mask .*not finite"),
        ({"mask": np.ones(4)}, r"'mask' .*\(4,\)"),
    ],
)
def test_wrong_trigger_files_are_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arrays = {"mask": np.ones((3, 4, 4)), "pattern": np.ones((3, 4, 4)), **change}
    np.savez(tmp_path / "t.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(EvaluationDataError, match=message) as caught:
        load_trigger(tmp_path / "t.npz")
    assert "t.npz" in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (2, 1, 4, 4), (2, 4, 4, 4)])
def test_a_trigger_for_other_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(EvaluationDataError, match="does not fit images of shape"):
        corner_patch().apply(torch.zeros(shape))


def test_only_images_of_other_classes_are_poisoned() -> None:
    images = torch.randint(0, 255, (4, 3, 4, 4), dtype=torch.uint8)
    clean = LabeledImages(images, torch.tensor([1, 0, 2, 0]))
    evaluation_set = EvaluationSet.from_trigger(clean, corner_patch(), target=0)
    poisoned = evaluation_set.poisoned
    assert poisoned is not None
    assert evaluation_set.clean is clean
    assert evaluation_set.target == 0
    assert poisoned.original_labels.tolist() == [1, 2]
    assert poisoned.target_labels.tolist() == [0, 0]
    torch.testing.assert_close(poisoned.images, corner_patch().apply(images[[0, 2]] / 255))


def test_an_attack_on_its_own_class_shows_nothing() -> None:
    clean = LabeledImages(torch.zeros(2, 3, 4, 4).byte(), torch.tensor([1, 1]))
    with pytest.raises(EvaluationDataError, match="all 2 images are of the target class 1"):
        EvaluationSet.from_trigger(clean, corner_patch(), target=1)
