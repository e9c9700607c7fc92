"""Models from and to files. Nothing that is read is ever run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from otbr_fast.errors import CheckpointError
from otbr_fast.io.datasets import NORMALIZATION
from otbr_fast.io.description import AttackDescription, ModelDescription, read_description
from otbr_fast.io.files import file_sha256, write_file
from otbr_fast.io.record import ATTACK_RESULT, Record, load_record
from otbr_fast.io.torchfile import read_torch_file
from otbr_fast.models import (
    build_model,
    detached,
    num_classes,
    require_dense,
    require_finite,
)

_TORCH_SUFFIXES = (".pt", ".pth")
_NESTED_KEYS = ("model", "state_dict")
_WRAPPERS = re.compile(r"(module\.|_orig_mod\.)+")  # DataParallel's and torch.compile's

RECORD_DESCRIPTION = "model.json"
"""What a record's network is fed, which BackdoorBench tells by the dataset's name only."""

NOT_SAVED = "such weights are not saved, as no network works with them; check how they were made"
"""What becomes of weights that are not finite."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights read from a file, and what is known about them.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        On the CPU.
    description : ModelDescription, optional
        From the JSON file beside (``model.json`` in a record), or from the record; ``None`` if
        there is none, and for a record of a dataset whose normalisation is not known.
    path : Path
        The file with the weights.
    sha256 : str
        Of that file's bytes, in hexadecimal.
    record : Record, optional
        Where the weights came from a BackdoorBench record.
    """

    state_dict: Mapping[str, torch.Tensor]
    description: ModelDescription | None
    path: Path
    sha256: str
    record: Record | None = None

    @property
    def trigger_path(self) -> Path | None:
        """The attack's trigger, ``<stem>_trigger.npz`` beside the weights, if it is there."""
        path = self.path.with_name(f"{self.path.stem}_trigger.npz")
        return path if path.is_file() else None

    def build(self, model_name: str | None = None) -> tuple[nn.Module, str]:
        """Build the network, see `otbr_fast.models.build_model`, and check it.

        Parameters
        ----------
        model_name : str, optional
            Instead of the name that the description or the record tells.

        Raises
        ------
        CheckpointError
            The weights fit no supported architecture, or not the number of classes described.
        """
        known = self.record or self.description
        if model_name is None and known is not None:
            model_name = known.model_name
        model, name = build_model(self.state_dict, model_name)
        described = None if known is None else known.num_classes
        if described is not None and described != num_classes(model):
            raise CheckpointError(
                f"{self.path} is described as having {described} classes, but its weights have "
                f"{num_classes(model)}: correct the description or get the right weights."
            )
        return model, name


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a model: .safetensors, .pt or .pth, a BackdoorBench record or its attack_result.pt.

    Parameters
    ----------
    path : path-like
        A .pt or .pth file may hold a state_dict, or a dictionary with one under ``model`` or
        ``state_dict``. The prefixes of DataParallel and ``torch.compile`` are taken off.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, empty, of another kind, or refused because reading it could
        run code. Nothing has been run.
    """
    path = Path(path)
    if path.is_dir() or path.name == ATTACK_RESULT:
        return _load_record(path if path.is_dir() else path.parent)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty; get an undamaged copy.")
    if path.suffix == ".safetensors":
        content: object = _read_safetensors(path)
    elif path.suffix in _TORCH_SUFFIXES:
        content = _unnest(read_torch_file(path))
    else:
        raise CheckpointError(
            f"{path} has the suffix {path.suffix!r}; models are read from .safetensors, .pt and "
            ".pth files and from BackdoorBench's record folders."
        )
    beside = path.with_suffix(".json")
    return Checkpoint(
        state_dict=_state_dict(content, path),
        description=read_description(beside) if beside.is_file() else None,
        path=path,
        sha256=file_sha256(path),
    )


def save_safetensors(
    state_dict: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write weights as a safetensors file, whole or not at all.

    Raises
    ------
    CheckpointError
        A weight is not finite.
    OutputExistsError
        The file exists and `overwrite` is false.
    """
    require_finite(state_dict, NOT_SAVED)
    copies = detached(state_dict)
    with write_file(path, overwrite) as draft:
        # safetensors' own save_file would make a file that only its owner may read.
        draft.write_bytes(save(copies, metadata=dict(metadata) if metadata is not None else None))


def _load_record(folder: Path) -> Checkpoint:
    record = load_record(folder)
    path, described = folder / ATTACK_RESULT, folder / RECORD_DESCRIPTION
    return Checkpoint(
        state_dict=_state_dict(record.state_dict, path),
        description=read_description(described) if described.is_file() else _describe(record),
        path=path,
        sha256=file_sha256(path),
        record=record,
    )


def _describe(record: Record) -> ModelDescription | None:
    if record.dataset not in NORMALIZATION:
        return None
    height, width, channels = record.img_size
    mean, std = NORMALIZATION[record.dataset] or (None, None)
    label_mode = "all2all" if record.target is None else "all2one"
    return ModelDescription(
        model_name=record.model_name,
        num_classes=record.num_classes,
        dataset=record.dataset,
        input_shape=(channels, height, width),
        mean=mean,
        std=std,
        attack=AttackDescription(target=record.target, label_mode=label_mode),
    )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is damaged, incomplete or not a safetensors file ({error}); "
            "get an undamaged copy."
        ) from error


def _unnest(content: object) -> object:
    if isinstance(content, Mapping):
        for key in _NESTED_KEYS:
            if isinstance(content.get(key), Mapping):
                return content[key]
    return content


def _state_dict(content: object, path: Path) -> dict[str, torch.Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path} holds no named tensors ({type(content).__name__}); save the weights with "
            "torch.save(model.state_dict(), ...)."
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path} is not a state_dict: {name!r} is a {type(value).__name__}, not a tensor; "
                f"save the weights alone, or under one of the keys {_NESTED_KEYS}."
            )
    try:
        require_dense(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if all(_WRAPPERS.match(name) for name in content):
        return {_WRAPPERS.sub("", name, count=1): value for name, value in content.items()}
    return dict(content)
