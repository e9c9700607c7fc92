"""Writing an attack's outcome as a BackdoorBench record, which its defences and ours read."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from otbr_fast.errors import CheckpointError
from otbr_fast.io.files import check_absent, write_file
from otbr_fast.io.record import ATTACK_RESULT, IMAGE_FOLDER
from otbr_fast.io.saving import NOT_SAVED
from otbr_fast.models import detached, require_finite

_SUFFIX = ".png"


def attack_record_paths(folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return where the network and the poisoned images go: a file and a folder."""
    return Path(folder) / ATTACK_RESULT, Path(folder) / IMAGE_FOLDER


def remove_attack_record(folder: str | os.PathLike[str]) -> None:
    """Remove what `save_attack_record` writes, where it is there."""
    result, image_folder = attack_record_paths(folder)
    result.unlink(missing_ok=True)
    shutil.rmtree(image_folder, ignore_errors=True)


def save_attack_record(
    folder: str | os.PathLike[str],
    *,
    model_name: str,
    num_classes: int,
    state_dict: Mapping[str, torch.Tensor],
    dataset: str,
    data_path: str,
    images: torch.Tensor,
    original_labels: torch.Tensor,
    target_labels: torch.Tensor,
    indices: torch.Tensor,
    n_test: int,
    overwrite: bool = False,
) -> Path:
    """Write ``attack_result.pt`` and the poisoned test images of an attack.

    The poisoned training set, which BackdoorBench can keep too, is not written (``bd_train`` is
    ``None``, as where BackdoorBench was told not to save it).

    Parameters
    ----------
    folder : path-like
        The record's folder; made if it is not there.
    state_dict : mapping of str to Tensor
        The attacked network; written as CPU tensors.
    dataset, data_path : str
        The clean data's name and place.
    images : Tensor
        Poisoned test images, uint8, shape (P, C, H, W), of 1 or 3 channels.
    original_labels, target_labels : Tensor
        Their true classes and the attacker's, shape (P,).
    indices : Tensor
        Where each stands among the `n_test` test images, shape (P,).

    Returns
    -------
    Path
        Of ``attack_result.pt``.

    Raises
    ------
    OutputExistsError
        The file or the images exist and `overwrite` is false; nothing is written.
    CheckpointError
        A weight is not finite, or the images are of another kind; nothing is written.
    """
    require_finite(state_dict, NOT_SAVED)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise CheckpointError(
            f"poisoned images are {images.dtype} of shape {tuple(images.shape)}; a record holds "
            "uint8 of shape (P, C, H, W) with 1 or 3 channels."
        )
    result, image_folder = attack_record_paths(folder)
    check_absent([result, image_folder], overwrite)
    names = [f"{original}/{i}{_SUFFIX}" for original, i in _pairs(original_labels, indices)]
    stored = f"record/{Path(folder).absolute().name}/{IMAGE_FOLDER}"
    samples = {
        i: {"path": f"{stored}/{name}", "other_info": [target, original]}
        for name, (original, i), target in zip(
            names, _pairs(original_labels, indices), target_labels.tolist(), strict=True
        )
    }
    indicator = np.zeros(n_test)
    indicator[indices.numpy()] = 1
    _, channels, height, width = images.shape
    content = {
        "model_name": model_name,
        "num_classes": num_classes,
        "model": detached(state_dict),
        "data_path": data_path,
        "img_size": (height, width, channels),
        "clean_data": dataset,
        "bd_train": None,
        "bd_test": {
            "bd_data_container": {
                "save_folder_path": stored,
                "data_dict": samples,
                "save_file_format": _SUFFIX,
            },
            "getitem_all": True,
            "getitem_all_switch": False,
            "original_index_array": indices.numpy(),
            "poison_indicator": indicator,
            "save_folder_path": stored,
        },
    }
    with write_file(result, overwrite) as draft, _write_folder(image_folder) as image_draft:
        torch.save(content, draft)
        _write_images(image_draft, names, images)
    return result


def _pairs(original_labels: torch.Tensor, indices: torch.Tensor) -> list[tuple[int, int]]:
    return list(zip(original_labels.tolist(), indices.tolist(), strict=True))


def _write_images(folder: Path, names: list[str], images: torch.Tensor) -> None:
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True)
    for name, image in zip(names, images.permute(0, 2, 3, 1).numpy(), strict=True):
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / name)


@contextmanager
def _write_folder(wanted: Path) -> Iterator[Path]:
    """Yield a folder to fill, beside the wanted one, and put it there on leaving, whole."""
    token = secrets.token_hex(8)
    draft, old = (wanted.with_name(f".{wanted.name}.{token}.{kind}") for kind in ("new", "old"))
    draft.mkdir(parents=True)
    try:
        yield draft
        if wanted.exists():
            wanted.rename(old)
        draft.rename(wanted)
    finally:
        for left in (draft, old):
            shutil.rmtree(left, ignore_errors=True)
