"""A file that is malicious, damaged or of another network: exit 1, nothing run, nothing written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_helpers import Outcome, files_in, small_network, write_suspect

from otbr_fast.io import save_safetensors


class RunsCode:
    """Unpickling this makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def malicious_pt(folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save({"model": small_network().state_dict(), "x": RunsCode(folder / "ran")}, path)
    return path


def bare_pickle(folder: Path) -> Path:
    path = folder / "model.pth"
    path.write_bytes(pickle.dumps(RunsCode(folder / "ran")))
    return path


def malicious_record(folder: Path) -> Path:
    record = folder / "record"
    record.mkdir()
    torch.save({"model": RunsCode(folder / "ran")}, record / "attack_result.pt")
    return record


def truncated_safetensors(folder: Path) -> Path:
    path = write_suspect(folder, described=False)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def truncated_pt(folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save(small_network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def empty(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.touch()
    return path


def noise(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(bytes(range(256)) * 10)
    return path


def absent(folder: Path) -> Path:
    return folder / "model.safetensors"


def of_other_kind(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(b"onnx")
    return path


def no_tensors(folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save({"epoch": 3}, path)
    return path


def missing_tensor(folder: Path) -> Path:
    weights = small_network().state_dict()
    del weights["layer2.0.bn2.weight"]
    return saved(weights, folder)


def misshapen_tensor(folder: Path) -> Path:
    weights = small_network().state_dict()
    weights["layer2.0.conv2.weight"] = torch.zeros(8, 7, 3, 3)
    return saved(weights, folder)


def not_finite(folder: Path) -> Path:
    weights = small_network().state_dict()
    weights["layer3.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    path = folder / "model.pt"
    torch.save(weights, path)
    return path


def unknown_architecture(folder: Path) -> Path:
    return saved({"encoder.weight": torch.zeros(3, 3)}, folder)


def broken_description(folder: Path) -> Path:
    path = write_suspect(folder, described=False)
    path.with_suffix(".json").write_text('{"input_shape": "large"}')
    return path


def saved(weights: dict[str, torch.Tensor], folder: Path) -> Path:
    path = folder / "model.safetensors"
    save_safetensors(weights, path)
    return path


CASES = {
    malicious_pt: "mkdir",
    bare_pickle: "refused",
    malicious_record: "mkdir",
    truncated_safetensors: "damaged",
    truncated_pt: "damaged",
    empty: "empty",
    noise: "damaged",
    absent: "no file",
    of_other_kind: ".onnx",
    no_tensors: "model.pt",
    missing_tensor: "layer2.0.bn2.weight",
    misshapen_tensor: "layer2.0.conv2.weight",
    not_finite: "layer3.0.conv1.weight",
    unknown_architecture: "encoder.weight",
    broken_description: "input_shape",
}


@pytest.mark.parametrize("command", ["repair", "sweep", "evaluate", "inspect"])
@pytest.mark.parametrize(
    ("make", "told"), CASES.items(), ids=lambda case: getattr(case, "__name__", "")
)
def test_refused(tmp_path: Path, make: Callable[[Path], Path], told: str, command: str) -> None:
    path = make(tmp_path)
    before = files_in(tmp_path)
    more = {
        "repair": ("--gamma", "0.1", "--out", tmp_path / "out" / "o.safetensors"),
        "sweep": ("--out", tmp_path / "out"),
        "evaluate": ("--data", tmp_path / "none.npz"),
        "inspect": (),
    }
    # The shape of the input is told, so that nothing but the file itself can be at fault.
    shape = () if make is broken_description else ("--input-shape", "3,8,8")
    outcome = Outcome(command, path, *more[command], *shape)

    assert outcome.code == 1
    assert outcome.err.startswith("otbr-fast: error: ")
    assert told in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()
    assert files_in(tmp_path) == before
