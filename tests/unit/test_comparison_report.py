"""The table of a comparison: who is chosen in hindsight, what is blind, and the means."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from comparison_helpers import (
    BACKDOORED,
    LABELS,
    MITIGATED,
    WITHOUT_TARGET,
    Fake,
    contender,
    evaluation_images,
)
from rich.console import Console

from otbr_fast.bench.tables import to_rich
from otbr_fast.errors import RepairError
from otbr_fast.evaluate import EvaluationSet
from otbr_fast.evaluate.comparison import Comparison, Standing
from otbr_fast.evaluate.comparison_inputs import Contender
from otbr_fast.evaluate.comparison_store import Store
from otbr_fast.report.comparison import averages, comparison_lines, trial_rows
from otbr_fast.report.comparison_tables import (
    FILES,
    average_tables,
    comparison_document,
    comparison_texts,
    narrow,
    network_tables,
)

HALF = (*LABELS.tolist(), 0, 0, 0, *LABELS[5:].tolist())
"""Half of the triggered images still reach the attacker's class; nothing is lost."""
FACTS = {
    "environment": {
        "versions": {"otbr_fast": "1", "POT": None},
        "date": "today",
        "cpu": "some",
        "cores": 2,
        "device": "cpu",
        "command": "otbr-fast compare",
    },
    "data": {},
}


def clean_only() -> EvaluationSet:
    return EvaluationSet(evaluation_images().clean)


def standings(
    tmp_path: Path, *defences: Any, nets: list[Contender] | None = None
) -> list[Standing]:
    comparison = Comparison([contender()] if nets is None else nets, defences, Store(tmp_path))
    comparison.run()
    return comparison.standings()


def test_in_hindsight_each_rate_has_its_own_best(tmp_path: Path) -> None:
    """Forgetting the target: DER (1 - 0.25 + 1) / 2 > 0.75, hDER (1 - 1 + 1) / 2 < 0.75."""
    lines = comparison_lines(standings(tmp_path, Fake([BACKDOORED, WITHOUT_TARGET, HALF])))
    assert [(line.method, line.choice, line.settings) for line in lines] == [
        ("before", "before", ""),
        ("fake", "hindsight, hDER", "n 2"),
        ("fake", "hindsight, DER", "n 1"),
    ]
    before, by_hder, by_der = lines
    assert (before.der, before.hder, before.acc_loss, before.tcr_loss) == (None,) * 4
    assert (by_hder.der, by_hder.hder, by_hder.acc_loss, by_hder.tcr_loss) == (0.75, 0.75, 0, 0)
    assert (by_der.der, by_der.hder, by_der.acc_loss, by_der.tcr_loss) == (0.875, 0.5, 0.25, 1)
    assert by_der.metrics.recalls == (0, 1, 1, 1)


def test_fixed_settings_are_shown_whatever_would_be_better(tmp_path: Path) -> None:
    fixed = Fake([BACKDOORED, MITIGATED], is_fixed=True)
    lines = comparison_lines(standings(tmp_path, fixed))[1:]
    assert [(line.choice, line.settings) for line in lines] == [
        ("fixed", "n 0"),
        ("hindsight, hDER", "n 1"),
        ("hindsight, DER", "n 1"),
    ]


def test_a_method_of_one_trial_has_no_hindsight(tmp_path: Path) -> None:
    (_, line) = comparison_lines(standings(tmp_path, Fake([MITIGATED], is_fixed=True)))
    assert (line.choice, line.hder) == ("fixed", 1)


def test_without_an_attack_there_is_nothing_to_choose_by(tmp_path: Path) -> None:
    nets = [contender(images=clean_only)]
    lines = comparison_lines(standings(tmp_path, Fake([HALF, MITIGATED], is_fixed=True), nets=nets))
    assert [line.choice for line in lines] == ["before", "fixed"]
    assert (lines[1].hder, lines[1].acc_loss) == (None, 0)


def test_refusals_and_missing_trials_are_told(tmp_path: Path) -> None:
    some = Fake([RepairError("too much"), HALF, KeyboardInterrupt()])
    comparison = Comparison([contender()], [some], Store(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        comparison.run()
    line = comparison_lines(comparison.standings())[1]
    assert (line.settings, line.n_done, line.n_trials) == ("n 1", 2, 3)
    assert line.note == "1 of 3 settings refused; only 2 of 3 settings tried yet"
    document = comparison_document(comparison.standings(), FACTS)
    assert not document["complete"]


def test_a_method_that_comes_to_nothing_is_in_no_mean(tmp_path: Path) -> None:
    nets = [contender("a"), contender("b", answers=(*BACKDOORED[:-1], 3))]
    fine = standings(tmp_path, Fake([MITIGATED], is_fixed=True), nets=nets)
    fine[3] = standings(tmp_path / "x", Fake([RepairError("no")], is_fixed=True), nets=nets)[3]
    lines = comparison_lines(fine)
    assert lines[3].note == "no"
    before, fake = averages(lines)
    assert (before.n, before.n_networks, fake.n, fake.n_networks) == (2, 2, 1, 2)
    assert before.means["asr"] == pytest.approx((1 + 5 / 6) / 2)
    (table,) = average_tables(lines)
    assert table.title == "Mean over 2 networks with a known attack"
    assert [row[0] for row in table.rows] == ["before", "fake (1 of 2)"]


def test_means_of_networks_without_an_attack_are_apart(tmp_path: Path) -> None:
    nets = [contender("clean", images=clean_only), contender("bad")]
    lines = comparison_lines(standings(tmp_path, Fake([WITHOUT_TARGET], is_fixed=True), nets=nets))
    found = {(mean.attacked, mean.method): mean for mean in averages(lines)}
    assert list(found) == [(True, "before"), (True, "fake"), (False, "before"), (False, "fake")]
    assert found[True, "fake"].means["hder"] == 0.5
    assert found[False, "fake"].means["hder"] is None
    assert found[False, "fake"].means["acc_loss"] == 0.25


def test_all_to_all_attacks_have_no_tcr_but_an_hder(tmp_path: Path) -> None:
    answers = (*LABELS.tolist(), *((LABELS[2:] + 1) % 4).tolist())
    nets = [contender(answers=answers, images=lambda: evaluation_images(None))]
    fake = Fake([WITHOUT_TARGET], is_fixed=True)
    line = comparison_lines(standings(tmp_path, fake, nets=nets))[1]
    assert (line.metrics.tcr, line.tcr_loss) == (None, None)
    assert line.hder == (1 - 0.25 + 1) / 2
    assert line.to_dict()["recalls"] == (0, 1, 1, 1)


def test_documents_hold_all_figures(tmp_path: Path) -> None:
    found = standings(
        tmp_path, Fake([HALF, WITHOUT_TARGET]), Fake([MITIGATED], "one", is_fixed=True)
    )
    document = comparison_document(found, FACTS)
    texts = comparison_texts(document, comparison_lines(found))
    assert tuple(texts) == FILES
    assert json.loads(texts["compare.json"]) == json.loads(json.dumps(document))
    assert document["complete"]
    rows = list(csv.DictReader(io.StringIO(texts["compare.csv"])))
    assert [row["method"] for row in rows] == ["before", "fake", "fake", "one"]
    assert rows[2]["recalls"] == "0 1 1 1"
    assert float(rows[2]["hder"]) == 0.5
    trials = list(csv.DictReader(io.StringIO(texts["trials.csv"])))
    assert [row["settings"] for row in trials] == ["", "n 0", "n 1", "n 0"]
    names = {row["outcome"] for row in trials}
    assert names == {path.stem for path in tmp_path.glob("*.json")}
    assert [row["method"] for row in csv.DictReader(io.StringIO(texts["averages.csv"]))] == [
        "before",
        "fake",
        "fake",
        "one",
    ]
    markdown = texts["compare.md"]
    assert (
        "| fake | hindsight, hDER | n 0 | 100.0 | 50.0 | 50.0 | 100.0 | 100.0 | 75.0 | 75.0 |"
        in markdown
    )
    assert (
        "| fake | hindsight, DER | n 1 | 75.0 | 0.0 | 100.0 | 0.0 | 0.0 | 87.5 | 50.0 |" in markdown
    )
    assert "otbr_fast 1" in markdown
    assert "POT" not in markdown


def test_trials_are_all_listed(tmp_path: Path) -> None:
    rows = trial_rows(standings(tmp_path, Fake([HALF, WITHOUT_TARGET])))
    assert [(row["method"], row["settings"], row["hder"]) for row in rows] == [
        ("before", "", None),
        ("fake", "n 0", 0.75),
        ("fake", "n 1", 0.5),
    ]


def test_a_networks_table_tells_the_lowest_recall(tmp_path: Path) -> None:
    (table,) = network_tables(comparison_lines(standings(tmp_path, Fake([WITHOUT_TARGET] * 2))))
    assert table.title == "net"
    worst = table.header.index("worst")
    assert [row[worst] for row in table.rows] == ["100.0", "0.0", "0.0"]


def test_a_narrow_table_keeps_whole_figures_in_80_columns(tmp_path: Path) -> None:
    fakes = [Fake([MITIGATED] * 2, name) for name in ("ours-hindsight", "clp-published")]
    net = contender("cifar10_preactresnet18_w32_badnet")
    lines = comparison_lines(standings(tmp_path, *fakes, nets=[net]))
    console = Console(width=80, record=True, file=io.StringIO())
    for table in (*network_tables(lines), *average_tables(lines)):
        console.print(to_rich(narrow(table)))
    text = console.export_text()
    assert "…" not in text
    assert text.count("clp-published") == 4
