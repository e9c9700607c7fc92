"""Images from folders with a subfolder for each class."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate import load_images


def write(folder: Path, *names: str, size: tuple[int, int] = (6, 5), grey: int = 30) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (grey, 100, 200)).save(path)


def test_classes_are_numbered_by_name_and_come_in_turn(tmp_path: Path) -> None:
    write(tmp_path, "dog/a.png", "dog/b.png", "cat/x.png", "cat/y.PNG", "cat/z.jpg")
    write(tmp_path, ".hidden/a.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "README").write_text("no folder")
    images = load_images(tmp_path)
    assert images.images.shape == (5, 3, 5, 6)
    assert images.labels.tolist() == [0, 1, 0, 1, 0]
    assert load_images(tmp_path, limit=2).labels.tolist() == [0, 1]


def test_folders_named_by_numbers_are_those_classes(tmp_path: Path) -> None:
    write(tmp_path, "10/a.png", "2/a.png", "0007/a.png")
    assert sorted(load_images(tmp_path).labels.tolist()) == [2, 7, 10]


def test_images_are_brought_to_a_shape(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png")
    write(tmp_path, "a/2.png", size=(20, 30), grey=90)
    with pytest.raises(EvaluationDataError, match="differ in shape"):
        load_images(tmp_path)
    images = load_images(tmp_path, shape=(3, 8, 12)).images
    assert images.shape == (2, 3, 8, 12)
    assert images[:, 0, 0, 0].tolist() == [30, 90]
    assert load_images(tmp_path, shape=(1, 4, 4)).images.shape == (2, 1, 4, 4)
    with pytest.raises(EvaluationDataError, match="2 channels"):
        load_images(tmp_path, shape=(2, 4, 4))


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationDataError, match="no subfolders"):
        load_images(tmp_path)
    (tmp_path / "1").mkdir()
    with pytest.raises(EvaluationDataError, match="no images"):
        load_images(tmp_path)
    (tmp_path / "1" / "a.png").write_bytes(b"no image")
    with pytest.raises(EvaluationDataError, match=r"a\.png cannot be decoded"):
        load_images(tmp_path)
    (tmp_path / "01").mkdir()
    with pytest.raises(EvaluationDataError, match="same number"):
        load_images(tmp_path)
