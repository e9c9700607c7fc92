"""``otbr-fast attack``: from images to a record that the other commands read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_helpers import Outcome, files_in
from PIL import Image

import otbr_fast.evaluate.attacks.training
from otbr_fast.io import load_checkpoint, state_dict_hash

QUICK = ("--width", "0.0625", "--epochs", "2", "--batch-size", "20", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 16 x 16 whose class is the quarter that is bright, as npz and as folders."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for name, n in (("train", 120), ("test", 40)):
        labels = np.arange(n) % 4
        images = random.integers(60, 120, (n, 16, 16, 3)).astype(np.uint8)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            image[4 * label : 4 * label + 4] += 90
            (folder / name / f"c{label}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name / f"c{label}" / f"{i}.png")
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
    return folder


def call(data: Path, name: str, out: Path, *more: object, quick: bool = True) -> Outcome:
    given = ("--data", data / "train.npz", "--test", data / "test.npz", "--out", out)
    return Outcome("attack", name, *given, *(QUICK if quick else ()), *more)


def weights(out: Path) -> str:
    return state_dict_hash(load_checkpoint(out / "model.safetensors").state_dict)


def test_an_attack_is_kept_as_a_record_that_evaluate_reads(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    document = call(data, "badnet", out, "--target", "1", "--json").document
    assert sorted(p.name for p in out.iterdir()) == [
        "attack.config.yaml",
        "attack_result.pt",
        "bd_test_dataset",
        "model.json",
        "model.safetensors",
    ]
    told = document["model"]
    assert told["attack"] == {
        "name": "badnet",
        "target": 1,
        "label_mode": "all2one",
        "poison_ratio": 0.1,
        "trigger": "BadNet(size=3)",
    }
    measured = Outcome("evaluate", out, "--data", data / "test.npz", "--json").document
    assert measured["evaluation"] == {"n_images": 40, "n_triggered": 30, "target": 1}
    for name, key in (("acc", "test_accuracy"), ("asr", "attack_success_rate")):
        assert measured[name] == told[key]

    refused = call(data, "badnet", out)
    assert refused.code == 1
    assert "--overwrite" in refused.err
    config = out / "attack.config.yaml"
    again = Outcome("attack", "--config", config, "--out", tmp_path / "again")
    assert again.code == 0, again.err
    assert weights(tmp_path / "again") == weights(out)


def test_a_broken_off_training_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run = otbr_fast.evaluate.attacks.training._Run
    train_epoch = run.train_epoch

    def interrupted(self: object, *args: object) -> None:
        if self.epochs_done == 1:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        train_epoch(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "train_epoch", interrupted)
    assert call(data, "badnet", out).code == 130
    monkeypatch.undo()
    assert [p.name for p in out.iterdir()] == ["training_state.pt"]
    other = call(data, "badnet", out, "--seed", "1")
    assert other.code == 1
    assert "another training" in other.err
    assert call(data, "badnet", out).code == 0
    assert not (out / "training_state.pt").exists()
    assert call(data, "badnet", tmp_path / "whole").code == 0
    assert weights(out) == weights(tmp_path / "whole")


def test_attacks_branch_from_an_unattacked_network(data: Path, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    assert call(data, "none", base, "--lr-end", "0.04").code == 0
    assert sorted(p.name for p in base.iterdir()) == [
        "attack.config.yaml",
        "model.json",
        "model.safetensors",
    ]
    branched = call(
        *(data, "wanet", out, "--start-from", base / "model.safetensors", "--epochs", "1"),
        *("--label-mode", "all2all", "--strength", "s=1,cross_ratio=0", "--json"),
        quick=False,
    ).document
    assert branched["recipe"]["warmup"] == 0
    assert branched["recipe"]["lr"] == 0.04
    assert branched["model"]["attack"]["target"] is None
    assert branched["model"]["target_class_recall"] is None
    assert "s=1.0, cross_ratio=0.0" in branched["model"]["attack"]["trigger"]
    measured = Outcome("evaluate", out, "--data", data / "test.npz", "--json").document
    assert (measured["evaluation"]["n_triggered"], measured["tcr"]) == (40, None)


def test_folders_of_images_do_as_well(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ("--data", data / "train", "--test", data / "test", "--out", out)
    shaped = ("--input-shape", "1,12,14", "--no-flip", "--dataset", "mnist", "--json")
    told = Outcome("attack", "badnet", *given, *QUICK, *shaped).document["model"]
    assert (told["input_shape"], told["mean"], told["num_classes"]) == ([1, 12, 14], [0.5], 4)
    settings = yaml.safe_load((out / "attack.config.yaml").read_text())
    assert (settings["flip"], settings["dataset"]) == (False, "mnist")
    measured = Outcome("evaluate", out, "--data", data / "test", "--json").document
    assert measured["acc"] == told["test_accuracy"]


@pytest.mark.parametrize(
    ("name", "more", "code", "message"),
    [
        ("badnets", (), 1, "there is no attack 'badnets'"),
        ("badnet", ("--target", "4"), 1, "target=4 .* 0 to 3"),
        ("badnet", ("--poison-ratio", "0"), 1, "poison_ratio=0"),
        ("badnet", ("--poison-ratio", "0.001"), 1, "120 training images is 0"),
        ("badnet", ("--label-mode", "all2all", "--target", "1"), 2, "no single target"),
        ("badnet", ("--label-mode", "some"), 1, "label_mode='some'"),
        ("badnet", ("--strength", "size"), 2, "KEY=NUMBER"),
        ("badnet", ("--strength", "size=inf"), 2, "finite"),
        ("blended", ("--strength", "alpha=0.1,alpha=0.5"), 2, "each key once"),
        ("badnet", ("--seed", str(10**30)), 2, "--seed"),
        ("badnet", ("--width", "nan"), 1, "width of nan"),
        ("none", ("--target", "1"), 2, "without an attack"),
        ("badnet", ("--lr", "-1"), 2, "lr"),
        ("badnet", ("--lr", "1e40"), 2, "lr"),
        ("badnet", ("--arch", "lenet"), 1, "'lenet'"),
        ("badnet", ("--arch", "vgg11_bn"), 1, r"cannot take inputs of shape \(3, 16, 16\)"),
    ],
)
def test_what_is_wrong_is_told_before_the_work(
    data: Path, tmp_path: Path, name: str, more: tuple[str, ...], code: int, message: str
) -> None:
    import re

    outcome = call(data, name, tmp_path / "out", *more)
    assert outcome.code == code, outcome.err
    assert re.search(message, outcome.err), outcome.err
    assert not files_in(tmp_path)


def test_test_images_are_needed(data: Path, tmp_path: Path) -> None:
    outcome = Outcome("attack", "badnet", "--data", data / "train.npz", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "--test" in outcome.err


def test_other_classes_in_the_test_folder_are_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "c0").symlink_to(data / "test" / "c0")
    outcome = Outcome(
        *("attack", "badnet", "--data", data / "train", "--test", tmp_path / "test"),
        *("--out", tmp_path / "out"),
    )
    assert outcome.code == 1
    assert "other subfolders (c1, c2, c3)" in outcome.err
