"""Folders of images with a subfolder for each class."""

from __future__ import annotations

import os
from pathlib import Path

from otbr_fast.errors import EvaluationDataError

_MOST_DIGITS = 9  # of a class's number
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".webp"})


def class_names(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Return the class that each subfolder stands for.

    Where all are named by whole numbers, these are the classes, so that a class without images
    does not shift the others; else they are numbered in the order of their names.

    Raises
    ------
    EvaluationDataError
        There are no subfolders, or two of them have the same number.
    """
    try:
        names = sorted(path.name for path in Path(folder).iterdir() if _is_class(path))
    except OSError as error:
        raise EvaluationDataError(f"{folder} cannot be read: {error}.") from error
    if not names:
        raise EvaluationDataError(f"{folder} has no subfolders: one for each class is needed.")
    if not all(name.isascii() and name.isdecimal() for name in names):
        return {name: label for label, name in enumerate(names)}
    longest = max(names, key=len)
    if len(longest) > _MOST_DIGITS:
        raise EvaluationDataError(f"the subfolder {longest} of {folder} is too large a number.")
    labels = {name: int(name) for name in names}
    if len(set(labels.values())) < len(labels):
        raise EvaluationDataError(f"subfolders of {folder} have the same number: {names}.")
    return labels


def list_images(folder: str | os.PathLike[str]) -> tuple[list[Path], list[int]]:
    """Return image files and their classes: the first of each class, then the second, and so on.

    Raises
    ------
    EvaluationDataError
        There are none.
    """
    found = [
        (rank, label, path)
        for name, label in class_names(folder).items()
        for rank, path in enumerate(sorted(_images_in(Path(folder) / name)))
    ]
    if not found:
        kinds = ", ".join(sorted(_SUFFIXES))
        raise EvaluationDataError(f"{folder} has no images ({kinds}) in its subfolders.")
    found.sort()
    return [path for _, _, path in found], [label for _, label, _ in found]


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _images_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES]
