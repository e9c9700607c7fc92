"""The measured accuracy and attack success of real networks, again on part of the test set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from otbr_fast.evaluate import EvaluationSet, LabeledImages, evaluate, load_images, load_trigger
from otbr_fast.io import load_checkpoint, load_record, state_dict_hash

N_IMAGES = 1000
# Three standard deviations of a rate near 0.85 over so many images.
TOLERANCE = 0.035


@pytest.fixture(scope="module")
def images(shared: Path) -> LabeledImages:
    path = shared / "data" / "cifar10_test.npz"
    if not path.is_file():
        pytest.skip(f"no test images at {path}")
    return load_images(path, limit=N_IMAGES)


def model_path(shared: Path, name: str) -> Path:
    path = shared / "models" / f"cifar10_preactresnet18_w32_{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no network at {path}")
    return path


def record_path(shared: Path) -> Path:
    path = shared / "record" / "cifar10_preactresnet18_badnet_0_1"
    if not path.is_dir():
        pytest.skip(f"no record at {path}")
    return path


@pytest.mark.parametrize("name", ["badnet", "blended"])
def test_an_attacked_network_has_the_measured_acc_and_asr(
    shared: Path, images: LabeledImages, name: str
) -> None:
    path = model_path(shared, name)
    measured = json.loads(path.with_suffix(".json").read_text())
    checkpoint = load_checkpoint(path)
    assert checkpoint.description is not None
    assert checkpoint.description.attack is not None
    assert checkpoint.description.attack.target is not None
    assert checkpoint.trigger_path is not None
    model, _ = checkpoint.build()
    evaluation_set = EvaluationSet.from_trigger(
        images, load_trigger(checkpoint.trigger_path), checkpoint.description.attack.target
    )
    metrics = evaluate(model, evaluation_set, checkpoint.description.input_spec())
    assert metrics.acc == pytest.approx(measured["test_accuracy"], abs=TOLERANCE)
    assert metrics.asr == pytest.approx(measured["attack_success_rate"], abs=TOLERANCE)
    assert metrics.tcr is not None
    assert metrics.tcr > 0.5


def test_a_clean_network_has_the_measured_acc(shared: Path, images: LabeledImages) -> None:
    path = model_path(shared, "clean")
    measured = json.loads(path.with_suffix(".json").read_text())
    checkpoint = load_checkpoint(path)
    assert checkpoint.description is not None
    assert checkpoint.description.attack is None
    assert checkpoint.trigger_path is None
    model, name = checkpoint.build()
    assert name == "preactresnet18"
    metrics = evaluate(model, EvaluationSet(images), checkpoint.description.input_spec())
    assert metrics.acc == pytest.approx(measured["test_accuracy"], abs=TOLERANCE)
    assert metrics.asr is None


def test_a_record_of_backdoorbench_shows_its_attack(shared: Path) -> None:
    checkpoint = load_checkpoint(record_path(shared))
    assert checkpoint.record is not None
    assert checkpoint.description is not None
    assert len(checkpoint.record.poisoned) == 1000
    evaluation_set = EvaluationSet.from_record(checkpoint.record)
    model, name = checkpoint.build()
    metrics = evaluate(model, evaluation_set, checkpoint.description.input_spec())
    assert name == "preactresnet18"
    assert metrics.asr is not None
    assert metrics.asr > 0.99
    assert metrics.acc is None


def test_the_record_holds_the_badnet_network(shared: Path) -> None:
    record = load_record(record_path(shared))
    checkpoint = load_checkpoint(model_path(shared, "badnet"))
    assert state_dict_hash(record.state_dict) == state_dict_hash(checkpoint.state_dict)
    assert record.target == 0
    assert {tensor.device for tensor in record.state_dict.values()} == {torch.device("cpu")}
