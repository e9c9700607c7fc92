from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from cli_helpers import ON_CPU, QUICK, Outcome, files_in, write_images, write_suspect, write_trigger

from otbr_fast.repair import PUBLISHED_GAMMAS

GAMMAS = ("--gammas", "0.05,0.1")


def sweep(folder: Path, *more: object) -> Outcome:
    return Outcome("sweep", folder / "suspect.safetensors", *GAMMAS, *ON_CPU, *more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_suspect(tmp_path)
    return tmp_path


@pytest.fixture
def data(folder: Path) -> Path:
    write_trigger(folder)
    return write_images(folder)


def test_without_data_shows_what_was_pruned_and_says_so(folder: Path) -> None:
    outcome = sweep(folder)
    assert outcome.code == 0, outcome.err
    assert "layer4.0.conv1" in outcome.out
    assert "transport cost" in outcome.out
    assert "No evaluation data was given" in outcome.out
    assert "ASR" not in outcome.out


def test_all_gammas_are_shown_and_none_is_picked(folder: Path, data: Path) -> None:
    outcome = sweep(folder, "--data", data)
    assert outcome.code == 0, outcome.err
    for name in ("ACC", "ASR", "RA", "TCR", "DER", "hDER"):
        assert name in outcome.out
    assert [line.split()[:2] for line in outcome.out.splitlines() if "pruned  " in line[:9]] == [
        ["pruned", "0.05"],
        ["pruned", "0.1"],
    ]
    assert "none is picked" in outcome.out


def test_rows_hold_before_then_each_gamma_pruned_and_fused(folder: Path, data: Path) -> None:
    document = sweep(folder, "--data", data, "--lambdas", "0.5,1", "--json").document
    rows = document["rows"]
    assert [(row["stage"], row["gamma"], row["lambda"]) for row in rows] == [
        ("before", None, None),
        ("pruned", 0.05, None),
        ("fused", 0.05, 0.5),
        ("fused", 0.05, 1.0),
        ("pruned", 0.1, None),
        ("fused", 0.1, 0.5),
        ("fused", 0.1, 1.0),
    ]
    assert rows[0]["der"] is rows[0]["hder"] is None
    assert all(0 <= row[name] <= 1 for row in rows[1:] for name in ("acc", "asr", "ra", "der"))
    assert document["evaluation"] == {"n_images": 40, "n_triggered": 32, "target": 1}
    assert [repair["config"]["lambda_"] for repair in document["repairs"]] == [0.5, 1, 0.5, 1]


def test_numbers_are_those_of_repair_and_evaluate(folder: Path, data: Path) -> None:
    rows = sweep(folder, "--data", data, "--json").document["rows"]
    fixed = folder / "fixed.safetensors"
    suspect = folder / "suspect.safetensors"
    assert (
        Outcome("repair", suspect, "--gamma", "0.1", "--lambda", "0.75", "--out", fixed).code == 0
    )
    trigger = ("--trigger", folder / "suspect_trigger.npz")
    for path, row in ((suspect, rows[0]), (fixed, rows[-1])):
        measured = Outcome("evaluate", path, "--data", data, *trigger, "--json").document
        assert {name: row[name] for name in ("acc", "asr", "ra", "tcr")} == {
            name: measured[name] for name in ("acc", "asr", "ra", "tcr")
        }


def test_writes_tables_picture_and_config(folder: Path, data: Path) -> None:
    out = folder / "found"
    outcome = sweep(folder, "--data", data, "--out", out, "--json")
    document = outcome.document
    assert {path.name for path in out.iterdir()} == {
        "sweep.json",
        "sweep.csv",
        "layers.csv",
        "sweep.config.yaml",
        "sweep.png",
    }
    assert json.loads((out / "sweep.json").read_text()) == document
    with (out / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["before", *(2 * ["pruned", "fused", "fused"])]
    assert [row["lambda"] for row in rows[1:4]] == ["", "0.5", "0.75"]
    assert float(rows[-1]["asr"]) == document["rows"][-1]["asr"]
    with (out / "layers.csv").open(newline="") as file:
        layers = list(csv.DictReader(file))
    assert len(layers) == 2 * 8
    assert sum(int(layer["n_pruned"]) for layer in layers if layer["gamma"] == "0.1") == 6
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_resolved_config_repeats_the_sweep(folder: Path, data: Path) -> None:
    out = folder / "found"
    first = sweep(folder, "--data", data, "--out", out, "--json").document
    again = Outcome(
        "sweep", "--config", out / "sweep.config.yaml", "--out", folder / "again", "--json"
    ).document
    assert again["rows"] == first["rows"]
    settings = yaml.safe_load((out / "sweep.config.yaml").read_text())
    assert settings["gammas"] == "0.05,0.1"
    assert settings["data"] == str(data)
    assert settings["trigger"] == str(folder / "suspect_trigger.npz")
    assert settings["target"] == 1


def test_resolved_config_repeats_the_sweep_from_anywhere(
    folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths were relative, trigger and target found beside the model; both are gone by then."""
    monkeypatch.chdir(folder)
    call = ("sweep", "suspect.safetensors", *GAMMAS, *ON_CPU, "--data", data.name, "--out", "found")
    first = Outcome(*call, "--json").document
    moved = folder / "moved"
    moved.mkdir()
    described = json.loads((folder / "suspect.json").read_text())
    del described["attack"]
    (folder / "suspect.json").write_text(json.dumps(described))
    monkeypatch.chdir(moved)
    again = Outcome("sweep", "--config", folder / "found" / "sweep.config.yaml", "--out", "x")
    assert again.code == 0, again.err
    repeated = json.loads((moved / "x" / "sweep.json").read_text())
    assert repeated["evaluation"] == first["evaluation"]
    assert repeated["rows"] == first["rows"]


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    out = folder / "found"
    out.mkdir()
    (out / "layers.csv").write_text("mine")
    before = files_in(folder)
    refused = sweep(folder, "--out", out)
    assert refused.code == 1
    assert "layers.csv" in refused.err
    assert files_in(folder) == before
    assert sweep(folder, "--out", out, "--overwrite").code == 0


def test_the_published_gammas_and_our_lambdas_are_the_default(folder: Path) -> None:
    suspect = write_suspect(folder, width=16)  # wide enough for 1 % to be a neuron
    document = Outcome("sweep", suspect, "--json", *ON_CPU).document
    tried = [(one["config"]["gamma"], one["config"]["lambda_"]) for one in document["repairs"]]
    assert tried == [(gamma, x) for gamma in PUBLISHED_GAMMAS for x in (0.5, 0.75)]


def test_in_paper_mode_lambda_is_the_papers(folder: Path) -> None:
    document = sweep(folder, "--mode", "paper", "--lr", "0.01", *QUICK, "--json").document
    tried = [(one["config"]["gamma"], one["config"]["lambda_"]) for one in document["repairs"]]
    assert tried == [(0.05, 0.5), (0.1, 0.5)]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("--gammas", "0.1,2"), "gamma"),
        (("--lambdas", "0.5,7"), "lambda"),
        (("--gammas", "low"), "--gammas"),
        (("--gammas", "0.1,0.05,0.10"), "0.1 is given more than once"),
        (("--lambdas", "0.5,0.5"), "0.5 is given more than once"),
        (("--limit", "0"), "limit"),
        (("--trigger", "t.npz"), "--data"),
        (("--target", "1"), "--data"),
        (("--limit", "5"), "--data"),
    ],
)
def test_wrong_usage_is_told(folder: Path, wrong: tuple[str, str], told: str) -> None:
    before = files_in(folder)
    outcome = sweep(folder, "--out", folder / "found", *wrong)
    assert outcome.code == 2
    assert told in outcome.err
    assert files_in(folder) == before


def test_a_dry_run_reads_the_channels_too(folder: Path) -> None:
    (folder / "channels.yaml").write_text("spaces: none\n")
    outcome = sweep(folder, "--channels", folder / "channels.yaml", "--dry-run")
    assert outcome.code == 1
    assert "not a description of channels" in outcome.err


def test_a_dry_run_only_tells(folder: Path, data: Path) -> None:
    before = files_in(folder)
    outcome = sweep(folder, "--data", data, "--out", folder / "made", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "Stage 2 for 2 γ" in outcome.out
    assert "Nothing was changed" in outcome.out
    document = sweep(folder, "--dry-run", "--json").document
    assert document["n_results"] == 4
    assert document["seconds"] > 0
    assert files_in(folder) == before
