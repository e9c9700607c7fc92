from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate import LabeledImages, load_images


def jpeg_arrays(n: int = 3) -> dict[str, Any]:
    """As in DESIGN: all files joined, where each starts, the labels. Image i is of brightness i."""
    files = []
    for i in range(n):
        file = io.BytesIO()
        Image.new("RGB", (6, 5), (40 * i,) * 3).save(file, format="JPEG", quality=100)
        files.append(file.getvalue())
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offset": np.cumsum([0, *map(len, files)]),
        "label": np.arange(n, dtype=np.uint8),
    }


def test_jpeg_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **jpeg_arrays())
    data = load_images(tmp_path / "data.npz")
    assert data.images.shape == (3, 3, 5, 6)
    assert data.images[:, 0, 0, 0].tolist() == [0, 40, 80]
    assert data.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (4, 5, 6, 3), (4, 1, 8, 8), (4, 8, 8, 1)])
def test_plain_arrays_with_channels_first_or_last(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.savez(tmp_path / "data.npz", images=pixels, labels=[3, 1, 0, 2])
    data = load_images(tmp_path / "data.npz")
    expected = pixels if shape[1] in (1, 3) else np.moveaxis(pixels, 3, 1)
    np.testing.assert_array_equal(data.images.numpy(), expected)
    assert data.labels.tolist() == [3, 1, 0, 2]


@pytest.mark.parametrize("form", ["jpeg", "plain"])
def test_a_limit_takes_the_first(tmp_path: Path, form: str) -> None:
    plain = {"images": np.zeros((3, 4, 4, 3), np.uint8), "labels": np.arange(3)}
    np.savez(tmp_path / "data.npz", **(jpeg_arrays() if form == "jpeg" else plain))
    data = load_images(tmp_path / "data.npz", limit=2)
    assert data.images.shape[0] == 2
    assert data.labels.tolist() == [0, 1]
    assert len(load_images(tmp_path / "data.npz", limit=99)) == 3
    with pytest.raises(EvaluationDataError, match="limit of 0"):
        load_images(tmp_path / "data.npz", limit=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jpeg": None}, "no array 'images'"),
        ({"offset": None}, "no array 'offset'"),
        ({"label": None}, "no array 'label'"),
        ({"label": np.zeros(2, np.uint8)}, "3 images but 2 labels"),
        ({"label": np.zeros(3)}, "'label' .* float64"),
        ({"label": np.array([0, -1, 0])}, "label -1 is negative"),
        ({"offset": np.array([0, 9, 5, 20])}, "'offset'"),
        ({"offset": np.array([0, 9, 18, 10**9])}, "'offset'"),
        ({"offset": np.array([0, 9, 18, 27])}, "image 0 in .*cannot be decoded"),
        ({"offset": np.array([0])}, "'offset'|labels"),
        ({"offset": np.array(0)}, "'offset' .* shape"),
    ],
)
def test_damaged_jpeg_files_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {k: v for k, v in {**jpeg_arrays(), **change}.items() if v is not None}
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(EvaluationDataError, match=message) as caught:
        load_images(tmp_path / "data.npz")
    if "label -1" not in message:
        assert "data.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 4, 4, 3)), "float64"),
        (np.zeros((3, 4, 4, 3), np.uint16), "uint16"),
        (np.zeros((3, 4, 4), np.uint8), r"\(3, 4, 4\)"),
        (np.zeros((3, 4, 4, 2), np.uint8), "which axis"),
        (np.zeros((3, 3, 4, 3), np.uint8), "which axis"),
    ],
)
def test_plain_arrays_of_another_form(tmp_path: Path, images: Any, message: str) -> None:
    np.savez(tmp_path / "data.npz", images=images, labels=np.zeros(3, int))
    with pytest.raises(EvaluationDataError, match=message):
        load_images(tmp_path / "data.npz")


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04 broken"])
def test_files_that_are_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(EvaluationDataError, match=r"data\.npz"):
        load_images(tmp_path / "data.npz")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EvaluationDataError, match=r"absent\.npz cannot be read"):
        load_images(tmp_path / "absent.npz")


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "data.npz", images=objects, labels=np.zeros(1, int))
    with pytest.raises(EvaluationDataError, match="plain numbers"):
        load_images(tmp_path / "data.npz")


def test_images_and_labels_must_match() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(EvaluationDataError, match="one for each of the 2 images"):
        LabeledImages(images, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(EvaluationDataError, match="float32"):
        LabeledImages(images.float(), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(EvaluationDataError, match="no images"):
        LabeledImages(images[:0], torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("mode", ["I;16", "F", "I"])
def test_images_of_more_than_eight_bits_are_refused(tmp_path: Path, mode: str) -> None:
    """Pillow would cut off what is above 255."""
    (tmp_path / "cat").mkdir()
    image = Image.fromarray(np.full((4, 4), 300, dtype=np.uint16)).convert(mode)
    image.save(tmp_path / "cat" / "one.tif")
    with pytest.raises(EvaluationDataError, match=f"one.tif cannot be decoded: its mode is {mode}"):
        load_images(tmp_path)
