"""Models from and to files. Nothing that is read is ever run."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn

from otbr_fast.errors import CheckpointError
from otbr_fast.io.datasets import NORMALIZATION
from otbr_fast.io.description import AttackDescription, ModelDescription, read_description
from otbr_fast.io.faults import faults
from otbr_fast.io.file_weights import FileWeights, tensor_bytes, tensor_names
from otbr_fast.io.files import file_sha256
from otbr_fast.io.record import ATTACK_RESULT, Record, load_record
from otbr_fast.io.shards import INDEX_SUFFIX, index_path, read_index
from otbr_fast.io.torchfile import read_torch_file
from otbr_fast.models import build_model, num_classes, require_dense, skeleton
from otbr_fast.models.loading import is_finite

_TORCH_SUFFIXES = (".pt", ".pth")
_NESTED_KEYS = ("model", "state_dict")
_WRAPPERS = ("module", "_orig_mod")  # DataParallel's and torch.compile's

RECORD_DESCRIPTION = "model.json"
"""What a record's network is fed, which BackdoorBench tells by the dataset's name only."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights read from a file, and what is known about them.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        On the CPU. Those of safetensors are read when they are asked for, and not kept.
    description : ModelDescription, optional
        From the JSON file beside (``model.json`` in a record), or from the record; ``None`` if
        there is none, and for a record of a dataset whose normalisation is not known.
    files : tuple of Path
        The file with the weights; where there are several, their index and then they.
    record : Record, optional
        Where the weights came from a BackdoorBench record.
    """

    state_dict: Mapping[str, torch.Tensor]
    description: ModelDescription | None
    files: tuple[Path, ...]
    record: Record | None = None

    @property
    def path(self) -> Path:
        """The file with the weights, or the index of several."""
        return self.files[0]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes of all files, one after the other, in hexadecimal."""
        return file_sha256(*self.files)

    @property
    def description_path(self) -> Path:
        """Where the description is, or would be."""
        if self.record is not None:
            return self.record.folder / RECORD_DESCRIPTION
        return self.path.with_name(f"{_stem(self.path)}.json")

    @property
    def trigger_path(self) -> Path | None:
        """The attack's trigger, ``<stem>_trigger.npz`` beside the weights, if it is there."""
        path = self.path.with_name(f"{_stem(self.path)}_trigger.npz")
        return path if path.is_file() else None

    @property
    def shard_bytes(self) -> int | None:
        """What the tensors of the largest file take where there are several, else ``None``."""
        return max(map(tensor_bytes, self.files[1:]), default=None)

    def skeleton(self, model_name: str | None = None) -> tuple[nn.Module, str]:
        """Build the network without weights, on the ``meta`` device; see `build`."""
        return self._checked(*skeleton(self.state_dict, self._name(model_name)))

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
        return self._checked(*build_model(self.state_dict, self._name(model_name)))

    def types(self) -> dict[str, int]:
        """Return how many numbers of each type the file has, as in ``{"bfloat16": 11173962}``."""
        found: Counter[str] = Counter()
        for tensor in self.state_dict.values():
            found[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
        return dict(found)

    def keep_types(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Round a network's weights to the types that the file has them in.

        Parameters
        ----------
        model : nn.Module
            Of this architecture. It computes in the types that it has, but with what is written.

        Returns
        -------
        dict of str to Tensor
            Its weights in the file's types, to be written.

        Raises
        ------
        CheckpointError
            A weight is too large for its type.
        """
        own = model.state_dict()
        stored = {name: tensor.to(self.state_dict[name].dtype) for name, tensor in own.items()}
        for name, tensor in stored.items():
            if tensor.dtype != own[name].dtype and not is_finite(tensor):
                raise CheckpointError(
                    f"{name!r} is too large for {tensor.dtype}, its type in {self.path}: convert "
                    "that file to float32."
                )
        model.load_state_dict(stored)
        return stored

    def _name(self, given: str | None) -> str | None:
        known = self.record or self.description
        return known.model_name if given is None and known is not None else given

    def _checked(self, model: nn.Module, name: str) -> tuple[nn.Module, str]:
        known = self.record or self.description
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
        Safetensors may be in shards, with an index as Hugging Face's libraries write it: give the
        index, or the folder. A .pt or .pth file may hold a state_dict, or a dictionary with one
        under ``model`` or ``state_dict``. The prefixes of DataParallel and ``torch.compile`` are
        taken off, also those of parts of the network.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, empty, of another kind, or refused because reading it could
        run code; or an index and its shards do not fit together. Nothing has been run.
    """
    path = Path(path)
    if path.name == ATTACK_RESULT or (path / ATTACK_RESULT).is_file():
        return _load_record(path if path.is_dir() else path.parent)
    if path.is_dir():
        path = _in_folder(path)
    _require_file(path)
    files: tuple[Path, ...] = (path,)
    weights: Mapping[str, torch.Tensor]
    if path.name.endswith(INDEX_SUFFIX):
        placed = read_index(path)
        files = (path, *sorted(set(placed.values())))
        weights = _file_weights(placed, path)
    elif path.suffix == ".safetensors":
        weights = _file_weights(dict.fromkeys(tensor_names(path), path), path)
    elif path.suffix in _TORCH_SUFFIXES:
        weights = _state_dict(_unnest(read_torch_file(path)), path)
    else:
        raise CheckpointError(
            f"{path} has the suffix {path.suffix!r}; models are read from .safetensors, .pt and "
            f".pth files, from *{INDEX_SUFFIX} and from BackdoorBench's record folders."
        )
    beside = path.with_name(f"{_stem(path)}.json")
    return Checkpoint(
        state_dict=weights,
        description=read_description(beside) if beside.is_file() else None,
        files=files,
    )


def _require_file(path: Path) -> None:
    if not path.is_file():
        index = index_path(path)
        hint = f" It is in shards: give {index}." if index.is_file() else ""
        raise CheckpointError(f"there is no file {path}.{hint}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty; get an undamaged copy.")


def _in_folder(folder: Path) -> Path:
    """Return the one model in a folder: an index, or else the only safetensors file."""
    found = sorted(folder.glob(f"*{INDEX_SUFFIX}")) or sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        held = f"holds {', '.join(file.name for file in found)}" if found else "holds no model"
        raise CheckpointError(
            f"{folder} has no {ATTACK_RESULT} and {held}: give a record folder of BackdoorBench, "
            "a folder with one model in safetensors, or a file."
        )
    return found[0]


def _stem(path: Path) -> str:
    """Return the name that a model's files have in common."""
    is_index = path.name.endswith(INDEX_SUFFIX)
    return path.name.removesuffix(INDEX_SUFFIX) if is_index else path.stem


def _load_record(folder: Path) -> Checkpoint:
    record = load_record(folder)
    path, described = folder / ATTACK_RESULT, folder / RECORD_DESCRIPTION
    return Checkpoint(
        state_dict=_state_dict(record.state_dict, path),
        description=read_description(described) if described.is_file() else _describe(record),
        files=(path,),
        record=record,
    )


def _describe(record: Record) -> ModelDescription | None:
    if record.dataset not in NORMALIZATION:
        return None
    height, width, channels = record.img_size
    mean, std = NORMALIZATION[record.dataset] or (None, None)
    label_mode = "all2all" if record.target is None else "all2one"
    try:
        return ModelDescription(
            model_name=record.model_name,
            num_classes=record.num_classes,
            dataset=record.dataset,
            input_shape=(channels, height, width),
            mean=mean,
            std=std,
            attack=AttackDescription(target=record.target, label_mode=label_mode),
        )
    except ValidationError as error:
        raise CheckpointError(
            f"{record.folder}: dataset {record.dataset!r} with images of (height, width, channels) "
            f"{record.img_size} makes no description of a network ({faults(error)}); write one "
            "beside the weights."
        ) from error


def _file_weights(placed: Mapping[str, Path], path: Path) -> FileWeights:
    if not placed:
        raise CheckpointError(f"{path} holds no named tensors.")
    names = _unwrapped(placed)
    return FileWeights({names[name]: (file, name) for name, file in placed.items()})


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
    names = _unwrapped(content)
    return {names[name]: value for name, value in content.items()}


def _unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Take wrappers off tensors' names: modules called as one that have a single child.

    No two names become one.
    """
    parts = {name: tuple(name.split(".")) for name in names}
    children: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for each in parts.values():
        for depth, child in enumerate(each):
            children[each[:depth]].add(child)
    return {
        name: ".".join(
            part
            for depth, part in enumerate(each)
            if part not in _WRAPPERS
            or len(children[each[:depth]]) > 1
            or depth == len(each) - 1  # a tensor
        )
        for name, each in parts.items()
    }
