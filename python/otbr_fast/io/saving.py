"""Writing weights as safetensors, a tensor at a time, in one file or in shards."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from otbr_fast.errors import CheckpointError
from otbr_fast.io.files import check_absent, write_file
from otbr_fast.io.shards import index_path, index_text, shard_path
from otbr_fast.models import require_dense, require_finite
from otbr_fast.models.hashing import bytes_of

NOT_SAVED = "such weights are not saved, as no network works with them; check how they were made"
"""What becomes of weights that are not finite."""

_METADATA = "__metadata__"
_ALIGNMENT = 8  # bytes, of where the tensors begin
_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip

Weights = Mapping[str, torch.Tensor]


def save_safetensors(
    state_dict: Weights,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write weights as safetensors, whole or not at all.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
    path : path-like
        Of the file; where there are several, of what `safetensors_paths` tells instead.
    metadata : mapping of str to str, optional
        For the head of each file.
    max_shard_bytes : int, optional
        Tensors that together are larger go to several files with an index, as Hugging Face's
        libraries write and read them. By default all go to one.
    overwrite : bool
        Replace what is there, in one file or in several.

    Raises
    ------
    CheckpointError
        A weight is not finite, or the metadata are not text.
    ValueError
        `max_shard_bytes` is not positive.
    OutputExistsError
        A file exists and `overwrite` is false.
    """
    require_finite(state_dict, NOT_SAVED)
    save_tensors(
        state_dict.items(),
        state_dict,
        path,
        metadata=metadata,
        max_shard_bytes=max_shard_bytes,
        overwrite=overwrite,
    )


def save_tensors(
    tensors: Iterable[tuple[str, torch.Tensor]],
    like: Weights,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write tensors as they come, in any order: no two of them need be there at a time.

    Parameters
    ----------
    tensors : iterable of (str, Tensor)
        Each of those of ``like``, once.
    like : mapping of str to Tensor
        Tensors of the same names, types and shapes; their values are not used.
    path, metadata, max_shard_bytes, overwrite
        And errors: as in `save_safetensors`.
    """
    wanted = Path(path)
    require_dense(like)
    _check_head(like, metadata)
    shards = _shards(like, wanted, max_shard_bytes)
    check_absent([wanted, index_path(wanted), *shards], overwrite)
    with ExitStack() as stack:  # what is entered last is published first: the index comes last
        if len(shards) > 1:
            index = stack.enter_context(write_file(index_path(wanted), overwrite))
            index.write_text(index_text(shards, _size(like.values())), encoding="utf-8")
        slots: dict[str, _Slot] = {}
        for shard, names in shards.items():
            draft = stack.enter_context(write_file(shard, overwrite))
            file = stack.enter_context(draft.open("wb"))
            slots |= _write_head(file, {name: like[name] for name in names}, metadata)
        for name, tensor in tensors:
            slots.pop(name).write(name, tensor)
        if slots:
            raise ValueError(f"{', '.join(slots)} did not come")
        if overwrite:  # never an old index beside new shards
            index_path(wanted).unlink(missing_ok=True)
    if overwrite:
        _remove_former(wanted, shards)


def safetensors_paths(
    like: Weights, path: str | os.PathLike[str], max_shard_bytes: int | None = None
) -> tuple[Path, ...]:
    """Return what `save_safetensors` writes: one file, or the index and then the shards."""
    wanted = Path(path)
    shards = tuple(_shards(like, wanted, max_shard_bytes))
    return shards if shards == (wanted,) else (index_path(wanted), *shards)


def _shards(like: Weights, path: Path, max_bytes: int | None) -> dict[Path, list[str]]:
    """Fill one file after the other; a tensor that is larger alone has one to itself."""
    if max_bytes is not None and max_bytes <= 0:
        raise ValueError(f"max_shard_bytes={max_bytes}: a file needs room for something")
    groups: list[list[str]] = [[]]
    filled = 0
    for name, tensor in like.items():
        size = tensor.nbytes
        if max_bytes is not None and groups[-1] and filled + size > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    if len(groups) == 1:
        return {path: groups[0]}
    return {shard_path(path, k, len(groups)): names for k, names in enumerate(groups, start=1)}


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@dataclass(frozen=True)
class _Slot:
    """Where in a file a tensor goes, and what it must be like."""

    file: BinaryIO
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def write(self, name: str, tensor: torch.Tensor) -> None:
        if (tensor.dtype, tuple(tensor.shape)) != (self.dtype, self.shape):
            raise ValueError(
                f"{name!r} came as {tensor.dtype} {tuple(tensor.shape)}, not as {self.dtype} "
                f"{self.shape}"
            )
        require_finite({name: tensor}, NOT_SAVED)
        self.file.seek(self.offset)
        self.file.write(bytes_of(tensor))


def _check_head(like: Weights, metadata: Mapping[str, str] | None) -> None:
    if _METADATA in like:
        raise CheckpointError(f"no tensor can be called {_METADATA!r} in safetensors; rename it.")
    for key, value in (metadata or {}).items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise CheckpointError(
                f"the metadata {key!r}: {value!r} are not text, as safetensors needs them; use "
                "str(...) or json.dumps(...)."
            )


def _write_head(
    file: BinaryIO, like: Weights, metadata: Mapping[str, str] | None
) -> dict[str, _Slot]:
    """Write what stands before the tensors: the head's length, then it, in JSON.

    Large types come first, so that each number lies at a multiple of its size.
    """
    entries: dict[str, object] = {} if metadata is None else {_METADATA: dict(metadata)}
    offsets: dict[str, int] = {}
    end = 0
    for name in sorted(like, key=lambda name: (-like[name].itemsize, name)):
        tensor = like[name]
        offsets[name], end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _type(name, tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [offsets[name], end],
        }
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % _ALIGNMENT)
    file.write(len(head).to_bytes(8, "little") + head)
    first = file.tell()
    return {
        name: _Slot(file, first + offset, like[name].dtype, tuple(like[name].shape))
        for name, offset in offsets.items()
    }


def _type(name: str, dtype: torch.dtype) -> str:
    if dtype not in _TYPES:
        raise CheckpointError(
            f"{name!r} is of type {dtype}, which is not written as safetensors; convert it to "
            f"one of {', '.join(map(str, _TYPES))}."
        )
    return _TYPES[dtype]


def _remove_former(path: Path, shards: Mapping[Path, object]) -> None:
    """Remove what an earlier result of this path left in files of other names."""
    shard_name = re.compile(rf"{re.escape(path.stem)}-\d{{5}}-of-\d{{5}}{re.escape(path.suffix)}")
    former = [each for each in path.parent.iterdir() if shard_name.fullmatch(each.name)]
    for file in {path, *former} - set(shards):
        file.unlink(missing_ok=True)
