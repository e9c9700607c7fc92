from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from cli_helpers import NWC, Outcome, files_in, write_suspect
from typer.testing import CliRunner

from otbr_fast.cli import app
from otbr_fast.repair import RepairConfig


def write_config(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def repair(folder: Path, config: Path, *more: str) -> Outcome:
    out = folder / "o.safetensors"
    return Outcome(
        "repair", folder / "suspect.safetensors", "--out", out, "--config", config, *more
    )


def settings_used(folder: Path) -> dict[str, object]:
    used: dict[str, object] = yaml.safe_load((folder / "o.config.yaml").read_text())
    return used


def test_settings_come_from_the_file_and_flags_win(tmp_path: Path) -> None:
    write_suspect(tmp_path)
    config = write_config(
        tmp_path, "gamma: 0.05\nlambda: 0.3\nsteps: 2\nbatch-size: 8\nseed: 5\nstd: [1, 2, 0.5]\n"
    )
    outcome = repair(tmp_path, config, "--gamma", "0.1", "--ranking", "nwc", "--distil-steps", "0")
    assert outcome.code == 0, outcome.err
    used = settings_used(tmp_path)
    assert (used["gamma"], used["lambda"], used["steps"], used["seed"]) == (0.1, 0.3, 2, 5)
    assert used["std"] == "1,2,0.5"


def test_resolved_config_does_not_carry_the_leave_to_overwrite(tmp_path: Path) -> None:
    write_suspect(tmp_path)
    config = write_config(tmp_path, "gamma: 0.1\noverwrite: true\njson: true\n")
    assert repair(tmp_path, config, *NWC).document["repair"]["n_pruned"] == 6
    assert settings_used(tmp_path).keys().isdisjoint({"overwrite", "json", "config"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gama: 0.1", "unknown key 'gama'; did you mean 'gamma'?"),
        ("gamma: 0.1\nn_threads: 2", "unknown key 'n_threads'; did you mean 'threads'?"),
        ("gamma: 0.1\nlambda_: 0.2", "did you mean 'lambda'?"),
        ("gamma: 0.1\nconfig: other.yaml", "unknown key 'config'"),
        ("gamma: 0.1\n1: 2", "unknown key '1'"),
        ("gamma: 0.1\nseed: 2\ngamma: 0.2", "'gamma' is there twice"),
        ("- gamma", "lines of the form"),
        ("gamma: [0.1", "cannot be read"),
        ("gamma: high", "gamma"),
        ("gamma: 0.1\nsteps: 0", "steps"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    write_suspect(tmp_path)
    config = write_config(tmp_path, text)
    before = files_in(tmp_path)
    outcome = repair(tmp_path, config)
    assert outcome.code == 2
    assert told in outcome.err
    assert files_in(tmp_path) == before


def test_config_is_never_run_as_code(tmp_path: Path) -> None:
    write_suspect(tmp_path)
    marker = tmp_path / "ran"
    config = write_config(tmp_path, f"gamma: !!python/object/apply:os.mkdir ['{marker}']")
    assert repair(tmp_path, config).code == 2
    assert not marker.exists()


def test_absent_config_is_wrong_usage(tmp_path: Path) -> None:
    write_suspect(tmp_path)
    assert repair(tmp_path, tmp_path / "none.yaml").code == 2


@pytest.mark.parametrize("command", ["repair", "sweep"])
def test_help_tells_the_true_defaults(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "250"}).stdout
    lines = {m[1]: m[0] for m in re.finditer(r"--([a-z-]+) .*", shown)}
    shared = ("mode", "ranking", "steps", "lr", "momentum", "batch-size", "seed")
    for option in (*shared, "distil-steps") if command == "repair" else shared:
        default = RepairConfig.model_fields[option.replace("-", "_")].default
        assert f"[default: ({default})]" in lines[option]
