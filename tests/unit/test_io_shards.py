"""Weights in several safetensors files: what is wrong with them is told, by name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from otbr_fast.errors import CheckpointError, OutputExistsError
from otbr_fast.io import (
    load_checkpoint,
    safetensors_paths,
    save_safetensors,
    save_tensors,
    state_dict_hash,
)
from otbr_fast.models import PreActResNet

Weights = dict[str, torch.Tensor]
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def weights() -> Weights:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(2, 3, generator=generator) for name in ("a.weight", "b.weight", "c")}


@pytest.fixture
def index(tmp_path: Path, weights: Weights) -> Path:
    """Two shards, of which the second holds one tensor, and their index."""
    save_safetensors(weights, tmp_path / "model.safetensors", max_shard_bytes=48)
    return tmp_path / INDEX


def placed(index: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(index.read_text())["weight_map"]
    return found


def test_shards_are_those_of_hugging_face(index: Path, weights: Weights) -> None:
    assert sorted(path.name for path in index.parent.iterdir()) == [FIRST, SECOND, INDEX]
    assert placed(index) == {"a.weight": FIRST, "b.weight": FIRST, "c": SECOND}
    assert json.loads(index.read_text())["metadata"]["total_size"] == 72
    shards = [load_file(index.parent / name) for name in (FIRST, SECOND)]
    assert state_dict_hash(shards[0] | shards[1]) == state_dict_hash(weights)


@pytest.mark.parametrize("given", [INDEX, "."])
def test_an_index_and_a_folder_are_loaded(index: Path, weights: Weights, given: str) -> None:
    (index.parent / "model.json").write_text('{"input_shape": [3, 8, 8]}')
    (index.parent / "model_trigger.npz").touch()
    (index.parent / "config.json").write_text("[]")  # of others
    checkpoint = load_checkpoint(index.parent / given)
    assert list(checkpoint.state_dict) == list(weights)
    assert state_dict_hash(checkpoint.state_dict) == state_dict_hash(weights)
    assert checkpoint.path == index
    assert checkpoint.shard_bytes == 48
    assert checkpoint.trigger_path == index.parent / "model_trigger.npz"
    assert checkpoint.description is not None
    files = b"".join((index.parent / name).read_bytes() for name in (INDEX, FIRST, SECOND))
    assert checkpoint.sha256 == hashlib.sha256(files).hexdigest()


def test_numbers_that_lie_across_boundaries(tmp_path: Path) -> None:
    entries = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [1, 17]},
    }
    head = json.dumps(entries).encode()
    values = torch.arange(4.0)
    data = b"\1" + values.numpy().tobytes()
    for padding in range(4):
        padded = head + b" " * padding
        content = len(padded).to_bytes(8, "little") + padded + data
        (tmp_path / "m.safetensors").write_bytes(content)
        found = load_checkpoint(tmp_path).state_dict["b"]
        assert found.data_ptr() % 4 == 0
        assert torch.equal(found, values)


def test_a_head_that_names_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    entry = '"a":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}'
    head = ("{" + entry.format(0, 4) + "," + entry.format(4, 8) + "}").encode()
    content = len(head).to_bytes(8, "little") + head + bytes(8)
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.safetensors is damaged"):
        load_checkpoint(tmp_path)


def test_a_folder_with_a_single_file(tmp_path: Path, weights: Weights) -> None:
    save_safetensors(weights, tmp_path / "model.safetensors")
    checkpoint = load_checkpoint(tmp_path)
    assert state_dict_hash(checkpoint.state_dict) == state_dict_hash(weights)
    assert checkpoint.shard_bytes is None
    save_safetensors(weights, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"holds model\.safetensors, other\.safetensors"):
        load_checkpoint(tmp_path)


def test_nothing_is_read_that_is_not_asked_for(index: Path, weights: Weights) -> None:
    """What lies where the third tensor is has been cut off: the others can still be had."""
    state = load_checkpoint(index).state_dict
    os.truncate(index.parent / SECOND, 0)
    assert torch.equal(state["a.weight"], weights["a.weight"])
    with pytest.raises(CheckpointError, match=SECOND):
        state["c"]


def test_what_is_written_to_a_tensor_never_reaches_its_file(index: Path, weights: Weights) -> None:
    load_checkpoint(index).state_dict["a.weight"].zero_()
    assert torch.equal(load_checkpoint(index).state_dict["a.weight"], weights["a.weight"])


def rewrite(index: Path, change: Callable[[dict[str, str]], object]) -> None:
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda i: (i.parent / SECOND).unlink(), rf"{SECOND} of the 2 shards.*get all of them"),
        (lambda i: (i.parent / FIRST).write_bytes(b""), rf"{FIRST} is damaged"),
        (lambda i: i.write_text("{"), r"not an index of shards.*undamaged copy"),
        (lambda i: i.write_text("[" * 100_000), r"not an index of shards"),
        (lambda i: i.write_bytes(b"\xff\xfe"), r"not an index of shards"),
        (lambda i: i.write_bytes(b""), r"is empty"),
        (lambda i: i.write_text("[]"), r"no 'weight_map'"),
        (lambda i: i.write_text('{"weight_map": []}'), r"no 'weight_map'"),
        (lambda i: i.write_text('{"weight_map": {}}'), r"no 'weight_map'"),
        (lambda i: i.write_text('{"weight_map": {"c": 3}}'), r"places 'c' in 3"),
        (
            lambda i: i.write_text(f'{{"weight_map": {{"c": "{FIRST}", "c": "{SECOND}"}}}}'),
            r"'c' stands there twice",
        ),
        (
            lambda i: rewrite(i, lambda m: m.update(d=SECOND)),
            rf"'d' is in {SECOND} by the map .* but is in none of the shards",
        ),
        (
            lambda i: rewrite(i, lambda m: m.update({"a.weight": SECOND})),
            rf"'a\.weight' is in {SECOND} by the map .* but is in {FIRST}",
        ),
        (
            lambda i: rewrite(i, lambda m: m.pop("b.weight")),
            r"'b\.weight' is in none of the shards by the map",
        ),
        (
            lambda i: save_file({"c": torch.ones(1), "b.weight": torch.ones(1)}, i.parent / SECOND),
            rf"'b\.weight' is in both .*{FIRST} and .*{SECOND}",
        ),
    ],
)
def test_faults_of_an_index_are_named(
    index: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(index)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(index)


@pytest.mark.parametrize(
    "file",
    ["../{}", "/{}", "sub/{}", "./{}", "..\\{}", "C:{}", "C:\\{}", "..", ".", "", "{}\0", "a.pt"],
)
def test_an_index_leads_nowhere_else(index: Path, file: str) -> None:
    (index.parent / "sub").mkdir()
    rewrite(index, lambda m: m.update(c=file.format(SECOND)))
    with pytest.raises(CheckpointError, match=r"places 'c' in .* same folder"):
        load_checkpoint(index)


def test_a_missing_file_in_shards_is_pointed_to(index: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"in shards: give .*{INDEX}"):
        load_checkpoint(index.parent / "model.safetensors")


def test_saving_shards_does_not_overwrite(index: Path, weights: Weights) -> None:
    path = index.parent / "model.safetensors"
    before = {file.name: file.read_bytes() for file in index.parent.iterdir()}
    for size in (None, 48):
        with pytest.raises(OutputExistsError, match=INDEX):
            save_safetensors(weights, path, max_shard_bytes=size)
    assert {file.name: file.read_bytes() for file in index.parent.iterdir()} == before


@pytest.mark.parametrize("size", [None, 24, 48])
def test_overwriting_leaves_nothing_of_before(index: Path, weights: Weights, size: int) -> None:
    path = index.parent / "model.safetensors"
    (index.parent / "model-best.safetensors").touch()
    changed = {name: tensor + 1 for name, tensor in weights.items()}
    save_safetensors(changed, path, max_shard_bytes=size, overwrite=True)
    written = safetensors_paths(changed, path, size)
    kept = index.parent / "model-best.safetensors"
    assert set(index.parent.iterdir()) == {kept, *written}
    assert state_dict_hash(load_checkpoint(written[0]).state_dict) == state_dict_hash(changed)


def test_a_failure_leaves_what_was_there(index: Path, weights: Weights) -> None:
    before = {file.name: file.read_bytes() for file in index.parent.iterdir()}
    broken = {**weights, "c": weights["c"] / 0}
    with pytest.raises(CheckpointError, match="infinite values in c"):
        save_tensors(
            broken.items(),
            weights,
            index.parent / "model.safetensors",
            max_shard_bytes=24,
            overwrite=True,
        )
    assert {file.name: file.read_bytes() for file in index.parent.iterdir()} == before


def test_types_that_safetensors_lack_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'z' is of type torch\.complex64"):
        save_safetensors({"z": torch.zeros(1, dtype=torch.complex64)}, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrap",
    [
        "module.{}",
        "_orig_mod.{}",
        "module._orig_mod.{}",
        "_orig_mod.module.{}",
        "_orig_mod.module._orig_mod.{}",
    ],
)
def test_prefixes_of_shards_are_taken_off(
    tmp_path: Path, tiny_resnet: PreActResNet, wrap: str
) -> None:
    plain = tiny_resnet.state_dict()
    wrapped = {wrap.format(name): tensor for name, tensor in plain.items()}
    save_safetensors(wrapped, tmp_path / "model.safetensors", max_shard_bytes=2000)
    checkpoint = load_checkpoint(tmp_path)
    assert len(checkpoint.files) > 2
    assert state_dict_hash(checkpoint.state_dict) == state_dict_hash(plain)
    model, _ = checkpoint.build()
    assert state_dict_hash(model.state_dict()) == state_dict_hash(plain)


def test_prefixes_within_a_network_are_taken_off(tmp_path: Path, tiny_resnet: PreActResNet) -> None:
    """Stages that were compiled or made parallel alone, as their modules' own names tell."""
    wrapped = PreActResNet((1, 1, 1, 1), (4,) * 5, in_channels=3, num_classes=5)
    plain = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
    wrapped.layer1 = torch.nn.DataParallel(wrapped.get_submodule("layer1"))
    block = wrapped.get_submodule("layer2.0")
    compiled: Any = torch.compile(block.get_submodule("conv1"))
    block.conv1 = compiled
    assert "layer2.0.conv1._orig_mod.weight" in wrapped.state_dict()
    save_safetensors(wrapped.state_dict(), tmp_path / "model.safetensors")
    found = load_checkpoint(tmp_path / "model.safetensors").state_dict
    assert state_dict_hash(found) == state_dict_hash(plain)


@pytest.mark.parametrize(
    "names", [("module.a", "b"), ("module.a", "_orig_mod.a"), ("a.module", "a"), ("module",)]
)
def test_what_is_not_a_wrapper_stays(tmp_path: Path, names: tuple[str, ...]) -> None:
    save_safetensors({name: torch.zeros(1) for name in names}, tmp_path / "m.safetensors")
    assert set(load_checkpoint(tmp_path / "m.safetensors").state_dict) == set(names)


@pytest.mark.parametrize("size", [0, -5])
def test_files_without_room_are_refused(tmp_path: Path, weights: Weights, size: int) -> None:
    with pytest.raises(ValueError, match=f"max_shard_bytes={size}"):
        save_safetensors(weights, tmp_path / "model.safetensors", max_shard_bytes=size)
    assert not list(tmp_path.iterdir())
