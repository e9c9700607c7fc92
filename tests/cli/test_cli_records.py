"""BackdoorBench's records: their own images, and a defence left in them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from cli_helpers import NWC, ON_CPU, Outcome, files_in, write_record

import otbr_fast.repair


def test_a_defence_is_left_in_the_record_with_its_metrics(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    before = files_in(record)
    outcome = Outcome("repair", record, "--gamma", "0.1", *NWC)
    assert outcome.code == 0, outcome.err
    left = record / "defense" / "otbr"
    assert sorted(path.name for path in left.iterdir()) == [
        "defense_result.config.yaml",
        "defense_result.json",
        "defense_result.pt",
        "otbr_df_summary.csv",
    ]
    assert before.items() <= files_in(record).items()
    with (left / "otbr_df_summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["test_acc"] == ""
    assert 0 <= float(row["test_asr"]) <= 1
    assert 0 <= float(row["test_ra"]) <= 1
    assert row["gamma"] == "0.1"


def test_missing_images_do_not_matter_where_nothing_is_measured(tmp_path: Path) -> None:
    record, out = write_record(tmp_path, missing=(2,)), tmp_path / "o.safetensors"
    outcome = Outcome("repair", record, "--gamma", "0.1", "--out", out, *NWC)
    assert outcome.code == 0, outcome.err
    assert out.is_file()


def test_missing_images_are_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def works(*_: object, **__: object) -> None:
        raise AssertionError("the work has started")

    monkeypatch.setattr(otbr_fast.repair, "repair", works)
    record = write_record(tmp_path, missing=(2,))
    before = files_in(record)
    outcome = Outcome("repair", record, "--gamma", "0.1", *NWC)
    assert outcome.code == 1
    assert "2.png" in outcome.err
    assert files_in(record) == before


def test_a_record_without_any_images_is_repaired_unmeasured(tmp_path: Path) -> None:
    record = write_record(tmp_path, missing=tuple(range(6)))
    outcome = Outcome("repair", record, "--gamma", "0.1", *NWC)
    assert outcome.code == 0, outcome.err
    with (record / "defense" / "otbr" / "otbr_df_summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["test_asr"] == row["test_ra"] == ""


def test_a_limit_holds_for_a_records_images_too(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    document = Outcome("evaluate", record, "--limit", "4", "--json").document
    assert document["evaluation"] == {"n_images": 0, "n_triggered": 4, "target": 1}


def test_a_records_own_target_can_be_told_and_no_other(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    assert Outcome("evaluate", record, "--target", "1").code == 0
    refused = Outcome("evaluate", record, "--target", "3")
    assert refused.code == 2
    assert "--target" in refused.err
    assert "lead to class 1" in refused.err


def test_a_record_of_several_targets_has_no_single_one(tmp_path: Path) -> None:
    record = write_record(tmp_path, targets=(1, 2))
    assert Outcome("evaluate", record).code == 0
    refused = Outcome("evaluate", record, "--target", "1")
    assert refused.code == 2
    assert "several classes" in refused.err


def test_resolved_config_repeats_the_sweep_of_a_record(tmp_path: Path) -> None:
    call = ("sweep", write_record(tmp_path), "--gammas", "0.1", "--limit", "3", *ON_CPU, "--json")
    first = Outcome(*call, "--out", tmp_path / "a").document
    config = tmp_path / "a" / "sweep.config.yaml"
    settings = yaml.safe_load(config.read_text())
    assert (settings["target"], settings["limit"]) == (1, 3)
    again = Outcome("sweep", "--config", config, "--out", tmp_path / "b", "--json").document
    assert again["evaluation"] == first["evaluation"]
    assert again["rows"] == first["rows"]
