"""JSON and CSV, and writing several files so that a clash is seen before the first."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from otbr_fast.io import check_absent, write_file


def json_text(document: object) -> str:
    """Return JSON as standards have it: no NaN, no infinity."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return a table with a header; all rows have the first one's keys, ``None`` is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_texts(texts: Mapping[Path, str], *, overwrite: bool = False) -> None:
    """Write text files, each whole or not at all.

    Raises
    ------
    OutputExistsError
        One of them exists and `overwrite` is false; nothing is written then.
    """
    check_absent(texts, overwrite)
    for path, text in texts.items():
        with write_file(path, overwrite) as draft:
            draft.write_text(text, encoding="utf-8")
