from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_helpers import Outcome, files_in, write_suspect

TINY = (
    *("--tasks", "exact"),
    *("--families", "random"),
    *("--sizes", "6,9"),
    *("--solvers", "highs"),
    *("--repeats", "1"),
)
FILES = {"results.json", "table.md", "bench.config.yaml", "time.png", "ratio.png"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one tiny run leaves."""
    out = tmp_path_factory.mktemp("bench") / "out"
    outcome = Outcome("bench", *TINY, "--out", out)
    assert outcome.code == 0, outcome.err
    (out / "shown.txt").write_text(outcome.out)
    return out


def test_a_run_shows_tables_and_leaves_files(found: Path) -> None:
    assert {path.name for path in found.iterdir()} == FILES | {"shown.txt"}
    shown = (found / "shown.txt").read_text()
    for word in (
        "Exact transport",
        "otbr_fast",
        "scipy HiGHS",
        "times ours",
        "float64, 1 thread",
    ):
        assert word in shown
    results = json.loads((found / "results.json").read_text())
    assert results["complete"]
    assert [(cell["family"], cell["n"]) for cell in results["cells"]] == [
        ("random", 6),
        ("random", 9),
    ]
    for cell in results["cells"]:
        assert [(e["solver"], e["agrees"]) for e in cell["entries"]] == [
            ("otbr_fast", True),
            ("highs", True),
        ]
        assert all(len(e["seconds"]) >= 1 for e in cell["entries"])
    assert results["environment"]["cores"] >= 1
    assert results["environment"]["versions"]["simd"]
    assert "| random | 9 |" in (found / "table.md").read_text()


def test_tables_come_from_results_without_a_run(found: Path, tmp_path: Path) -> None:
    again = Outcome("bench", "--from", found / "results.json", "--out", tmp_path)
    assert again.code == 0, again.err
    assert again.out == (found / "shown.txt").read_text()
    for name in ("table.md", "results.json"):  # the folder holds all that belongs together
        assert (tmp_path / name).read_text() == (found / name).read_text()
    in_place = ("bench", "--from", tmp_path / "results.json", "--out", tmp_path, "--overwrite")
    assert Outcome(*in_place).code == 0
    document = Outcome("bench", "--from", found / "results.json", "--json").document
    assert document == json.loads((found / "results.json").read_text())


def test_documents_get_the_tables_once(found: Path, tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("Title\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nrest\n")
    call = ("bench", "--from", found / "results.json", "--update", document)
    assert Outcome(*call).code == 0
    text = document.read_text()
    assert (found / "table.md").read_text() in text
    assert "old" not in text
    assert Outcome(*call).code == 0
    assert document.read_text() == text


def test_a_document_without_markers_is_refused_before_the_run(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("no place\n")
    outcome = Outcome("bench", *TINY, "--out", tmp_path / "out", "--update", document)
    assert outcome.code == 1
    assert "<!-- bench:begin -->" in outcome.err
    assert files_in(tmp_path) == {str(document): b"no place\n"}


def test_nothing_is_overwritten_unasked(found: Path, tmp_path: Path) -> None:
    (tmp_path / "time.png").write_text("mine")
    outcome = Outcome("bench", *TINY, "--out", tmp_path)
    assert outcome.code == 1
    assert "--overwrite" in outcome.err
    assert files_in(tmp_path) == {str(tmp_path / "time.png"): b"mine"}
    call = ("bench", "--from", found / "results.json", "--out", tmp_path)
    assert Outcome(*call).code == 1
    assert files_in(tmp_path) == {str(tmp_path / "time.png"): b"mine"}
    assert Outcome(*call, "--overwrite").code == 0


def test_the_config_repeats_the_run(found: Path) -> None:
    document = Outcome("bench", "--config", found / "bench.config.yaml", "--json", "--overwrite")
    results = json.loads((found / "results.json").read_text())
    assert document.document["plan"] == results["plan"]


def test_peers_that_are_not_there_are_named(tmp_path: Path) -> None:
    outcome = Outcome("bench", *TINY, "--sizes", "4", "--solvers", "pot-old")
    assert outcome.code == 0, outcome.err
    told = "Not there: POT, old (exact: no other POT was given: --pot-old FOLDER)."
    assert told in " ".join(outcome.out.split())


def test_layers_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_suspect(tmp_path)
    monkeypatch.setattr(sys, "argv", ["otbr-fast", "bench", "--checkpoint", str(model)])
    call = ("--tasks", "exact", "--families", "layers", "--solvers", "highs", "--repeats", "1")
    outcome = Outcome("bench", *call, "--checkpoint", model, "--share", "0.25", "--json")
    assert str(tmp_path) not in outcome.out
    (cell,) = outcome.document["cells"]
    assert (cell["family"], cell["n"], cell["m"]) == ("layers", 8, 8)
    assert cell["layer"] == "layer4.0.conv2"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("--preset", "huge"), "quick, readme, full"),
        (("--tasks", "exakt"), "distances, entropic, exact"),
        (("--families", "Q"), "there is no family 'Q'"),
        (("--families", "layers"), "needs a checkpoint"),
        (("--solvers", "cplex"), "lapx"),
        (("--sizes", "1"), "sizes"),
        (("--sizes", "big"), "--sizes"),
        (("--dtypes", "int8"), "dtypes"),
        (("--repeats", "0"), "repeats"),
        (("--threads", "0"), "threads"),
        (("--share", "1"), "share"),
        (("--regs", "-1"), "regs"),
        (("--pot-old", "."), "pip install --no-deps --target"),
        (("--from", "x.json"), "cannot be changed"),
    ],
)
def test_wrong_usage_is_told(wrong: tuple[str, str], told: str, tmp_path: Path) -> None:
    outcome = Outcome("bench", *TINY, "--out", tmp_path / "out", *wrong)
    assert outcome.code == 2
    assert told in outcome.err
    assert not files_in(tmp_path)


def test_results_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    outcome = Outcome("bench", "--from", tmp_path / "x.json")
    assert outcome.code == 1
    assert "holds no results" in outcome.err


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    """A stand-in for the old POT finishes the first problem and never the second."""
    peer, out = tmp_path / "peer", tmp_path / "out"
    (peer / "ot").mkdir(parents=True)
    (peer / "ot" / "__init__.py").write_text(
        "import time\n"
        "def emd2(a, b, M, numItermax):\n"
        "    time.sleep(600 if len(a) > 6 else 0)\n"
        "    return 1.0\n"
    )
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from otbr_fast.cli import main; main()"
    )
    slow = ("--solvers", "pot-old", "--pot-old", peer, "--time-limit", "600")
    call = ("bench", *TINY, *slow, "--out", out)
    running = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, call)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "250"},
    )
    while not (out / "results.json").exists() and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    shown, told = running.communicate(timeout=120)
    assert running.returncode == 130, told
    assert "interrupted" in told
    results = json.loads((out / "results.json").read_text())
    assert not results["complete"]
    assert [cell["n"] for cell in results["cells"]] == [6]
    assert "Interrupted: what was finished is shown." in " ".join(shown.split())
    assert "Interrupted" in (out / "table.md").read_text()
