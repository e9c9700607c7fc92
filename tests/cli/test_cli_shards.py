"""Weights in shards and in half precision, through the commands that read and write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_helpers import DESCRIPTION, NWC, Outcome, files_in, small_network, write_suspect

from otbr_fast.io import load_checkpoint, save_safetensors, state_dict_hash
from otbr_fast.models import build_model
from otbr_fast.repair import RepairConfig, repair

Weights = dict[str, torch.Tensor]


def write(folder: Path, weights: Weights, max_shard_bytes: int | None = None) -> Path:
    """Write weights with their description, and return what is to be given to commands."""
    path = folder / "suspect.safetensors"
    save_safetensors(weights, path, max_shard_bytes=max_shard_bytes)
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION))
    return path if max_shard_bytes is None else folder


def converted(dtype: torch.dtype) -> Weights:
    return {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in small_network().state_dict().items()
    }


def repaired(suspect: Path, out: Path, *options: str) -> Outcome:
    return Outcome("repair", suspect, "--gamma", "0.1", "--out", out, *NWC, *options)


def test_shards_are_repaired_into_shards(tmp_path: Path) -> None:
    weights = small_network().state_dict()
    (tmp_path / "many").mkdir()
    (tmp_path / "one").mkdir()
    suspect = write(tmp_path / "many", weights, 4000)
    outs = [tmp_path / name / "fixed.safetensors" for name in ("of_many", "of_one")]
    document = Outcome(
        *("repair", suspect, "--gamma", "0.1", "--out", outs[0], *NWC, "--json")
    ).document
    assert repaired(write(tmp_path / "one", weights), outs[1]).code == 0

    index = outs[0].with_suffix(".safetensors.index.json")
    found = load_checkpoint(index)
    assert len(found.files) == len(load_checkpoint(suspect).files) > 3
    assert found.description is not None
    assert not outs[0].exists()
    assert state_dict_hash(found.state_dict) == state_dict_hash(load_checkpoint(outs[1]).state_dict)
    beside = [outs[0].with_suffix(suffix) for suffix in (".json", ".config.yaml")]
    assert document["written"] == [str(path) for path in (*found.files, *beside)]
    assert document["repair"]["source_sha256"] == load_checkpoint(suspect).sha256


def test_shards_where_they_are_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "new" / "fixed.safetensors"
    suspect = write_suspect(tmp_path)
    assert repaired(suspect, out, "--max-shard-size", "0.004MB").code == 0
    assert len(load_checkpoint(out.parent).files) > 3
    again = repaired(suspect, out)
    assert again.code == 1
    assert "fixed.safetensors.index.json" in again.err
    assert "would be overwritten" in again.err
    assert repaired(suspect, out, "--overwrite").code == 0
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "fixed.config.yaml",
        "fixed.json",
        "fixed.safetensors",
    ]


@pytest.mark.parametrize("size", ["2", "2 TB", "GB", "-1GB", "0KB", "1e3MB"])
def test_sizes_that_are_none(tmp_path: Path, size: str) -> None:
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    outcome = repaired(suspect, tmp_path / "o.safetensors", f"--max-shard-size={size}")
    assert outcome.code == 2
    assert "500MB or 2GB" in outcome.err
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_written_back_in_their_type(tmp_path: Path, dtype: torch.dtype) -> None:
    """They are computed in float32: what is written is that, rounded once."""
    weights = converted(dtype)
    out = tmp_path / "fixed.safetensors"
    document = Outcome(
        *("repair", write(tmp_path, weights), "--gamma", "0.1", "--out", out, *NWC, "--json")
    ).document
    found = load_checkpoint(out)
    types = {name: tensor.dtype for name, tensor in found.state_dict.items()}
    assert types == {name: tensor.dtype for name, tensor in weights.items()}
    assert set(types.values()) == {dtype, torch.int64}
    assert str(dtype).removeprefix("torch.") in found.types()

    inputs = found.description.input_spec() if found.description else pytest.fail("no description")
    settings = {
        name: value for name, value in document["repair"]["config"].items() if value is not None
    }
    wide, _ = build_model(weights)
    assert all(p.dtype == torch.float32 for p in wide.parameters())
    computed = repair(wide, inputs, RepairConfig(**settings)).model.state_dict()
    for name, tensor in found.state_dict.items():
        assert torch.equal(tensor, computed[name].to(tensor.dtype)), name
    # What is told of the result is told of what was written.
    shown = Outcome("inspect", out, "--json").document
    assert shown["weights_sha256"] == document["repair"]["output_hash"]
    assert shown["types"] == found.types()


def test_a_weight_too_large_for_its_type_is_named(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write(tmp_path, converted(torch.float16)))
    model, _ = checkpoint.build()
    with torch.no_grad():
        model.get_parameter("linear.weight")[0, 0] = 1e6
    with pytest.raises(Exception, match=r"'linear\.weight' is too large for torch\.float16"):
        checkpoint.keep_types(model)


def test_inspect_tells_files_and_types(tmp_path: Path) -> None:
    facts = Outcome("inspect", write(tmp_path, converted(torch.bfloat16), 4000), "--json").document
    assert facts["files"] > 3
    assert set(facts["types"]) == {"bfloat16", "int64"}


def test_a_dry_run_only_tells(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    out = tmp_path / "new" / "o.safetensors"
    outcome = Outcome("repair", suspect, "--gamma", "0.1", "--out", out, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "Stage 2 for 1 γ" in outcome.out
    assert "Nothing was changed" in outcome.out
    assert "wrote" not in outcome.out
    one = Outcome("repair", suspect, "--gamma", "0.1", "--lambda", "0.5", "--dry-run", "--json")
    assert one.document["n_results"] == 1
    assert one.document["peak_bytes"] > 2 * one.document["network_bytes"]
    many = Outcome("repair", suspect, "--dry-run", "--json").document
    assert many["n_results"] > 1
    assert many["peak_bytes"] - one.document["peak_bytes"] == one.document["network_bytes"]
    assert files_in(tmp_path) == before
