"""Weights that stay in their safetensors files until they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from otbr_fast.errors import CheckpointError

_RENEWED = 16 << 20  # bytes of tensors
_LENGTH = 8  # bytes that tell the length of a file's head


class FileWeights(Mapping[str, torch.Tensor]):
    """Named tensors in one or several safetensors files, each read when it is asked for.

    A tensor is a view of its file, mapped into memory: only what is used of it is read, and it is
    not kept here. It is to be read only; nothing that is done to it reaches the file. (A file in
    which it lies across the boundaries of its numbers is rare; it is copied then.)

    Parameters
    ----------
    places : mapping of str to (Path, str)
        The file in which each tensor lies, and its name there.
    """

    def __init__(self, places: Mapping[str, tuple[Path, str]]) -> None:
        self._places = dict(places)
        self._files = {path: _File(path) for path, _ in self._places.values()}

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return a tensor, on the CPU; a `CheckpointError` tells that its file is gone."""
        path, name_there = self._places[name]
        return self._files[path].tensor(name_there)

    def __iter__(self) -> Iterator[str]:
        """Yield the names in order."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._places)


def tensor_names(path: Path) -> list[str]:
    """Return the names of a safetensors file's tensors.

    Raises
    ------
    CheckpointError
        The file is damaged.
    """
    return list(_opened(path).keys())


def tensor_bytes(path: Path) -> int:
    """Return how many bytes a safetensors file's tensors take: all but its head."""
    with path.open("rb") as file:
        head = int.from_bytes(file.read(_LENGTH), "little")
    return path.stat().st_size - _LENGTH - head


class _File:
    """An open file, which is opened again once much has been asked of it.

    What has been used of a file stays in memory as long as it is open, or a tensor of it is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: Any = None
        self._given = 0

    def tensor(self, name: str) -> torch.Tensor:
        if self._handle is None or self._given > _RENEWED:
            self._handle, self._given = _opened(self._path), 0
        try:
            tensor: torch.Tensor = self._handle.get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(
                f"{name!r} cannot be read from {self._path} ({error}); the file has been replaced "
                "since it was opened, or holds a type that PyTorch does not have."
            ) from error
        self._given += tensor.nbytes
        is_aligned = tensor.data_ptr() % tensor.itemsize == 0
        return tensor if is_aligned else tensor.clone()


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is damaged, incomplete or not a safetensors file ({error}); "
            "get an undamaged copy."
        ) from error
