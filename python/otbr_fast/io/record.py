"""BackdoorBench's records: read without BackdoorBench and without running them."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from otbr_fast.errors import CheckpointError
from otbr_fast.io.faults import faults
from otbr_fast.io.torchfile import read_torch_file

ATTACK_RESULT = "attack_result.pt"
IMAGE_FOLDER = "bd_test_dataset"
_IMAGE_NAME = re.compile(r"\d+\.\w+", re.ASCII)


@dataclass(frozen=True)
class PoisonedImage:
    """One poisoned test image: its file, the attack's label for it, and its true label."""

    path: Path
    target_label: int
    original_label: int


@dataclass(frozen=True)
class Record:
    """An attack's outcome as BackdoorBench keeps it.

    Parameters
    ----------
    folder : Path
        The record's folder, which holds ``attack_result.pt``.
    model_name, num_classes
        As BackdoorBench names them.
    img_size : (int, int, int)
        Height, width and channels of the images.
    dataset : str
        The clean data's name.
    state_dict : mapping of str to Tensor
        The attacked network's weights, on the CPU.
    poisoned : tuple of PoisonedImage
        The poisoned test images. The files lie inside `folder`; whether they are there is seen
        when they are read.
    """

    folder: Path
    model_name: str
    num_classes: int
    img_size: tuple[int, int, int]
    dataset: str
    state_dict: Mapping[str, torch.Tensor]
    poisoned: tuple[PoisonedImage, ...]

    @property
    def target(self) -> int | None:
        """The attack's target class; ``None`` if there is not exactly one."""
        targets = {image.target_label for image in self.poisoned}
        return targets.pop() if len(targets) == 1 else None


# The parts of the file that are needed. Numbers may be numpy's, and never fractions.
_Integer = Annotated[int, BeforeValidator(operator.index)]
_Label = Annotated[_Integer, Field(ge=0)]
_Size = Annotated[_Integer, Field(ge=1)]


class _Sample(BaseModel):
    path: str
    other_info: tuple[_Label, _Label]  # the attack's label, the original one


class _Container(BaseModel):
    data_dict: dict[Any, _Sample]


class _PoisonedSet(BaseModel):
    bd_data_container: _Container


class _AttackResult(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    model_name: str
    num_classes: _Size
    model: dict[str, torch.Tensor]
    img_size: tuple[_Size, _Size, _Size]
    clean_data: str
    bd_test: _PoisonedSet


def load_record(folder: str | os.PathLike[str]) -> Record:
    """Read a record folder.

    Raises
    ------
    CheckpointError
        ``attack_result.pt`` is missing, damaged, refused as unsafe, or not such a record; or a
        poisoned image's path leads elsewhere, or its labels contradict each other.
    """
    folder = Path(folder)
    path = folder / ATTACK_RESULT
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {ATTACK_RESULT}: give a record folder of BackdoorBench, "
            "or a .safetensors, .pt or .pth file."
        )
    try:
        content = _AttackResult.model_validate(read_torch_file(path))
    except (ValidationError, TypeError) as error:  # TypeError: a label that is no integer
        reason = faults(error) if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(f"{path} is not a record of BackdoorBench: {reason}.") from error
    samples = content.bd_test.bd_data_container.data_dict.values()
    return Record(
        folder=folder,
        model_name=content.model_name,
        num_classes=content.num_classes,
        img_size=content.img_size,
        dataset=content.clean_data,
        state_dict=content.model,
        poisoned=tuple(_poisoned_image(folder, sample, content.num_classes) for sample in samples),
    )


def _poisoned_image(folder: Path, sample: _Sample, num_classes: int) -> PoisonedImage:
    target, original = sample.other_info
    if max(target, original) >= num_classes:
        raise CheckpointError(
            f"{sample.path!r} has the labels {target} and {original}, but the record has only "
            f"{num_classes} classes: it is damaged."
        )
    return PoisonedImage(_locate(folder, sample.path, original), target, original)


def _locate(folder: Path, stored: str, original_label: int) -> Path:
    """Find an image in this record: its stored path starts where BackdoorBench once ran.

    Only ``<original label>/<index>.<suffix>`` is taken from it, so that no record can make files
    outside its folder be read; links that lead out are refused too.
    """
    class_folder, name = ("", "", *PureWindowsPath(stored).parts)[-2:]  # understands / and \
    if class_folder != str(original_label) or not _IMAGE_NAME.fullmatch(name):
        raise CheckpointError(
            f"the poisoned image {stored!r} with original label {original_label} should be "
            f"stored as .../{IMAGE_FOLDER}/{original_label}/<index>.png: the record is damaged "
            "or unsafe."
        )
    path = folder / IMAGE_FOLDER / class_folder / name
    # realpath, as Path.resolve raises on links in a circle: those are told when the image is read
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise CheckpointError(f"{path} leads out of the record by a link; replace it by the image.")
    return path
