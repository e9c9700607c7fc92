"""Labelled images from files."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate.folders import list_images
from otbr_fast.evaluate.npz import read_npz, take

_PIL_MODES = {1: "L", 3: "RGB"}  # by number of channels
# Pillow brings these to the modes above; of wider ones it cuts off what is above 255.
_EIGHT_BITS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"})


@dataclass(frozen=True)
class LabeledImages:
    """Images and their classes.

    Parameters
    ----------
    images : Tensor
        uint8, shape (N, C, H, W).
    labels : Tensor
        int64, shape (N,).
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise EvaluationDataError(
                f"images are {self.images.dtype} of shape {tuple(self.images.shape)}; "
                "uint8 of shape (N, C, H, W) is needed."
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise EvaluationDataError(
                f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}; int64, one "
                f"for each of the {len(self.images)} images, is needed."
            )
        if len(self.labels) == 0:
            raise EvaluationDataError("there are no images; at least one is needed.")
        if int(self.labels.min()) < 0:
            raise EvaluationDataError(f"the label {int(self.labels.min())} is negative.")

    def __len__(self) -> int:
        return len(self.labels)


def load_images(
    path: str | os.PathLike[str],
    limit: int | None = None,
    shape: tuple[int, int, int] | None = None,
) -> LabeledImages:
    """Read labelled images from an npz file, or from a folder with a subfolder for each class.

    Parameters
    ----------
    path : path-like
        A file with ``jpeg`` (all files joined, uint8), ``offset`` (N + 1 integers; image i is
        ``jpeg[offset[i]:offset[i + 1]]``) and ``label``; or with ``images`` (uint8, channels first
        or last) and ``labels``. Or a folder, see `otbr_fast.evaluate.folders`.
    limit : int, optional
        Take only so many, from the start; of a folder, the first of each class come first.
    shape : (int, int, int), optional
        Channels, height and width that a folder's images are brought to. Without it, all of them
        must be of one size, and are read as colours. An npz file's images stay as they are.

    Raises
    ------
    EvaluationDataError
        Names the file and the key at fault.
    """
    if limit is not None and limit < 1:
        raise EvaluationDataError(f"a limit of {limit} images leaves none; give at least 1.")
    if Path(path).is_dir():
        return _load_folder(path, limit, shape)
    arrays = read_npz(path)
    if "jpeg" in arrays:
        data = take(arrays, "jpeg", path, kinds="u", n_dims=(1,))
        offset = take(arrays, "offset", path, kinds="iu", n_dims=(1,))
        labels = take(arrays, "label", path, kinds="iu", n_dims=(1,))
        count = len(offset) - 1
        pixels = _decode(data, offset[: None if limit is None else limit + 1], path)
    else:
        pixels = _channels_first(take(arrays, "images", path, kinds="u", n_dims=(4,)), path)
        labels = take(arrays, "labels", path, kinds="iu", n_dims=(1,))
        count = len(pixels)
    if len(labels) != count:
        raise EvaluationDataError(f"{path} has {count} images but {len(labels)} labels.")
    return LabeledImages(
        images=torch.from_numpy(pixels[:limit].copy()),
        labels=torch.from_numpy(labels[:limit].astype(np.int64)),
    )


def read_image_files(paths: Sequence[Path], shape: tuple[int, int, int]) -> torch.Tensor:
    """Read image files into uint8, shape (N, C, H, W); each must have the shape (C, H, W)."""
    mode = _mode(shape[0])
    pixels = [_open(path, str(path), mode) for path in paths]
    misfit = next((i for i, image in enumerate(pixels) if image.shape != shape), None)
    if misfit is not None:
        raise EvaluationDataError(
            f"{paths[misfit]} has shape {pixels[misfit].shape} instead of {shape} "
            "(channels, height, width)."
        )
    return torch.from_numpy(np.stack(pixels))


def _load_folder(
    folder: str | os.PathLike[str], limit: int | None, shape: tuple[int, int, int] | None
) -> LabeledImages:
    files, labels = list_images(folder)
    channels, size = (3, None) if shape is None else (shape[0], (shape[2], shape[1]))
    mode = _mode(channels)
    pixels = [_open(path, str(path), mode, size) for path in files[:limit]]
    shapes = {image.shape for image in pixels}
    if len(shapes) > 1:
        raise EvaluationDataError(
            f"the images in {folder} differ in shape ({sorted(shapes)[:3]} ...); give the shape "
            "that they are to be brought to."
        )
    return LabeledImages(torch.from_numpy(np.stack(pixels)), torch.tensor(labels[:limit]))


def _mode(channels: int) -> str:
    if channels not in _PIL_MODES:
        raise EvaluationDataError(f"images of {channels} channels cannot be read, only 1 or 3.")
    return _PIL_MODES[channels]


def _decode(data: npt.NDArray[Any], offset: npt.NDArray[Any], path: object) -> npt.NDArray[Any]:
    starts = offset.astype(np.int64)
    if len(starts) < 2 or starts[0] < 0 or starts[-1] > len(data) or (np.diff(starts) <= 0).any():
        raise EvaluationDataError(f"'offset' in {path} does not cut 'jpeg' into images.")
    files = (io.BytesIO(data[a:b].tobytes()) for a, b in itertools.pairwise(starts))
    pixels = [_open(file, f"image {i} in {path}", "RGB") for i, file in enumerate(files)]
    shapes = {image.shape for image in pixels}
    if len(shapes) > 1:
        raise EvaluationDataError(f"the images in {path} differ in shape: {sorted(shapes)}.")
    return np.stack(pixels)


def _open(
    file: Path | io.BytesIO, name: str, mode: str, size: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode one image into shape (C, H, W), of another (width, height) if one is given."""
    try:
        with Image.open(file) as image:
            if image.mode not in _EIGHT_BITS:
                raise ValueError(f"its mode is {image.mode}, not 8 bits a channel; convert it")
            decoded = image.convert(mode)
            if size not in (None, decoded.size):
                decoded = decoded.resize(size, Image.Resampling.BILINEAR)
            pixels = np.asarray(decoded, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EvaluationDataError(f"{name} cannot be decoded: {error}.") from error
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def _channels_first(pixels: npt.NDArray[Any], path: object) -> npt.NDArray[Any]:
    if pixels.dtype != np.uint8:
        raise EvaluationDataError(f"'images' in {path} is {pixels.dtype}; uint8 is needed.")
    first, last = pixels.shape[1] in _PIL_MODES, pixels.shape[3] in _PIL_MODES
    if first == last:
        raise EvaluationDataError(
            f"'images' in {path} has shape {pixels.shape}, which does not tell which axis is the "
            "channels: just one of the second and the last must be 1 or 3."
        )
    return pixels if first else pixels.transpose(0, 3, 1, 2)
