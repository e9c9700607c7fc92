"""How large the files may be into which weights are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from otbr_fast.io import Checkpoint

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(KB|MB|GB)", re.ASCII | re.IGNORECASE)
OPTION = "--max-shard-size"


def shard_bytes(size: str | None, checkpoint: Checkpoint) -> int | None:
    """Return how many bytes of tensors go to one file; where nothing is asked, as they came.

    Raises
    ------
    typer.BadParameter
        The size is malformed.
    """
    if size is None:
        return checkpoint.shard_bytes
    found = _SIZE.fullmatch(size)
    n_bytes = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if not n_bytes:
        raise typer.BadParameter(
            f"{size!r} should be a size such as 500MB or 2GB", param_hint=OPTION
        )
    return n_bytes


def require_safetensors(out: Path) -> None:
    """Refuse a name that does not end in .safetensors."""
    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"{out} must end in .safetensors", param_hint="--out")
