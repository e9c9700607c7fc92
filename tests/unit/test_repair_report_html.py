"""The page: whole, harmless, self-contained, careful in its words, and of bounded size."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_helpers import PROXIES, Page, full_report, image, layer, least_report, verdict

from otbr_fast.errors import OtbrFastError, OutputExistsError
from otbr_fast.report.html_page import render_html, require_jinja2, write_report
from otbr_fast.report.repair_facts import plan_map
from otbr_fast.report.repair_report import (
    Candidate,
    Choice,
    ClassVerdict,
    Example,
    LayerFacts,
    Measured,
    RepairReport,
    Stage,
    Subject,
    Verdict,
)

SECTIONS = {"verdict", "effects", "choice", "neurons", "plan", "images", "repeat", "terms"}
HOSTILE = "</title><script>alert('x')</script><img src=x onerror=alert(1)>\"'&"


def page(report: RepairReport) -> Page:
    return Page(render_html(report))


def test_all_sections_are_there() -> None:
    shown = page(full_report())
    assert shown.anchors == SECTIONS
    links = {value for tag, name, value in shown.attributes if (tag, name) == ("a", "href")}
    assert links == {f"#{anchor}" for anchor in SECTIONS}
    for told in ("Sign of a backdoor found: class 1 dog (p = 0.001).", "γ = 0.1, λ = 1"):
        assert told in shown.text


@pytest.mark.parametrize("is_measured", [True, False])
def test_nothing_is_loaded_and_nothing_runs(is_measured: bool) -> None:
    shown = page(full_report(is_measured=is_measured))
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(shown.tags)
    for _, name, value in shown.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "xlink:href"):
            assert value.startswith(("data:", "#"))
    style = render_html(full_report()).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_have_words_for_who_cannot_see_them() -> None:
    shown = page(full_report())
    count = {tag: shown.tags.count(tag) for tag in ("img", "svg")}
    assert min(count.values()) > 0
    for tag, name in (("img", "alt"), ("svg", "aria-label")):
        told = [value for t, n, value in shown.attributes if (t, n) == (tag, name)]
        assert len(told) == count[tag]
        assert all(told)


def test_hostile_names_are_text() -> None:
    report = full_report()
    subject = report.subject.model_copy(
        update={"name": HOSTILE, "class_names": (HOSTILE,) * 3, "dataset": HOSTILE}
    )
    stages = tuple(stage.model_copy(update={"name": HOSTILE}) for stage in report.stages)
    proxies = tuple(proxy.model_copy(update={"label": HOSTILE}) for proxy in report.proxies)
    provenance = report.provenance.model_copy(
        update={"command": HOSTILE, "config": {HOSTILE: HOSTILE}, "machine": {HOSTILE: HOSTILE}}
    )
    shown = page(
        report.model_copy(
            update={
                "subject": subject,
                "layers": (layer(HOSTILE),),
                "plan": plan_map(HOSTILE, np.eye(4), np.array([True, False, False, False])),
                "stages": stages,
                "proxies": proxies,
                "provenance": provenance,
                "ranking_label": HOSTILE,
            }
        )
    )
    assert "script" not in shown.tags
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]
    assert "<script>alert('x')</script>" in shown.text


def test_sections_vanish_without_their_data() -> None:
    shown = page(least_report())
    assert shown.anchors == set()
    assert "The network was mitigated." in shown.text


@pytest.mark.parametrize(
    ("field", "anchor"),
    [
        ("verdict", "verdict"),
        ("choice", "choice"),
        ("plan", "plan"),
        ("layers", "neurons"),
        ("stages", "effects"),
    ],
)
def test_a_section_vanishes_alone(field: str, anchor: str) -> None:
    empty: Any = () if field in ("layers", "stages") else None
    shown = page(full_report().model_copy(update={field: empty}))
    assert shown.anchors == SECTIONS - {anchor}


def test_without_data_no_figure_that_needs_data_is_named() -> None:
    shown = page(full_report(is_measured=False))
    assert not {"ACC", "ASR", "RA", "TCR", "DER", "hDER"} & set(
        re.findall(r"\w+", " ".join(word for word in shown.words if "stands in" not in word))
    )
    assert "No images were given" in shown.text
    assert "agreement" in shown.text


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("is_measured", [True, False])
def test_never_called_clean(found: bool, is_measured: bool) -> None:
    told = verdict(suspect=1 if found else None)
    shown = page(full_report(is_measured=is_measured).model_copy(update={"verdict": told}))
    assert "clean" not in shown.text.lower()
    assert ("No sign of a backdoor found (smallest p = 0.5)." in shown.text) is not found
    assert ("no proof that there is no backdoor" in shown.text) is not found


def test_that_nothing_can_be_told_is_not_that_there_is_no_sign() -> None:
    told = verdict(suspect=None)
    classes = tuple(
        one.model_copy(update={"p_value": None, "statistic": None}) for one in told.classes
    )
    told = told.model_copy(update={"classes": classes, "p_value": None})
    shown = page(full_report().model_copy(update={"verdict": told}))
    assert "cannot be told" in shown.text
    assert "No sign" not in shown.text


def test_all_that_tells_a_class_from_the_others_is_shown() -> None:
    shown = page(least_report(verdict=verdict(suspect=1)))
    assert "1, suspected 3, 2 0.125 4 6 0.001" in shown.text
    assert "2 4, 3 0.25 5 1 0.5" in shown.text


def test_a_sign_without_a_single_class() -> None:
    shown = page(least_report(verdict=Verdict(found=True, p_value=0.00001)))
    assert "without a single suspected class (p < 0.0001)" in shown.text


def test_unchanged_weights_are_told() -> None:
    shown = page(least_report(action="unchanged", verdict=verdict(suspect=None)))
    assert "The weights were left as they are." in shown.text
    assert "mitigated" not in shown.text


def test_what_is_not_known_is_a_dash() -> None:
    nothing = (None,) * 8
    report = least_report(
        verdict=Verdict(found=False, classes=(ClassVerdict(index=0, statistic=float("nan")),)),
        stages=(
            Stage(name="before", measured=Measured(), proxies={"margin": float("inf")}),
            Stage(name="after", measured=Measured(acc=0.5, recalls=(None, 0.5)), proxies={}),
        ),
        proxies=PROXIES,
        choice=Choice(candidates=(Candidate(), Candidate(gamma=0.1, score=float("nan")))),
        layers=(
            LayerFacts(
                name="a",
                n_neurons=8,
                n_pruned=0,
                ranking=nothing,
                norms={"x": nothing, "y": (1.0, *nothing[1:])},
            ),
        ),
    )
    told = page(report).text
    assert "–" in told
    assert not re.search(r"\b(nan|inf|None)\b", told)


@pytest.mark.parametrize("values", [(0.0,) * 8, (3.0,) * 8, (1e-300, *(1e300,) * 7)])
def test_values_without_a_spread_or_with_a_huge_one(values: tuple[float, ...]) -> None:
    facts = layer().model_copy(update={"ranking": values, "norms": {"x": values, "y": (0.0,) * 8}})
    page(least_report(layers=(facts,)))


def test_a_large_network_makes_no_large_page() -> None:
    n_classes, n_layers, n_neurons = 1000, 100, 4096
    rng = np.random.default_rng(0)
    base = LayerFacts(
        name="a",
        n_neurons=n_neurons,
        n_pruned=500,
        ranking=tuple(rng.lognormal(size=n_neurons)),
        pruned=tuple(rng.permutation(n_neurons)[:500].tolist()),
        norms={name: tuple(rng.lognormal(size=n_neurons)) for name in ("one", "two", "three")},
    )
    mask = np.zeros(n_neurons, dtype=np.bool_)
    mask[list(base.pruned or ())] = True
    example = Example(image=image(96), original=image(95), before=1, after=999)
    recalls = tuple(rng.uniform(size=n_classes))
    report = least_report(
        subject=Subject(name="big", class_names=("a very long name " * 5,) * n_classes),
        verdict=verdict(n_classes, suspect=777),
        stages=tuple(Stage(name=k, measured=Measured(acc=0.5, recalls=recalls)) for k in "ab"),
        choice=Choice(
            candidates=tuple(
                Candidate(gamma=g, lambda_=k, score=1.0)
                for g in np.linspace(0.01, 0.3, 50)
                for k in np.linspace(0, 1, 10)
            )
        ),
        layers=tuple(base.model_copy(update={"name": f"layer{k}"}) for k in range(n_layers)),
        plan=plan_map("layer3", np.eye(n_neurons) / n_neurons, mask),
        surrogates=(example,) * 50,
        triggered=(example,) * 50,
    )
    text = render_html(report)
    assert len(text.encode()) < 1_500_000
    told = Page(text).text
    for left_out in ("25 of 1,000 classes", "40 of 100 layers", "60 of 500 candidates"):
        assert left_out in told
    assert "of 50 images are shown" in told
    assert "6 of 10 curves" in told
    assert "shown in 256 groups" in told
    assert "777" in told


def test_page_and_json_lie_beside_each_other(tmp_path: Path) -> None:
    report = full_report()
    html, data = write_report(report, tmp_path / "new" / "report.html")
    assert (html.name, data.name) == ("report.html", "report.json")
    assert html.read_text(encoding="utf-8") == render_html(report)
    assert RepairReport.from_json(data.read_bytes()) == report
    assert sorted(path.name for path in html.parent.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_nothing_is_overwritten_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExistsError, match=name):
        write_report(least_report(), tmp_path / "report.html")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    write_report(least_report(), tmp_path / "report.html", overwrite=True)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", [".html", ".json"])
def test_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    write = Path.write_bytes

    def write_until_full(path: Path, content: bytes) -> int:
        if path.suffix == suffix:
            write(path, content[:10])
            raise OSError("no space left")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    with pytest.raises(OSError, match="no space"):
        write_report(least_report(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_page_is_html(tmp_path: Path) -> None:
    with pytest.raises(OtbrFastError, match=r"must end in \.html"):
        write_report(least_report(), tmp_path / "report.json")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_jinja2()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OtbrFastError, match=r"pip install 'otbr-fast\[report\]'"):
        require_jinja2()
