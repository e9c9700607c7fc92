from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cli_helpers import Outcome, files_in

from otbr_fast.repair import PUBLISHED_GAMMAS

pytest.importorskip("sklearn", reason="the demo's digits come from scikit-learn")
pytest.importorskip("matplotlib", reason="the demo's picture needs matplotlib")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("demo") / "out"
    outcome = Outcome("demo", "--out", folder)
    assert outcome.code == 0, outcome.err
    return folder, outcome


def test_the_network_is_backdoored_and_good_before(demo: tuple[Path, Outcome]) -> None:
    before = json.loads((demo[0] / "numbers.json").read_text())["rows"][0]
    assert before["stage"] == "before"
    assert before["acc"] > 0.95
    assert before["asr"] > 0.95


def test_every_gamma_is_shown_after_pruning_and_after_fusion(demo: tuple[Path, Outcome]) -> None:
    shown = [line.split()[:2] for line in demo[1].out.splitlines()]
    for gamma in PUBLISHED_GAMMAS:
        assert ["pruned", f"{gamma:g}"] in shown
        assert ["fused", f"{gamma:g}"] in shown


def test_words_are_honest(demo: tuple[Path, Outcome]) -> None:
    said = " ".join(demo[1].out.split())
    assert "none is picked" in said
    assert "mitigated" in said
    assert "clean" not in said.lower()


def test_leaves_a_picture_and_files_that_sweep_reads(demo: tuple[Path, Outcome]) -> None:
    folder, _ = demo
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    swept = Outcome(
        *("sweep", folder / "backdoored.safetensors", "--data", folder / "test.npz"),
        *("--gammas", "0.15", "--device", "cpu", "--threads", "1", "--json"),
    ).document
    rows = json.loads((folder / "numbers.json").read_text())["rows"]
    assert swept["rows"] == [row for row in rows if row["gamma"] in (None, 0.15)]


def test_leaves_its_settings(demo: tuple[Path, Outcome]) -> None:
    settings = yaml.safe_load((demo[0] / "demo.config.yaml").read_text())
    assert settings == {"out": str(demo[0]), "seed": 0, "threads": 1}


def test_a_second_demo_does_not_overwrite_the_first(demo: tuple[Path, Outcome]) -> None:
    folder, _ = demo
    before = files_in(folder)
    outcome = Outcome("demo", "--out", folder)
    assert outcome.code == 1
    assert "--overwrite" in outcome.err
    assert files_in(folder) == before
