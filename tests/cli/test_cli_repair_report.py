"""``repair --report``: the page and its data, and a repair in which all is chosen blind."""

from __future__ import annotations

import importlib.util
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_helpers import (
    NWC,
    QUICK,
    Outcome,
    files_in,
    write_images,
    write_planted,
    write_suspect,
    write_trigger,
)

import otbr_fast.repair
from otbr_fast.cli.output import StageClock

needs_jinja2 = pytest.mark.skipif(
    importlib.util.find_spec("jinja2") is None, reason="the page needs jinja2"
)


class Elements(HTMLParser):
    """Which elements are open; each that is closed was opened last."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input", "rect", "line", "circle", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.sources: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A planted network, repaired with nothing told but where to measure."""
    pytest.importorskip("jinja2", reason="the page needs jinja2")
    folder = tmp_path_factory.mktemp("blind")
    write_planted(folder)
    outcome = Outcome(
        *("repair", folder / "planted.safetensors", "--out", folder / "o.safetensors"),
        *("--report", folder / "page.html", "--data", write_images(folder), "--limit", "20"),
        *("--trigger", write_trigger(folder), "--device", "cpu", "--json"),
    )
    return folder, outcome.document


def test_json_carries_the_verdict_and_what_was_chosen_from(
    blind: tuple[Path, dict[str, Any]],
) -> None:
    folder, document = blind
    facts = document["repair"]
    assert len(facts["verdict"]["classes"]) == 5
    assert facts["verdict"]["most_suspicious"] == facts["suspect"] == 1
    assert facts["verdict"]["p_value"] < facts["verdict"]["level"]
    pairs = [(one["gamma"], one["lambda"]) for one in facts["candidates"]]
    assert pairs == [(0.05, 0.5), (0.05, 0.75), (0.1, 0.5), (0.1, 0.75)]
    used = facts["config"]["gamma"], facts["config"]["lambda_"]
    assert used == (facts["mitigated"]["gamma"], facts["mitigated"]["lambda"])
    assert used in pairs
    assert facts["input_hash"] != facts["output_hash"]
    assert json.loads((folder / "o.json").read_text())["repair"] == facts
    assert {str(folder / "page.html"), str(folder / "page.json")} <= set(document["written"])


def test_page_and_data_parse_and_agree_with_the_repair(blind: tuple[Path, dict[str, Any]]) -> None:
    folder, document = blind
    facts = document["repair"]
    elements = Elements((folder / "page.html").read_text(encoding="utf-8"))
    assert elements.open == []
    assert {"html", "title", "table", "svg", "img"} <= elements.seen
    assert "script" not in elements.seen
    assert all(source.startswith("data:image/png;base64,") for source in elements.sources)
    report = json.loads((folder / "page.json").read_text())
    assert report["action"] == "mitigated"
    assert report["verdict"]["found"]
    assert [one["index"] for one in report["verdict"]["classes"] if one["suspect"]] == [1]
    assert [one["chosen"] for one in report["choice"]["candidates"]].count(True) == 1
    assert report["provenance"]["hashes"]["weights that went out"] == facts["output_hash"]
    assert report["provenance"]["config"] == facts["config"]
    assert sum(layer["n_pruned"] for layer in report["layers"]) == facts["n_pruned"]


def test_measures_are_those_of_evaluate(blind: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = blind
    report = json.loads((folder / "page.json").read_text())
    assert [stage["name"] for stage in report["stages"]] == ["before", "mitigated"]
    for stage, name in zip(report["stages"], ("planted", "o"), strict=True):
        measured = Outcome(
            *("evaluate", folder / f"{name}.safetensors", "--data", folder / "test.npz"),
            *("--trigger", folder / "suspect_trigger.npz", "--limit", "20", "--json"),
        ).document
        for metric in ("acc", "asr", "ra"):
            assert stage["measured"][metric] == measured[metric]
    assert report["evaluation"] == "20 test images, 16 with the trigger on"


def test_candidates_are_measured_but_not_for_the_choice(
    blind: tuple[Path, dict[str, Any]],
) -> None:
    """They are fused and not yet distilled, so none is the network that goes out."""
    folder, document = blind
    candidates = json.loads((folder / "page.json").read_text())["choice"]["candidates"]
    facts = document["repair"]["candidates"]
    assert len(candidates) == len(facts) == 4
    for shown, one in zip(candidates, facts, strict=True):
        assert shown["n_pruned"] == one["n_pruned"] > 0
        for metric in ("acc", "asr", "ra", "tcr", "der", "hder"):
            assert 0 <= shown["measured"][metric] <= 1
    page = (folder / "page.html").read_text(encoding="utf-8")
    for told in ("the candidates as measured", "ASR", "RA"):
        assert told in page


def test_json_tells_what_was_measured(blind: tuple[Path, dict[str, Any]]) -> None:
    folder, document = blind
    stages = json.loads((folder / "page.json").read_text())["stages"]
    assert list(document["measured"]) == ["before", "after"]
    for stage, metrics in zip(stages, document["measured"].values(), strict=True):
        assert {key: stage["measured"][key] for key in ("acc", "asr", "ra", "tcr")} == {
            key: metrics[key] for key in ("acc", "asr", "ra", "tcr")
        }


def test_timings_tell_each_stage_once(blind: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = blind
    timings = json.loads((folder / "page.json").read_text())["provenance"]["timings"]
    stages = [timing["stage"] for timing in timings]
    assert len(stages) == len(set(stages))
    assert {"probe", "probe (dense)", "renew", "transport", "evaluate", "the rest"} <= set(stages)
    assert all(timing["seconds"] >= 0 for timing in timings)


def test_a_second_repair_does_not_overwrite_the_page(
    blind: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = blind
    monkeypatch.setattr(otbr_fast.repair, "repair", never)
    before = files_in(folder)
    refused = Outcome(
        *("repair", folder / "planted.safetensors", "--out", folder / "other.safetensors"),
        *("--report", folder / "page.html"),
    )
    assert refused.code == 1
    assert "page.html" in refused.err
    assert "--overwrite" in refused.err
    assert files_in(folder) == before


def test_resolved_config_names_the_page_and_the_data(blind: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = blind
    settings = yaml.safe_load((folder / "o.config.yaml").read_text())
    assert settings["report"] == str(folder / "page.html")
    assert settings["data"] == str(folder / "test.npz")
    assert (settings["target"], settings["limit"]) == (1, 20)


def never(*_: object, **__: object) -> None:
    raise AssertionError("the work has started")


@needs_jinja2
def test_the_pages_data_cannot_go_where_the_model_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not under another name for the same file either."""
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    monkeypatch.setattr(otbr_fast.repair, "repair", never)
    monkeypatch.chdir(tmp_path)
    for page in (tmp_path / "o.html", "o.html"):
        outcome = Outcome(
            *("repair", suspect, "--out", tmp_path / "o.safetensors"),
            *("--report", page, "--overwrite"),
        )
        assert outcome.code == 2
        assert "--report" in outcome.err
        assert "another name" in outcome.err
    of_the_suspect = Outcome(
        *("repair", suspect, "--out", tmp_path / "o.safetensors"),
        *("--report", suspect.with_suffix(".html"), "--overwrite"),
    )
    assert of_the_suspect.code == 2
    assert "suspect.json" in of_the_suspect.err
    assert files_in(tmp_path) == before


@needs_jinja2
def test_a_page_that_is_no_html_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otbr_fast.repair, "repair", never)
    out = ("--out", tmp_path / "o.safetensors")
    outcome = Outcome("repair", write_suspect(tmp_path), *out, "--report", tmp_path / "page.pdf")
    assert outcome.code in (1, 2)
    assert "must end in .html" in outcome.err


def test_missing_jinja2_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without_jinja2(name: str, package: str | None = None) -> object:
        return None if name == "jinja2" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_jinja2)
    monkeypatch.setattr(otbr_fast.repair, "repair", never)
    suspect = write_suspect(tmp_path)
    before = files_in(tmp_path)
    out = ("--out", tmp_path / "o.safetensors")
    outcome = Outcome("repair", suspect, *out, "--report", tmp_path / "page.html")
    assert outcome.code == 1
    assert "pip install 'otbr-fast[report]'" in outcome.err
    assert files_in(tmp_path) == before


@needs_jinja2
@pytest.mark.parametrize(
    "more", [("--mode", "paper", "--lr", "0.01", *QUICK), NWC], ids=["paper", "nwc"]
)
def test_a_repair_that_chose_nothing_has_a_page(tmp_path: Path, more: tuple[str, ...]) -> None:
    page = tmp_path / "page.html"
    outcome = Outcome(
        *("repair", write_suspect(tmp_path), "--gamma", "0.1", "--report", page),
        *("--out", tmp_path / "o.safetensors", *more),
    )
    assert outcome.code == 0, outcome.err
    assert f"wrote {page}" in outcome.out
    assert Elements(page.read_text(encoding="utf-8")).open == []
    report = json.loads(page.with_suffix(".json").read_text())
    assert report["choice"] is None
    assert (report["verdict"] is None) == ("paper" in more)
    assert report["evaluation"] == ""


@needs_jinja2
def test_classes_have_their_names_where_these_are_known(tmp_path: Path) -> None:
    suspect, page = write_suspect(tmp_path), tmp_path / "page.html"
    described = json.loads(suspect.with_suffix(".json").read_text())
    call = ("repair", suspect, "--gamma", "0.1", "--out", tmp_path / "o.safetensors", *NWC)

    described["class_names"] = ["cat", "dog", "ship"]
    for told in ("3 class_names for 5 classes", "names 3 (class_names)"):
        suspect.with_suffix(".json").write_text(json.dumps(described))
        refused = Outcome(*call)
        assert refused.code == 1
        assert told in refused.err
        described.pop("num_classes", None)

    described["class_names"] += ["frog", "truck"]
    suspect.with_suffix(".json").write_text(json.dumps(described))
    assert Outcome(*call, "--report", page).code == 0
    assert "4 truck" in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "o.json").read_text())["class_names"][4] == "truck"


@needs_jinja2
def test_a_network_left_alone_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    outcome = Outcome(
        *("repair", write_suspect(tmp_path), "--report", page, "--device", "cpu"),
        *("--out", tmp_path / "o.safetensors"),
    )
    assert outcome.code == 0, outcome.err
    report = json.loads(page.with_suffix(".json").read_text())
    assert report["action"] == "unchanged"
    assert not report["verdict"]["found"]
    assert not any(one["suspect"] for one in report["verdict"]["classes"])
    assert "mitigated" not in [stage["name"] for stage in report["stages"]]
    assert Elements(page.read_text(encoding="utf-8")).open == []


def test_the_clock_adds_up_and_passes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 3.0, 3.5, 7.5, 8.0])
    monkeypatch.setattr("otbr_fast.cli.output.time.perf_counter", lambda: next(ticks))
    passed: list[tuple[str, int, int]] = []
    clock = StageClock(lambda *told: passed.append(told))
    told = [("probe", 1, 2), ("probe", 2, 2), ("fuse", 1, 1), ("probe", 1, 2)]
    for one in told:
        clock(*one)
    assert passed == told
    assert clock.stop() == {"probe": 7.0, "fuse": 0.5, "the rest": 0.5}
