from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import (
    DESCRIPTION,
    Outcome,
    files_in,
    small_network,
    write_images,
    write_suspect,
    write_trigger,
)

from otbr_fast.io import read_channels, state_dict_hash


def test_trigger_and_target_are_found_beside_the_model(tmp_path: Path) -> None:
    suspect, data = write_suspect(tmp_path), write_images(tmp_path)
    write_trigger(tmp_path)
    document = Outcome("evaluate", suspect, "--data", data, "--json").document
    assert document["evaluation"] == {"n_images": 40, "n_triggered": 32, "target": 1}
    assert all(0 <= document[name] <= 1 for name in ("acc", "asr", "ra", "tcr"))


def test_without_a_trigger_the_attack_is_not_measured(tmp_path: Path) -> None:
    suspect, data = write_suspect(tmp_path), write_images(tmp_path)
    call = ("evaluate", suspect, "--data", data, "--limit", "10")
    document = Outcome(*call, "--json").document
    assert document["evaluation"]["n_images"] == 10
    assert document["asr"] is document["ra"] is None
    assert document["acc"] is not None
    shown = Outcome(*call).out
    assert "ASR       - %" in shown


def test_a_trigger_needs_its_target(tmp_path: Path) -> None:
    suspect, data = write_suspect(tmp_path), write_images(tmp_path)
    trigger = write_trigger(tmp_path, "other.npz")
    described = {key: value for key, value in DESCRIPTION.items() if key != "attack"}
    suspect.with_suffix(".json").write_text(json.dumps(described))
    call = ("evaluate", suspect, "--data", data, "--trigger", trigger)
    unknown = Outcome(*call)
    assert unknown.code == 2
    assert "--target" in unknown.err
    assert Outcome(*call, "--target", "2").code == 0


@pytest.mark.parametrize(
    ("target", "code", "told"),
    [("-1", 2, "--target"), ("5", 1, "target class 5"), ("99", 1, "target class 99")],
)
def test_a_target_that_the_model_does_not_know_is_refused(
    tmp_path: Path, target: str, code: int, told: str
) -> None:
    suspect, data = write_suspect(tmp_path), write_images(tmp_path)
    write_trigger(tmp_path)
    outcome = Outcome("evaluate", suspect, "--data", data, f"--target={target}")
    assert outcome.code == code
    assert told in outcome.err
    assert "ASR" not in outcome.out


def test_data_is_needed(tmp_path: Path) -> None:
    outcome = Outcome("evaluate", write_suspect(tmp_path))
    assert outcome.code == 2
    assert "--data" in outcome.err


@pytest.mark.parametrize("shape", [(4, 8, 8, 1), (4, 0, 8, 3)])
def test_images_that_do_not_fit_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    suspect, data = write_suspect(tmp_path), tmp_path / "test.npz"
    np.savez(data, images=np.zeros(shape, dtype=np.uint8), labels=np.arange(4))
    before = files_in(tmp_path)
    outcome = Outcome("evaluate", suspect, "--data", data)
    assert outcome.code == 1
    assert outcome.err.startswith("otbr-fast: error: ")
    assert files_in(tmp_path) == before


def test_record_brings_its_poisoned_images(shared: Path) -> None:
    record = shared / "record" / "cifar10_preactresnet18_badnet_0_1"
    document = Outcome("evaluate", record, "--json").document
    assert document["evaluation"] == {"n_images": 0, "n_triggered": 1000, "target": 0}
    assert document["acc"] is None
    assert document["asr"] > 0.95


def test_inspect_tells_what_a_repair_would_work_on(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    facts = Outcome("inspect", suspect, "--json").document
    assert facts["model_name"] == "preactresnet"
    assert facts["neurons"] == 64
    assert facts["weights_sha256"] == state_dict_hash(small_network().state_dict())
    assert [layer["name"] for layer in facts["layers"]][:2] == ["conv1", "layer1.0.conv1"]
    assert facts["layers"][1]["reads"] == "conv1"
    assert facts["shortcuts"] == [f"layer{i}.0.shortcut.0" for i in (2, 3, 4)]
    shown = Outcome("inspect", suspect).out
    assert "layer4.0.shortcut.0" in shown
    assert facts["weights_sha256"] in shown


def test_inspect_tells_the_channels_and_writes_them(tmp_path: Path) -> None:
    suspect, path = write_suspect(tmp_path), tmp_path / "channels.yaml"
    facts = Outcome("inspect", suspect, "--yaml", path, "--json").document
    graph = read_channels(path)
    assert [space["name"] for space in facts["spaces"]] == [space.name for space in graph.spaces]
    assert facts["spaces"][0]["kind"] == "stream"
    assert "layer1.0.conv2.weight[0]" in facts["spaces"][0]["writers"]
    assert facts["fixed"][0] == {"tensor": "conv1.weight", "dim": 1, "why": "the network's input"}
    assert Outcome("inspect", suspect, "--yaml", path).code == 1
    shown = Outcome("inspect", suspect, "--yaml", path, "--overwrite").out
    assert "layer1.0.bn1.running_var[0]" in shown
    bare = write_suspect(tmp_path / "bare", described=False)
    refused = Outcome("inspect", bare, "--yaml", tmp_path / "other.yaml")
    assert refused.code == 2
    assert "--input-shape" in refused.err


def test_inspect_needs_no_input_shape(tmp_path: Path) -> None:
    described = Outcome("inspect", write_suspect(tmp_path), "--json").document
    bare = write_suspect(tmp_path / "bare", described=False)
    facts = Outcome("inspect", bare, "--arch", "preactresnet", "--json").document
    assert facts.keys() == described.keys()
    assert facts["input_shape"] is facts["mean"] is None
    assert (facts["model_name"], facts["num_classes"]) == ("preactresnet", 5)
    assert facts["layers"] == described["layers"]
    assert "input shape      -" in Outcome("inspect", bare).out
    partial = Outcome("inspect", bare, "--mean", "0,0,0", "--std", "1,1,1")
    assert partial.code == 2
    assert "--input-shape" in partial.err
