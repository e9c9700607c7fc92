"""Writing files so that they are whole or absent, and never in place of another unasked."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from otbr_fast.errors import OutputExistsError

_BLOCK = 1 << 20
_STEM_OF_DRAFT = 32  # characters


def check_absent(paths: Iterable[str | os.PathLike[str]], overwrite: bool) -> None:
    """Raise an `OutputExistsError` naming those of the paths that exist, unless `overwrite`."""
    if overwrite:
        return
    existing = [os.fspath(path) for path in paths if os.path.lexists(path)]
    if existing:
        raise OutputExistsError(
            f"{', '.join(existing)} would be overwritten; choose another name, or ask to overwrite."
        )


def check_can_be_files(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Raise an `OutputExistsError` for a folder in a file's place, or a file in a folder's.

    So it does for names that the file system does not take, as they are too long.
    """
    for path in map(Path, paths):
        above = next((each for each in path.parents if os.path.exists(each)), path.parent)
        if os.path.isdir(path):
            raise OutputExistsError(f"{path} is a folder; a file is to be written there.")
        if not os.path.isdir(above):
            raise OutputExistsError(f"{path} cannot be written, as {above} is no folder.")
        for name in path.relative_to(above).parts:
            try:
                os.lstat(above / name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise OutputExistsError(f"{path} cannot be written: {error.strerror}.") from None


def file_sha256(*paths: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the files' bytes, one file after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def write_file(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a path to write to, beside the wanted one; publish it there on leaving.

    The wanted file appears whole and at once, or not at all if the body raises. Missing folders
    are made. The yielded path has the wanted one's suffix.

    Raises
    ------
    OutputExistsError
        The wanted path exists (when entered, or meanwhile) and `overwrite` is false.
    """
    wanted = Path(path)
    check_absent([wanted], overwrite)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    stem = wanted.stem[:_STEM_OF_DRAFT]  # a longer name might be too long for the file system
    draft = wanted.with_name(f".{stem}.{secrets.token_hex(8)}{wanted.suffix}")
    try:
        yield draft
        _publish(draft, wanted, overwrite)
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, wanted: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(draft, wanted)  # unlike a rename, never replaces a file
            return
        except FileExistsError:
            check_absent([wanted], overwrite)
        except OSError:  # a file system without links: the best left is to look, then rename
            check_absent([wanted], overwrite)
    os.replace(draft, wanted)
