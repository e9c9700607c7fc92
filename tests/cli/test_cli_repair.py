from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from cli_helpers import NWC, Outcome, files_in, small_network, write_images, write_suspect

import otbr_fast.repair
from otbr_fast.evaluate import Metrics
from otbr_fast.io import load_checkpoint, save_safetensors


def test_writes_model_description_and_config(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    out = tmp_path / "new" / "fixed.safetensors"

    outcome = Outcome("repair", suspect, "--gamma", "0.1", "--out", out, *NWC)

    assert outcome.code == 0, outcome.err
    assert "Mitigated: 6 of 64 neurons" in outcome.out
    assert sorted(p.name for p in out.parent.iterdir()) == [
        "fixed.config.yaml",
        "fixed.json",
        "fixed.safetensors",
    ]
    checkpoint = load_checkpoint(out)
    model, _ = checkpoint.build()
    assert {n: t.shape for n, t in model.state_dict().items()} == {
        n: t.shape for n, t in small_network().state_dict().items()
    }
    described = json.loads(out.with_suffix(".json").read_text())
    assert described["mean"] == [0.5, 0.4, 0.3]
    assert described["repair"]["n_pruned"] == 6
    assert described["repair"]["config"]["gamma"] == 0.1
    assert before.items() <= files_in(tmp_path).items()


def test_what_was_measured_is_shown(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    images = ("--data", write_images(tmp_path), "--limit", "20")
    call = ("repair", suspect, "--gamma", "0.1", "--out", tmp_path / "o.safetensors", *NWC)
    outcome = Outcome(*call, *images)
    assert outcome.code == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    for name, model in (("before", suspect), ("after", tmp_path / "o.safetensors")):
        measured = Outcome("evaluate", model, *images, "--json").document
        assert [f"{100 * measured['acc']:.2f}", "-", "-"] in [
            line[1:4] for line in lines if line[:1] == [name]
        ]
    assert "hDER" not in Outcome(*call, "--overwrite").out


def test_output_never_calls_a_network_clean(tmp_path: Path) -> None:
    outcome = Outcome(
        *("repair", write_suspect(tmp_path), "--gamma", "0.1"),
        *("--out", tmp_path / "o.safetensors", *NWC),
    )
    assert outcome.code == 0
    assert "clean" not in outcome.out.lower()
    assert "no proof that the backdoor is gone" in " ".join(outcome.out.split())


def test_json_is_one_document_and_nothing_else(tmp_path: Path) -> None:
    suspect, out = write_suspect(tmp_path), tmp_path / "o.safetensors"
    outcome = Outcome("repair", suspect, "--gamma", "0.1", "--out", out, "--json", *NWC)
    assert outcome.document["written"] == [
        str(out),
        str(tmp_path / "o.json"),
        str(tmp_path / "o.config.yaml"),
    ]
    assert outcome.err == ""


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    (tmp_path / "o.config.yaml").write_text("mine")
    before = files_in(tmp_path)
    call = ("repair", suspect, "--gamma", "0.1", "--out", tmp_path / "o.safetensors", *NWC)

    refused = Outcome(*call)
    assert refused.code == 1
    assert "o.config.yaml" in refused.err
    assert "--overwrite" in refused.err
    assert files_in(tmp_path) == before

    assert Outcome(*call, "--overwrite").code == 0
    assert (tmp_path / "o.config.yaml").read_text() != "mine"


def test_the_model_itself_is_not_overwritten(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    assert Outcome("repair", suspect, "--gamma", "0.1", "--out", suspect, *NWC).code == 1
    assert files_in(tmp_path) == before


def test_resolved_config_repeats_the_repair(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    first = Outcome(
        *("repair", suspect, "--gamma", "0.1", "--lambda", "0.7", "--seed", "3", *NWC),
        *("--out", tmp_path / "a.safetensors", "--json"),
    )
    again = Outcome(
        *("repair", "--config", tmp_path / "a.config.yaml"),
        *("--out", tmp_path / "b.safetensors", "--json"),
    )
    hashes = [outcome.document["repair"]["output_hash"] for outcome in (first, again)]
    assert hashes[0] == hashes[1]
    settings = yaml.safe_load((tmp_path / "a.config.yaml").read_text())
    assert settings["input-shape"] == "3,8,8"
    assert settings["lambda"] == 0.7
    assert settings["lr"] == 1e-4


def test_seed_decides_the_result(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    hashes = [
        Outcome(
            *("repair", suspect, "--gamma", "0.1", "--seed", seed, "--json", *NWC),
            *("--out", tmp_path / f"{i}.safetensors"),
        ).document["repair"]["output_hash"]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_flags_override_the_description(tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    outcome = Outcome(
        *("repair", write_suspect(tmp_path), "--gamma", "0.1", "--out", out, "--json", *NWC),
        *("--input-shape", "3,16,16", "--input-range", "-1,1", "--mean", "0,0,0"),
    )
    document = outcome.document
    assert document["input_shape"] == [3, 16, 16]
    assert document["input_range"] == [-1, 1]
    assert document["mean"] == [0, 0, 0]
    assert document["std"] == [0.2, 0.3, 0.4]


def test_plain_torch_file_is_described_by_flags(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(small_network().state_dict(), path)
    call = ("repair", path, "--gamma", "0.1", "--out", tmp_path / "o.safetensors", *NWC)

    unknown = Outcome(*call)
    assert unknown.code == 2
    assert "--input-shape" in unknown.err
    assert Outcome(*call, "--input-shape", "3,8,8").code == 0


def test_wrong_number_of_classes_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    outcome = Outcome(
        *("repair", write_suspect(tmp_path), "--gamma", "0.1", "--out", out),
        *("--num-classes", "7"),
    )
    assert outcome.code == 1
    assert "5 classes" in outcome.err
    assert "7" in outcome.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("--gamma", "1.5"), "gamma"),
        (("--gamma", "much"), "--gamma: 'much' should be a number or 'auto'"),
        (("--gamma", "nan"), "gamma"),
        (("--gamma", ""), "--gamma"),
        (("--lambda", "-0.1"), "lambda"),
        (("--lambda", "Auto"), "--lambda: 'Auto' should be a number or 'auto'"),
        (("--ranking", "magic"), "ranking"),
        (("--suspect", "-1"), "--suspect"),
        (("--distil-steps", "-1"), "--distil-steps"),
        (("--trigger", "t.npz"), "--data"),
        (("--target", "1"), "--data"),
        (("--limit", "5"), "--data"),
        (("--mode", "publshed"), "mode"),
        (("--input-shape", "3,8"), "3 finite numbers"),
        (("--input-range", "1,0"), "low must be < high"),
        (("--input-range", "0,inf"), "--input-range"),
        (("--input-shape", "3,8"), "--input-shape"),
        (("--mean", "a,b,c"), "--mean"),
        (("--mean", "nan,0,0"), "--mean"),
        (("--std", "1,inf,1"), "--std"),
        (("--device", "gpu"), "cuda:N"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--out", "model.pt"), ".safetensors"),
        (("--threads", "0"), "threads"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, wrong: tuple[str, str], told: str) -> None:
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    out = tmp_path / "o.safetensors"
    outcome = Outcome("repair", suspect, "--gamma", "0.1", "--out", out, *wrong)
    assert outcome.code == 2
    assert told in outcome.err
    assert files_in(tmp_path) == before


def test_out_is_needed_and_in_paper_mode_gamma(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    out = ("--out", tmp_path / "o.safetensors")
    no_gamma = Outcome("repair", suspect, "--mode", "paper", *out)
    auto = Outcome("repair", suspect, "--mode", "paper", "--gamma", "auto", *out)
    no_out = Outcome("repair", suspect, "--gamma", "0.1")
    assert (no_gamma.code, auto.code, no_out.code) == (2, 2, 2)
    assert "needs a gamma" in no_gamma.err
    assert "needs a gamma" in auto.err
    assert "--out" in no_out.err


def test_interrupt_exits_130_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(otbr_fast.repair, "repair", interrupted)
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    outcome = Outcome("repair", suspect, "--gamma", "0.1", "--out", tmp_path / "o.safetensors")
    assert outcome.code == 130
    assert files_in(tmp_path) == before


def test_layer_pruned_to_death_is_refused_or_warned_of(tmp_path: Path) -> None:
    suspect, out = write_suspect(tmp_path), tmp_path / "o.safetensors"
    call = ("repair", suspect, "--gamma", "0.99", "--out", out, *NWC)

    refused = Outcome(*call)
    assert refused.code == 1
    assert "leaves each layer a neuron" in refused.err
    assert not out.exists()

    warned = Outcome(*call, "--mode", "paper", "--lr", "0.01")
    assert warned.code == 0
    assert warned.err.startswith("otbr-fast: warning: gamma=0.99 prunes all neurons of layer")


def test_auto_leaves_a_network_without_a_sign_alone_and_says_so(tmp_path: Path) -> None:
    suspect, out = write_suspect(tmp_path), tmp_path / "o.safetensors"
    outcome = Outcome("repair", suspect, "--out", out, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.out.split())
    assert "Verdict: no sign found" in said
    assert "The weights were left as they are" in said
    assert "Mitigated" not in said
    assert load_checkpoint(out).state_dict.keys() == load_checkpoint(suspect).state_dict.keys()
    for name, tensor in load_checkpoint(suspect).state_dict.items():
        assert torch.equal(load_checkpoint(out).state_dict[name], tensor), name
    facts = json.loads(out.with_suffix(".json").read_text())["repair"]
    assert facts["input_hash"] == facts["output_hash"]
    assert facts["config"]["gamma"] == "auto"
    assert facts["candidates"] == []
    assert facts["n_pruned"] == 0
    assert yaml.safe_load((tmp_path / "o.config.yaml").read_text())["gamma"] == "auto"


def test_a_named_suspect_is_acted_against_without_a_sign(tmp_path: Path) -> None:
    document = Outcome(
        *("repair", write_suspect(tmp_path), "--suspect", "2", *NWC),
        *("--out", tmp_path / "o.safetensors", "--json"),
    ).document
    facts = document["repair"]
    assert facts["suspect"] == 2
    assert facts["output_hash"] != facts["input_hash"]
    assert {one["gamma"] for one in facts["candidates"]} == {0.05, 0.1}


def test_the_default_ranking_and_distillation_are_used(tmp_path: Path) -> None:
    call = ("repair", write_suspect(tmp_path), "--gamma", "0.1", "--lambda", "1", "--json")
    hashes = set()
    for i, more in enumerate(((), ("--distil-steps", "0"), NWC)):
        document = Outcome(*call, "--out", tmp_path / f"{i}.safetensors", *more).document
        hashes.add(document["repair"]["output_hash"])
    assert len(hashes) == 3


def test_an_unknown_class_cannot_be_the_suspect(tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    outcome = Outcome("repair", write_suspect(tmp_path), "--suspect", "5", "--out", out)
    assert outcome.code == 1
    assert "suspect=5" in outcome.err
    assert not out.exists()


def test_channels_can_be_handed_in(tmp_path: Path) -> None:
    suspect, channels = write_suspect(tmp_path), tmp_path / "channels.yaml"
    assert Outcome("inspect", suspect, "--yaml", channels).code == 0
    call = ("repair", suspect, "--gamma", "0.1", "--json", *NWC)
    own = Outcome(*call, "--out", tmp_path / "own.safetensors").document
    handed = Outcome(*call, "--out", tmp_path / "b.safetensors", "--channels", channels).document
    assert handed["repair"]["output_hash"] == own["repair"]["output_hash"]
    assert str(channels) in (tmp_path / "b.config.yaml").read_text()
    text = channels.read_text()
    channels.write_text(text.replace("layer1.0.bn2.bias", "layer1.0.bn2.bins"))
    refused = Outcome(*call, "--out", tmp_path / "c.safetensors", "--channels", channels)
    assert refused.code == 1
    assert "layer1.0.bn2.bins" in refused.err


def test_what_is_measured_is_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of a narrow type are rounded when they are written."""
    suspect, out = write_suspect(tmp_path), tmp_path / "o.safetensors"
    weights = small_network().state_dict()
    narrow = {n: t.bfloat16() if t.is_floating_point() else t for n, t in weights.items()}
    save_safetensors(narrow, suspect, overwrite=True)
    measured: list[dict[str, torch.Tensor]] = []

    def spy(model: torch.nn.Module, *_: object, **__: object) -> Metrics:
        measured.append({name: t.clone() for name, t in model.state_dict().items()})
        return Metrics()

    monkeypatch.setattr("otbr_fast.evaluate.evaluate", spy)
    images = ("--data", write_images(tmp_path))
    assert Outcome("repair", suspect, "--gamma", "0.2", "--out", out, *images, *NWC).code == 0
    written = load_checkpoint(out).state_dict
    assert len(measured) == 2
    for name, tensor in measured[1].items():
        assert torch.equal(tensor, written[name].to(tensor.dtype)), name


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the work has started")

    monkeypatch.setattr(otbr_fast.repair, "repair", never)
    suspect = write_suspect(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    for out in (tmp_path / "folder.safetensors", suspect / "o.safetensors"):
        refused = Outcome("repair", suspect, "--gamma", "0.1", "--out", out, "--overwrite", *NWC)
        assert refused.code == 1
        assert "folder" in refused.err
