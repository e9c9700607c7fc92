"""The command as a process of its own: what a shell and a pipe see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cli_helpers import NWC, write_suspect

import otbr_fast


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = "from otbr_fast.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_info_tells_versions() -> None:
    done = run("info", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["otbr_fast"] == otbr_fast.__version__
    shown = run("info")
    assert otbr_fast.__version__ in shown.stdout


def test_help_and_usage_errors() -> None:
    helped = run("--help")
    assert helped.returncode == 0
    for command in ("verdict", "repair", "sweep", "evaluate", "compare", "inspect", "demo", "info"):
        assert command in helped.stdout
    assert run("repare").returncode == 2
    assert run("repair", "--no-such-flag").returncode == 2


def test_help_and_info_do_not_load_torch() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from otbr_fast.cli import app; "
        "calls = (['--help'], ['repair', '--help'], ['info'], ['info', '--json']); "
        "codes = [CliRunner().invoke(app, call).exit_code for call in calls]; "
        "print(codes, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[0, 0, 0, 0] False\n", done.stderr


def test_repair_needs_none_of_the_packages_above_it() -> None:
    program = (
        "import sys, otbr_fast.repair; "
        "print([m for m in ('io', 'evaluate', 'report', 'cli') if f'otbr_fast.{m}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_json_on_stdout_alone(tmp_path: Path) -> None:
    suspect, out = write_suspect(tmp_path), tmp_path / "o.safetensors"
    done = run("repair", suspect, "--gamma", "0.1", "--out", out, "--json", *NWC)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["repair"]["n_pruned"] == 6
    assert done.stderr == ""


def test_error_is_one_block_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a model")
    done = run("inspect", path, "--json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"otbr-fast: error: {path}")
    assert done.stderr.count("\n") == 1
