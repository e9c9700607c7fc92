"""Where a command computes, and with how many threads."""

from __future__ import annotations

import re

import typer


def choose_device(name: str) -> str:
    """Return the device that ``--device`` asks for; "auto" takes a GPU where there is one.

    Raises
    ------
    typer.BadParameter
        There is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        raise typer.BadParameter(f"{name!r} should be auto, cpu or cuda:N", param_hint="--device")
    n_gpus = torch.cuda.device_count()
    if name != "cpu" and int(match[1] or 0) >= n_gpus:
        raise typer.BadParameter(
            f"{name!r} is not there: torch sees {n_gpus} GPUs", param_hint="--device"
        )
    return name


def limit_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads; ``None`` leaves it its own choice."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
