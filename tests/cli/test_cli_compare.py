from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_helpers import Outcome, files_in, write_images, write_record, write_suspect, write_trigger

from otbr_fast.cli.compare import _chosen
from otbr_fast.evaluate.defences import ChannelLipschitzPruning, all_defences

FILES = {
    "compare.json",
    "compare.md",
    "compare.csv",
    "averages.csv",
    "trials.csv",
    "compare.config.yaml",
    "outcomes",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_suspect(tmp_path)
    write_trigger(tmp_path)
    write_images(tmp_path)
    return tmp_path


def compare(folder: Path, *more: object, methods: str = "clp") -> Outcome:
    data = ("--data", folder / "test.npz", "--out", folder / "out", "--device", "cpu")
    return Outcome("compare", folder / "suspect.safetensors", *data, "--methods", methods, *more)


def training_images(folder: Path) -> Path:
    path = folder / "train.npz"
    images = np.random.default_rng(1).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(100, dtype=np.int64) % 5)
    return path


def test_all_methods_in_one_table(folder: Path) -> None:
    write_suspect(folder, width=12)  # wide enough for 1 % to be a neuron
    every = "paper,nwc-pruning,ours,ours-hindsight,clp,clp-published,fine-tuning"
    train = ("--train-data", training_images(folder))
    document = compare(folder, *train, "--json", methods=every).document
    assert [(line["method"], line["choice"]) for line in document["lines"]] == [
        ("before", "before"),
        *((name, f"hindsight, {by}") for name in every.split(",")[:2] for by in ("hDER", "DER")),
        ("ours", "fixed"),
        *(("ours-hindsight", f"hindsight, {by}") for by in ("hDER", "DER")),
        *(
            (name, choice)
            for name in ("clp", "clp-published")
            for choice in ("fixed", "hindsight, hDER", "hindsight, DER")
        ),
        ("fine-tuning", "fixed, uses data"),
        ("fine-tuning", "hindsight, hDER"),
        ("fine-tuning", "hindsight, DER"),
    ]
    assert document["complete"]
    assert len(document["trials"]) == 1 + 7 + 7 + 1 + 4 * 2 + 8 + 8 + 2
    assert {mean["method"] for mean in document["averages"]} == {"before", *every.split(",")}
    for line in document["lines"]:
        assert len(line["recalls"]) == 5
        assert line["tcr"] == line["recalls"][1]
    assert {path.name for path in (folder / "out").iterdir()} == FILES
    assert not any(trial["note"] for trial in document["trials"])


def test_ablations_are_compared_only_when_asked_for(folder: Path) -> None:
    document = compare(folder, "--json", methods="without-refinement").document
    assert {line["method"] for line in document["lines"]} == {"before", "without-refinement"}
    assert len(document["trials"]) == 2
    known = [method for defence in all_defences() for method in defence.methods]
    assert _chosen(None, known, has_training_data=True) == (
        *("paper", "nwc-pruning", "ours", "ours-hindsight", "clp", "clp-published", "fine-tuning"),
    )
    (trial,) = next(one.trials for one in known if one.name == "without-refinement")
    assert (trial.settings["recalibrate"], trial.settings["distil_steps"]) == (False, 0)
    assert "fine-tuning" not in _chosen(None, known, has_training_data=False)


def test_help_names_all_methods() -> None:
    told = Outcome("compare", "--help").out
    assert all(m.name in told for defence in all_defences() for m in defence.methods)


def test_figures_are_those_of_evaluate(folder: Path) -> None:
    line = compare(folder, "--json").document["lines"][0]
    measured = Outcome(
        "evaluate", folder / "suspect.safetensors", "--data", folder / "test.npz", "--json"
    ).document
    names = ("acc", "asr", "ra", "tcr", "recalls")
    assert {name: line[name] for name in names} == {name: measured[name] for name in names}


def test_the_table_is_shown_and_written(folder: Path) -> None:
    outcome = compare(folder)
    assert outcome.code == 0, outcome.err
    for text in (outcome.out, (folder / "out" / "compare.md").read_text()):
        for told in ("suspect", "hindsight, hDER", "fixed", "TCR", "Mean over 1 network with"):
            assert told in text
    with (folder / "out" / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["before", "clp", "clp", "clp"]


def test_a_second_run_computes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compare(folder, "--json").document

    def never(*arguments: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(ChannelLipschitzPruning, "repaired", never)
    monkeypatch.setattr("otbr_fast.evaluate.comparison.evaluate", never)
    kept = files_in(folder / "out" / "outcomes")
    again = compare(folder, "--json").document
    assert {name: again[name] for name in ("lines", "averages", "trials")} == {
        name: first[name] for name in ("lines", "averages", "trials")
    }
    assert files_in(folder / "out" / "outcomes") == kept
    assert compare(folder, "--limit", "20").code != 0  # other images: that is computed


def test_an_interrupted_run_leaves_tables_and_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = ChannelLipschitzPruning.repaired

    def interrupted(*arguments: object) -> object:
        made = true(*arguments)  # type: ignore[arg-type]
        yield from (next(made) for _ in range(3))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ChannelLipschitzPruning, "repaired", interrupted)
        assert compare(folder).code == 130
    document = json.loads((folder / "out" / "compare.json").read_text())
    assert not document["complete"]
    assert "Not complete yet" in (folder / "out" / "compare.md").read_text()
    assert "only 3 of 8 settings tried yet" in (folder / "out" / "compare.md").read_text()
    kept = files_in(folder / "out" / "outcomes")
    assert len(kept) == 4
    document = compare(folder, "--json").document
    assert document["complete"]
    assert kept.items() <= files_in(folder / "out" / "outcomes").items()


def test_records_and_files_together(folder: Path) -> None:
    record = write_record(folder, targets=(1, 2))
    document = compare(folder, record, "--json").document
    assert [line["network"] for line in document["lines"]] == ["suspect"] * 4 + ["record"] * 4
    assert document["lines"][4]["tcr"] is None
    assert document["lines"][5]["hder"] is not None
    assert document["averages"][0]["n"] == 2


def test_config_repeats_the_comparison_from_anywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_record(folder)
    monkeypatch.chdir(folder)
    first = Outcome(
        "compare", "suspect.safetensors", record.name, "--data", "test.npz", "--out", "out",
        "--methods", "clp", "--limit", "20", "--json",
    ).document  # fmt: skip
    settings = yaml.safe_load((folder / "out" / "compare.config.yaml").read_text())
    assert settings["models"] == [str(folder / "suspect.safetensors"), str(record)]
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    config = folder / "out" / "compare.config.yaml"
    again = Outcome("compare", "--config", config, "--out", folder / "again", "--json").document
    without_times = [
        [{**line, "seconds": 0} for line in document["lines"]] for document in (first, again)
    ]
    assert without_times[0] == without_times[1]


def test_foreign_files_are_not_overwritten(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "compare.md").write_text("mine")
    before = files_in(folder)
    refused = compare(folder)
    assert refused.code == 1
    assert "compare.md" in refused.err
    assert files_in(folder) == before
    assert compare(folder, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("wrong", "code", "told"),
    [
        (("--methods", "clp,magic"), 2, "'magic' should be one of paper, nwc-pruning"),
        (("--methods", "fine-tuning"), 2, "--train-data"),
        (("--limit", "0"), 2, "limit"),
        (("--data", "none.npz"), 1, "none.npz"),
        (("suspect.safetensors",), 1, "two networks are called 'suspect'"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, ...], code: int, told: str
) -> None:
    monkeypatch.chdir(folder)
    before = files_in(folder)
    outcome = compare(folder, *wrong)
    assert outcome.code == code
    assert told in outcome.err
    assert files_in(folder) == before


def test_without_data_or_a_folder_there_is_nothing_to_do(folder: Path) -> None:
    model = folder / "suspect.safetensors"
    no_data = Outcome("compare", model, "--out", folder / "out")
    assert no_data.code == 2
    assert "--data" in no_data.err
    no_folder = Outcome("compare", model, "--data", folder / "test.npz")
    assert no_folder.code == 2
    assert "--out" in no_folder.err


def test_an_undescribed_network_is_told_with_its_name(folder: Path) -> None:
    (folder / "suspect.json").unlink()
    outcome = compare(folder)
    assert outcome.code == 2
    assert "description" in outcome.err


def test_another_comparison_is_not_overwritten_unasked(folder: Path) -> None:
    assert compare(folder).code == 0
    (folder / "elsewhere").mkdir()
    write_suspect(folder / "elsewhere", width=12)
    before = files_in(folder)
    other = ("compare", folder / "elsewhere" / "suspect.safetensors", "--methods", "clp")
    data = ("--data", folder / "test.npz", "--out", folder / "out", "--device", "cpu")
    for refused in (Outcome(*other, *data), compare(folder, "--limit", "10")):
        assert refused.code == 1
        assert "compare.md" in refused.err
        assert files_in(folder) == before
    assert compare(folder, "--threads", "1").code == 0
    assert Outcome(*other, *data, "--overwrite").code == 0


def test_a_seed_that_is_none_is_a_usage_error(folder: Path) -> None:
    assert compare(folder, "--seed", "-1").code == 2
