"""The verdict: what it prints, what a shell script sees, and that nothing is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_helpers import DESCRIPTION, Outcome, files_in, small_network, write_planted, write_suspect

from otbr_fast.io import load_checkpoint, save_safetensors
from otbr_fast.models import InputSpec
from otbr_fast.repair import RepairConfig, gather_verdict

KEYS = {
    *("model", "sha256", "suspect", "classes", "most_suspicious", "p_value", "level", "summary"),
}


def test_a_sign_is_status_3_and_names_the_class(tmp_path: Path) -> None:
    planted = write_planted(tmp_path)
    before = files_in(tmp_path)
    outcome = Outcome("verdict", planted, "--json", "--device", "cpu")
    assert outcome.code == 3
    assert outcome.err == ""
    document = json.loads(outcome.out)
    assert document.keys() == KEYS
    assert document["suspect"] == document["most_suspicious"] == 1
    assert document["p_value"] == min(one["p_value"] for one in document["classes"])
    assert document["p_value"] < document["level"]
    assert document["summary"].startswith("sign found: class 1 ")
    assert document["sha256"] == load_checkpoint(planted).sha256
    assert files_in(tmp_path) == before


def test_no_sign_is_status_0(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    document = Outcome("verdict", suspect, "--json", "--device", "cpu").document
    assert document.keys() == KEYS
    assert document["suspect"] is None
    assert document["p_value"] >= document["level"]
    assert [one["target"] for one in document["classes"]] == [0, 1, 2, 3, 4]
    assert document["summary"].startswith("no sign found")


def test_the_numbers_are_the_librarys_and_the_seed_counts(tmp_path: Path) -> None:
    suspect = write_suspect(tmp_path)
    inputs = InputSpec(shape=(3, 8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    verdict = gather_verdict(small_network(), inputs, 5, RepairConfig(seed=3)).verdict
    told = Outcome("verdict", suspect, "--seed", "3", "--json", "--device", "cpu").document
    assert [tuple(one["losses"]) for one in told["classes"]] == [
        pytest.approx(one.losses, rel=1e-6) for one in verdict.classes
    ]
    assert told["summary"] == str(verdict)
    other = Outcome("verdict", suspect, "--json", "--device", "cpu").document
    assert other["classes"] != told["classes"]


def test_in_words_neither_answer_is_a_proof(tmp_path: Path) -> None:
    for path, code, told in (
        (write_planted(tmp_path), 3, "Verdict: sign found: class 1 "),
        (write_suspect(tmp_path), 0, "Verdict: no sign found"),
    ):
        outcome = Outcome("verdict", path, "--device", "cpu")
        said = " ".join(outcome.out.split())
        assert outcome.code == code
        assert told in said
        assert "no proof, and neither is its absence" in said
        assert "clean" not in said.lower()


def test_a_network_that_knows_one_answer_has_json_too(tmp_path: Path) -> None:
    """All other classes are just as far, so their spread is 0."""
    network = small_network()
    with torch.no_grad():
        network.linear.weight.zero_()
        network.linear.bias.copy_(torch.eye(5)[2] * 1e6)
    path = tmp_path / "constant.safetensors"
    save_safetensors(network.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION))
    outcome = Outcome("verdict", path, "--json", "--device", "cpu")
    assert outcome.code == 3
    document = json.loads(outcome.out)
    assert document["suspect"] == 2
    assert document["classes"][2]["statistic"] is None
    assert Outcome("verdict", path, "--device", "cpu").code == 3


@pytest.mark.parametrize(
    ("wrong", "code", "told"),
    [
        (("--seed", "-1"), 2, "seed"),
        (("--input-shape", "3,8"), 2, "--input-shape"),
        (("--device", "gpu"), 2, "cuda:N"),
        (("--num-classes", "7"), 1, "5 classes"),
        (("--gamma", "0.1"), 2, "--gamma"),
    ],
)
def test_failure_is_never_taken_for_an_answer(
    tmp_path: Path, wrong: tuple[str, str], code: int, told: str
) -> None:
    outcome = Outcome("verdict", write_planted(tmp_path), *wrong)
    assert outcome.code == code
    assert told in outcome.err
    assert outcome.out == ""


def test_help_tells_the_exit_statuses() -> None:
    assert "exit status 3" in Outcome("verdict", "--help").out
    assert "3 (verdict only)" in Outcome("--help").out
    assert "4 (verdict only)" in Outcome("--help").out


def test_too_few_classes_are_status_4(tmp_path: Path) -> None:
    network = small_network()
    network.linear = torch.nn.Linear(network.linear.in_features, 3)
    path = tmp_path / "few.safetensors"
    save_safetensors(network.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps({**DESCRIPTION, "num_classes": 3}))
    outcome = Outcome("verdict", path, "--json", "--device", "cpu")
    assert outcome.code == 4
    document = json.loads(outcome.out)
    assert document["p_value"] is None
    assert "cannot tell" in document["summary"]
