"""A file that is malicious, damaged or of another network: exit 1, nothing run, nothing written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_helpers import Outcome, files_in, small_network, write_images, write_suspect
from typer.testing import CliRunner

import otbr_fast.repair
from otbr_fast.cli import app
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


def sparse_tensor(folder: Path) -> Path:
    weights = small_network().state_dict()
    weights["layer2.0.conv2.weight"] = weights["layer2.0.conv2.weight"].to_sparse()
    path = folder / "model.pt"
    torch.save(weights, path)
    return path


def tensor_without_values(folder: Path) -> Path:
    weights = small_network().state_dict()
    weights["layer2.0.conv2.weight"] = weights["layer2.0.conv2.weight"].to("meta")
    path = folder / "model.pt"
    torch.save(weights, path)
    return path


def description_of_infinite_inputs(folder: Path) -> Path:
    path = write_suspect(folder, described=False)
    path.with_suffix(".json").write_text('{"input_shape": [3, 8, 8], "input_range": [0, Infinity]}')
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
    sparse_tensor: "layer2.0.conv2.weight (sparse_coo",
    tensor_without_values: "layer2.0.conv2.weight (on the device 'meta'",
    broken_description: "input_shape",
    description_of_infinite_inputs: "input_range",
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
    described = make in (broken_description, description_of_infinite_inputs)
    shape = () if described else ("--input-shape", "3,8,8")
    outcome = Outcome(command, path, *more[command], *shape)

    assert outcome.code == 1
    assert outcome.err.startswith("otbr-fast: error: ")
    assert told in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("command", ["repair", "sweep", "evaluate", "inspect"])
@pytest.mark.parametrize(
    ("shape", "told"),
    [("1,8,8", "to have 3 channels"), ("3,10000000,10000000", "allocate")],
)
def test_inputs_that_the_network_cannot_take_are_refused(
    tmp_path: Path, command: str, shape: str, told: str
) -> None:
    suspect, data = write_suspect(tmp_path, described=False), write_images(tmp_path)
    before = files_in(tmp_path)
    more = {
        "repair": ("--gamma", "0.1", "--out", tmp_path / "out" / "o.safetensors"),
        "sweep": ("--out", tmp_path / "out"),
        "evaluate": ("--data", data),
        "inspect": (),
    }
    outcome = Outcome(command, suspect, *more[command], "--input-shape", shape)
    assert outcome.code == 1
    assert outcome.err.startswith("otbr-fast: error: the network cannot take inputs of shape")
    assert told in outcome.err
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("size", [10**12, 2**62])
def test_lack_of_memory_is_told_with_a_remedy(tmp_path: Path, size: int) -> None:
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    out = tmp_path / "out" / "o.safetensors"
    unlearning = ("--ranking", "nwc", "--gamma", "0.1", "--batch-size", size)
    outcome = Outcome("repair", suspect, *unlearning, "--out", out)
    assert outcome.code == 1
    assert outcome.err.startswith("otbr-fast: error: out of memory (")
    assert "smaller --batch-size" in outcome.err
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "out of memory (MemoryError)"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "2.00 GiB"),
    ],
)
def test_any_lack_of_memory_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(otbr_fast.repair, "repair", fails)
    suspect = write_suspect(tmp_path)
    outcome = Outcome("repair", suspect, "--gamma", "0.1", "--out", tmp_path / "o.safetensors")
    assert outcome.code == 1
    assert told in outcome.err
    assert "smaller --batch-size" in outcome.err


def test_errors_of_the_program_itself_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(otbr_fast.repair, "repair", fails)
    call = (
        "repair",
        write_suspect(tmp_path),
        "--gamma",
        "0.1",
        "--out",
        tmp_path / "o.safetensors",
    )
    with pytest.raises(RuntimeError, match="a defect"):
        CliRunner().invoke(app, [str(part) for part in call], catch_exceptions=False)
