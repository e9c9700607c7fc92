"""Weights in several safetensors files, and the index that tells which holds what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from otbr_fast.errors import CheckpointError
from otbr_fast.io.file_weights import tensor_names

INDEX_SUFFIX = ".safetensors.index.json"
_MAP = "weight_map"


def index_path(weights: Path) -> Path:
    """Return where the index of ``weights``, a .safetensors path, lies if it is in shards."""
    return weights.with_suffix(INDEX_SUFFIX)


def shard_path(weights: Path, number: int, count: int) -> Path:
    """Return the path of a shard, counted from 1, as Hugging Face's libraries name it."""
    return weights.with_name(f"{weights.stem}-{number:05}-of-{count:05}{weights.suffix}")


def index_text(shards: Mapping[Path, Iterable[str]], total_bytes: int) -> str:
    """Return an index as Hugging Face's libraries read it."""
    placed = {name: path.name for path, names in shards.items() for name in names}
    content = {"metadata": {"total_size": total_bytes}, _MAP: dict(sorted(placed.items()))}
    return json.dumps(content, indent=2) + "\n"


def read_index(path: Path) -> dict[str, Path]:
    """Return the file in which each tensor lies; the map and the files must tell the same.

    Raises
    ------
    CheckpointError
        The index is not one, leads out of its folder, or tells otherwise than the shards; or a
        shard is missing or damaged.
    """
    placed = {name: path.with_name(file) for name, file in _weight_map(path).items()}
    shards = list(dict.fromkeys(placed.values()))
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise CheckpointError(
            f"{', '.join(missing)} of the {len(shards)} shards that {path} names: no such file "
            "beside it; get all of them."
        )
    found: dict[str, Path] = {}
    for shard in shards:
        for name in tensor_names(shard):
            if name in found:
                raise CheckpointError(
                    f"{name!r} is in both {found[name]} and {shard}, so it is not known which is "
                    "right; get the shards as they were saved together."
                )
            found[name] = shard
    for name in {**placed, **found}:
        if placed.get(name) != found.get(name):
            raise CheckpointError(
                f"{name!r} is {_where(placed.get(name))} by the map of {path}, but is "
                f"{_where(found.get(name))}; get the index and the shards that were saved together."
            )
    return placed


def _where(shard: Path | None) -> str:
    return "in none of the shards" if shard is None else f"in {shard.name}"


def _weight_map(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except (OSError, ValueError, RecursionError) as error:
        raise _no_index(path, str(error)) from error
    placed = content.get(_MAP) if isinstance(content, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise _no_index(path, f"it has no {_MAP!r}")
    for name, file in placed.items():
        if not isinstance(file, str) or not _is_plain(file):
            raise CheckpointError(
                f"{path} places {name!r} in {file!r}; only the name of a .safetensors file in the "
                "same folder is safe and read: put the shards beside the index and correct it."
            )
    return placed


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated!r} stands there twice")
    return found


def _is_plain(file: str) -> bool:
    parts = PurePosixPath(file).parts, PureWindowsPath(file).parts
    is_name = all(len(each) == 1 and each[0] == file for each in parts)
    return is_name and file.endswith(".safetensors") and "\0" not in file


def _no_index(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not an index of shards ({reason}): it should be JSON in which {_MAP!r} names "
        "each tensor's file. Get an undamaged copy, or give a .safetensors file itself."
    )
