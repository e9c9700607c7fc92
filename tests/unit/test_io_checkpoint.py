from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from otbr_fast.errors import CheckpointError, OutputExistsError
from otbr_fast.io import Checkpoint, load_checkpoint, save_safetensors, state_dict_hash
from otbr_fast.models import PreActResNet

Weights = dict[str, torch.Tensor]


@pytest.fixture
def weights(tiny_resnet: PreActResNet) -> Weights:
    return tiny_resnet.state_dict()


class Command:
    """A pickle that, were it run, would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def same(checkpoint: Checkpoint, weights: Weights) -> bool:
    return state_dict_hash(checkpoint.state_dict) == state_dict_hash(weights)


def test_safetensors_there_and_back(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors(weights, path, metadata={"made": "here"})
    checkpoint = load_checkpoint(path)
    assert same(checkpoint, weights)
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.description is None
    assert checkpoint.record is None
    assert checkpoint.build()[1] == "preactresnet18"


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"model": w, "epoch": 3},
        lambda w: {"state_dict": w, "best": np.float64(0.9), "losses": np.arange(3.0)},
        lambda w: {f"module.{name}": tensor for name, tensor in w.items()},
        lambda w: {"model": {f"_orig_mod.module.{name}": t for name, t in w.items()}},
    ],
)
def test_torch_files(
    tmp_path: Path, weights: Weights, suffix: str, wrap: Callable[[Weights], object]
) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save(wrap(weights), path)
    assert same(load_checkpoint(path), weights)


def test_legacy_torch_files(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "model.pt"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert same(load_checkpoint(path), weights)


def _save_nested(command: Command, path: Path) -> None:
    torch.save({"model": {"conv1.weight": torch.zeros(1)}, "extra": command}, path)


def _save_legacy(command: Command, path: Path) -> None:
    torch.save(command, path, _use_new_zipfile_serialization=False)


def _save_plain_pickle(command: Command, path: Path) -> None:
    path.write_bytes(pickle.dumps(command))


def _save_in_array(command: Command, path: Path) -> None:
    torch.save({"model": np.array([command], dtype=object)}, path)


def _save_in_record(command: Command, path: Path) -> None:
    torch.save({"model": {}, "bd_test": command}, path)


NAMED = r"refused: it asks for '(posix|nt)\.system'.*Nothing was run.*safetensors"


@pytest.mark.parametrize(
    ("save", "name", "message"),
    [
        (torch.save, "model.pt", NAMED),
        (_save_nested, "model.pth", NAMED),
        (_save_legacy, "model.pt", NAMED),
        (_save_in_record, "attack_result.pt", NAMED),
        (_save_in_array, "model.pt", r"refused: it asks for 'numpy\.dtypes\.ObjectDType'"),
        (_save_plain_pickle, "model.pt", r"other things than weights. Nothing in it was run"),
        (torch.save, "model.safetensors", r"not a safetensors file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_is_refused_and_not_run(
    tmp_path: Path, save: Callable[[Command, Path], None], name: str, message: str
) -> None:
    path, proof = tmp_path / name, tmp_path / "proof"
    save(Command(proof), path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
    assert not proof.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_the_pickle_above_would_run(tmp_path: Path) -> None:
    """The control: without it, the test above could pass for a harmless file."""
    pickle.loads(pickle.dumps(Command(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()


def test_a_pickled_module_is_refused_by_name(tmp_path: Path, tiny_resnet: PreActResNet) -> None:
    path = tmp_path / "model.pt"
    torch.save(tiny_resnet, path)
    with pytest.raises(CheckpointError, match=r"PreActResNet.*state_dict"):
        load_checkpoint(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0, 1, 9, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, weights: Weights, suffix: str, keep: float) -> None:
    path = tmp_path / f"model{suffix}"
    save_safetensors(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(CheckpointError, match=r"(empty|damaged).*undamaged copy"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no named tensors"),
        ([torch.zeros(1)], r"no named tensors \(list\)"),
        (torch.zeros(1), r"no named tensors \(Tensor\)"),
        ({"a": 1.0}, "'a' is a float"),
        ({3: torch.zeros(1)}, "3 is a Tensor"),
        ({"optimizer": {"a": torch.zeros(1)}}, "'optimizer' is a dict"),
    ],
)
def test_files_without_a_state_dict(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pt", "there is no file"),
        ("model.onnx", r"suffix '\.onnx'; models are read from \.safetensors"),
        ("folder", r"no attack_result\.pt"),
        ("elsewhere/attack_result.pt", r"no attack_result\.pt"),
    ],
)
def test_paths_that_are_no_models(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.onnx").write_text("x")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / name)


@pytest.fixture
def described(tmp_path: Path, weights: Weights) -> Callable[[object], Checkpoint]:
    """Load the tiny network with a description beside it."""

    def load(description: object) -> Checkpoint:
        save_safetensors(weights, tmp_path / "model.safetensors")
        (tmp_path / "model.json").write_text(json.dumps(description))
        return load_checkpoint(tmp_path / "model.safetensors")

    return load


def test_the_description_beside(tmp_path: Path, described: Callable[[object], Checkpoint]) -> None:
    (tmp_path / "model_trigger.npz").touch()
    checkpoint = described(
        {
            "model_name": "preactresnet18",
            "num_classes": 5,
            "input_shape": [3, 8, 8],
            "input_range": [-1, 1],
            "mean": [0.1, 0.2, 0.3],
            "std": [1, 1, 2],
            "attack": {"name": "badnet", "target": 2, "unknown": 0},
            "unknown": [],
        }
    )
    assert checkpoint.description is not None
    assert checkpoint.description.attack is not None
    assert checkpoint.description.attack.target == 2
    inputs = checkpoint.description.input_spec()
    assert (inputs.shape, inputs.low, inputs.high) == ((3, 8, 8), -1, 1)
    assert (inputs.mean, inputs.std) == ((0.1, 0.2, 0.3), (1, 1, 2))
    assert checkpoint.trigger_path == tmp_path / "model_trigger.npz"
    assert checkpoint.build()[1] == "preactresnet18"


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, r"model\.json.*input_shape"),
        ([1], r"model\.json is not a description"),
        ({"input_shape": [3, 8]}, r"input_shape"),
        ({"input_shape": [3, 8, 8], "mean": [0.5]}, r"mean and std go together"),
        ({"input_shape": [3, 8, 8], "num_classes": 0}, r"num_classes"),
        ({"input_shape": [3, 8, 8], "attack": {"target": "cat"}}, r"attack\.target"),
    ],
)
def test_wrong_descriptions_are_refused(
    described: Callable[[object], Checkpoint], description: object, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        described(description)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"input_shape": [3, 8, 8], "num_classes": 7}, r"7 classes.*weights have 5"),
        ({"input_shape": [3, 8, 8], "model_name": "vgg19_bn"}, r"features\.0"),
    ],
)
def test_descriptions_that_contradict_the_weights(
    described: Callable[[object], Checkpoint], description: object, message: str
) -> None:
    checkpoint = described(description)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.build()


def test_saving_refuses_weights_that_are_not_finite(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="second"):
        save_safetensors(
            {"first": torch.zeros(2), "second": torch.tensor([0, torch.inf])},
            tmp_path / "model.safetensors",
        )
    assert list(tmp_path.iterdir()) == []


def test_a_saved_file_is_as_readable_as_any_other(tmp_path: Path, weights: Weights) -> None:
    save_safetensors(weights, tmp_path / "model.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_saving_does_not_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors({"a": torch.zeros(1)}, path)
    with pytest.raises(OutputExistsError, match=r"model\.safetensors"):
        save_safetensors({"a": torch.ones(1)}, path)
    assert load_checkpoint(path).state_dict["a"].item() == 0
    save_safetensors({"a": torch.ones(1)}, path, overwrite=True)
    assert load_checkpoint(path).state_dict["a"].item() == 1


def test_saving_takes_shared_and_strided_tensors(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    weights = {"whole": whole, "same": whole, "turned": whole.T, "part": whole[:, 1]}
    save_safetensors(weights, tmp_path / "model.safetensors")
    assert same(load_checkpoint(tmp_path / "model.safetensors"), weights)


@pytest.mark.parametrize(
    ("name", "metadata", "told"),
    [
        ("w", {"epoch": 3}, "'epoch': 3 are not text"),
        ("w", {3: "epoch"}, "are not text"),
        ("__metadata__", None, "'__metadata__'"),
    ],
)
def test_a_head_that_nothing_could_read_is_refused(
    tmp_path: Path, name: str, metadata: Any, told: str
) -> None:
    path = tmp_path / "m.safetensors"
    save_safetensors({"w": torch.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=told):
        save_safetensors({name: torch.ones(2)}, path, metadata=metadata, overwrite=True)
    assert path.read_bytes() == before
