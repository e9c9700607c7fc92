"""What a defence leaves in a BackdoorBench record, so that BackdoorBench's tools find it."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from otbr_fast.io.files import check_absent, write_file
from otbr_fast.io.saving import NOT_SAVED
from otbr_fast.models import detached, require_finite

_METRICS = ("test_acc", "test_asr", "test_ra")


def defense_paths(record_folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return where the weights and the summary go: ``<record>/defense/otbr/...``."""
    folder = Path(record_folder) / "defense" / "otbr"
    return folder / "defense_result.pt", folder / "otbr_df_summary.csv"


def save_defense_result(
    record_folder: str | os.PathLike[str],
    model_name: str,
    num_classes: int,
    state_dict: Mapping[str, torch.Tensor],
    summary: Mapping[str, object],
    overwrite: bool = False,
) -> Path:
    """Write ``defense_result.pt`` and ``otbr_df_summary.csv`` into a record.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        The mitigated network; written as CPU tensors.
    summary : mapping of str to object
        The metrics ``test_acc``, ``test_asr`` and ``test_ra`` come first in the table, empty if
        they are not given; all others follow as they come.

    Returns
    -------
    Path
        Of ``defense_result.pt``.

    Raises
    ------
    OutputExistsError
        One of the files exists and `overwrite` is false; nothing is written.
    CheckpointError
        A weight is not finite; nothing is written.
    """
    require_finite(state_dict, NOT_SAVED)
    result, table = defense_paths(record_folder)
    check_absent([result, table], overwrite)
    content = {
        "model_name": model_name,
        "num_classes": num_classes,
        "model": detached(state_dict),
    }
    row = {**dict.fromkeys(_METRICS), **summary}
    with write_file(result, overwrite) as result_draft, write_file(table, overwrite) as table_draft:
        torch.save(content, result_draft)
        with table_draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["", *row])  # the index column has no name, as pandas writes it
            writer.writerow(["last", *row.values()])
    return result
