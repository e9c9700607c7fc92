from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_helpers import DESCRIPTION, Outcome, files_in, small_network

from otbr_fast.channels import channel_graph, permuted
from otbr_fast.io import load_checkpoint, save_safetensors, state_dict_hash
from otbr_fast.repair import fuse_networks

Weights = dict[str, torch.Tensor]


@pytest.fixture
def target() -> Weights:
    return small_network().state_dict()


@pytest.fixture
def shuffled(target: Weights) -> Weights:
    """The same network with its channels in other orders."""
    generator = torch.Generator().manual_seed(0)
    found = dict(target)
    for space in channel_graph(small_network(), [torch.zeros(1, 3, 8, 8)]).spaces:
        found = permuted(found, space, torch.randperm(space.size, generator=generator))
    return found


def write(path: Path, weights: Weights, max_shard_bytes: int | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    save_safetensors(weights, path, max_shard_bytes=max_shard_bytes)
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION))
    return path


def test_fuses_file_to_file(tmp_path: Path, target: Weights, shuffled: Weights) -> None:
    write(tmp_path / "a" / "m.safetensors", shuffled, 3000)
    write(tmp_path / "b" / "m.safetensors", target, 5000)
    out = tmp_path / "c" / "fused.safetensors"
    document = Outcome(
        *("fuse", tmp_path / "a", tmp_path / "b", "--out", out, "--lambda", "0.7", "--json")
    ).document
    found = load_checkpoint(out.parent)
    assert len(found.files) == len(load_checkpoint(tmp_path / "b").files) > 3
    for name, tensor in target.items():
        torch.testing.assert_close(found.state_dict[name], tensor, rtol=1e-5, atol=1e-6)
    graph = channel_graph(small_network(), [torch.zeros(1, 3, 8, 8)])
    in_memory = fuse_networks(shuffled, target, graph, 0.7)
    assert state_dict_hash(found.state_dict) == state_dict_hash(in_memory)
    assert found.build()[1] == "preactresnet"
    assert document["fusion"]["source_sha256"] == load_checkpoint(tmp_path / "a").sha256
    assert len(document["fusion"]["spaces"]) == len(graph.spaces)
    beside = [out.with_suffix(suffix) for suffix in (".json", ".config.yaml")]
    assert document["written"] == [str(path) for path in (*found.files, *beside)]
    assert all(path.is_file() for path in beside)


def test_the_target_tells_the_types(tmp_path: Path, target: Weights, shuffled: Weights) -> None:
    source = write(tmp_path / "a.safetensors", shuffled)
    half = {n: t.bfloat16() if t.is_floating_point() else t for n, t in target.items()}
    out = tmp_path / "fused.safetensors"
    outcome = Outcome("fuse", source, write(tmp_path / "b.safetensors", half), "--out", out)
    assert outcome.code == 0, outcome.err
    assert "Matched" in outcome.out
    found = load_checkpoint(out).state_dict
    assert all(found[name].dtype == tensor.dtype for name, tensor in half.items())
    for name, tensor in half.items():
        torch.testing.assert_close(found[name], tensor)


def test_a_network_may_be_replaced_by_its_fusion(tmp_path: Path, target: Weights) -> None:
    path = write(tmp_path / "m.safetensors", target)
    before = load_checkpoint(path).sha256
    refused = Outcome("fuse", path, path, "--out", path)
    assert refused.code == 1
    assert "would be overwritten" in refused.err
    document = Outcome("fuse", path, path, "--out", path, "--overwrite", "--json").document
    assert document["fusion"]["target_sha256"] == before
    for name, tensor in target.items():
        torch.testing.assert_close(load_checkpoint(path).state_dict[name], tensor)


def test_networks_that_do_not_fit_are_refused(tmp_path: Path, target: Weights) -> None:
    wide = write(tmp_path / "wide.safetensors", small_network(12).state_dict())
    path = write(tmp_path / "m.safetensors", target)
    before = files_in(tmp_path)
    out = tmp_path / "o.safetensors"
    outcome = Outcome("fuse", wide, path, "--out", out)
    assert outcome.code == 1
    assert "wide.safetensors: the weights do not fit" in outcome.err
    for wrong in (
        ("--lambda", "1.5"),
        ("--out", "o.pt"),
        ("--max-shard-size", "2"),
        ("--max-shard-size", "9" * 400 + "MB"),
        ("--input-shape", f"3,{10**30},8"),
    ):
        assert Outcome("fuse", path, path, "--out", out, *wrong).code == 2
    for file in tmp_path.glob("*.json"):
        file.unlink()
    bare = Outcome("fuse", path, path, "--out", out)
    assert bare.code == 2
    assert "--input-shape" in bare.err
    assert not out.exists()
    assert {name: before[name] for name in files_in(tmp_path)} == files_in(tmp_path)
