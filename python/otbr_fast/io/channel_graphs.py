"""Channel graphs as YAML: to look at, to correct, and to hand in where tracing fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from otbr_fast.channels import Axis, ChannelGraph, FixedAxis, Kind, Space
from otbr_fast.errors import ChannelGraphError
from otbr_fast.io.faults import faults
from otbr_fast.io.files import write_file

_Index = Annotated[int, Field(gt=-(2**31), lt=2**31)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Axis(_Strict):
    """Channel c's copy i lies at entry ``start + stride c + step i``, or all entries are listed."""

    tensor: str
    dim: int = Field(ge=0)
    groups: _Index = Field(default=1, ge=1)
    start: _Index = Field(default=0, ge=0)
    stride: _Index = 1
    copies: _Index = Field(default=1, ge=1)
    step: _Index = 1
    entries: list[list[_Index]] | None = None


class _Space(_Strict):
    """``blocks`` is a number of equal runs of channels, or each channel's block."""

    name: str
    kind: Kind
    size: _Index = Field(ge=1)
    blocks: int | list[_Index] = 1
    writers: list[_Axis] = Field(min_length=1)
    carried: list[_Axis] = []
    readers: list[_Axis] = []
    mixed: bool = False

    @model_validator(mode="after")
    def _check(self) -> _Space:
        if isinstance(self.blocks, list):
            if len(self.blocks) != self.size or min(self.blocks) < 0:
                raise ValueError(f"blocks must be {self.size} numbers from 0, one a channel")
        elif self.blocks < 1 or self.size % self.blocks:
            raise ValueError(f"{self.size} channels cannot be split in {self.blocks} equal blocks")
        for axis in (*self.writers, *self.carried, *self.readers):
            entries = axis.entries
            if entries is not None and (
                len(entries) != self.size or len({len(row) for row in entries}) != 1
            ):
                raise ValueError(
                    f"entries of {axis.tensor} must be {self.size} lists of equal length"
                )
        return self


class _Fixed(_Strict):
    tensor: str
    dim: int
    why: str = ""


class _Graph(_Strict):
    spaces: list[_Space]
    fixed: list[_Fixed] = []


def channels_to_yaml(graph: ChannelGraph) -> str:
    """Write a channel graph as YAML; `channels_from_yaml` reads it."""
    document = {
        "spaces": [
            {
                "name": space.name,
                "kind": space.kind,
                "size": space.size,
                "blocks": _blocks(space.blocks),
                "writers": [_described(axis) for axis in space.writers],
                "carried": [_described(axis) for axis in space.carried],
                "readers": [_described(axis) for axis in space.readers],
                "mixed": space.mixed,
            }
            for space in graph.spaces
        ],
        "fixed": [
            {"tensor": axis.tensor, "dim": axis.dim, "why": axis.why} for axis in graph.fixed
        ],
    }
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100)


def channels_from_yaml(text: str) -> ChannelGraph:
    """Read a channel graph from YAML.

    Raises
    ------
    ChannelGraphError
        It is no YAML, or not a description of channels; what is wrong is named.
    """
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ChannelGraphError(f"the description of channels is no YAML ({error})") from error
    try:
        parsed = _Graph.model_validate(document)
    except ValidationError as error:
        raise ChannelGraphError(
            f"this is not a description of channels ({faults(error)}); `otbr-fast inspect --yaml` "
            "writes examples"
        ) from error
    spaces = tuple(
        Space(
            space.name,
            space.kind,
            tuple(_axis(axis, space.size) for axis in space.writers),
            tuple(_axis(axis, space.size) for axis in space.carried),
            tuple(_axis(axis, space.size) for axis in space.readers),
            _block_ids(space.blocks, space.size),
            space.mixed,
        )
        for space in parsed.spaces
    )
    return ChannelGraph(spaces, tuple(FixedAxis(a.tensor, a.dim, a.why) for a in parsed.fixed))


def write_channels(
    graph: ChannelGraph, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a channel graph to a YAML file, whole or not at all."""
    with write_file(path, overwrite) as draft:
        draft.write_text(channels_to_yaml(graph), encoding="utf-8")


def read_channels(path: str | os.PathLike[str]) -> ChannelGraph:
    """Read a channel graph from a YAML file; a `ChannelGraphError` tells what is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ChannelGraphError(f"{path} cannot be read: {error}") from error
    return channels_from_yaml(text)


def _described(axis: Axis) -> dict[str, object]:
    """Describe an axis, by a rule for its entries if there is one; what is usual is left out."""
    entries = axis.entries
    n, copies = entries.shape
    start = int(entries[0, 0])
    stride = int(entries[1, 0]) - start if n > 1 else 1
    step = int(entries[0, 1]) - start if copies > 1 else 1
    found: dict[str, object] = {"tensor": axis.tensor, "dim": axis.dim, "groups": axis.groups}
    if np.array_equal(entries, _ruled(start, stride, step, n, copies)):
        found |= {"start": start, "stride": stride, "copies": copies, "step": step}
    else:
        found["entries"] = entries.tolist()
    usual = {name: field.default for name, field in _Axis.model_fields.items()}
    return {key: value for key, value in found.items() if usual[key] != value}


def _axis(axis: _Axis, size: int) -> Axis:
    entries = (
        _ruled(axis.start, axis.stride, axis.step, size, axis.copies)
        if axis.entries is None
        else np.array(axis.entries, dtype=np.int64)
    )
    return Axis(axis.tensor, axis.dim, entries, axis.groups)


def _ruled(start: int, stride: int, step: int, size: int, copies: int) -> NDArray[np.int64]:
    return start + stride * np.arange(size)[:, None] + step * np.arange(copies)


def _blocks(blocks: NDArray[np.int64]) -> int | list[int]:
    count = int(blocks.max()) + 1
    is_even = blocks.size % count == 0
    if is_even and np.array_equal(blocks, _block_ids(count, blocks.size)):
        return count
    return blocks.tolist()  # type: ignore[no-any-return]


def _block_ids(blocks: int | list[int], size: int) -> NDArray[np.int64]:
    if isinstance(blocks, int):
        return np.repeat(np.arange(blocks), size // blocks)
    return np.unique(blocks, return_inverse=True)[1]
