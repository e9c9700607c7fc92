from __future__ import annotations

from pathlib import Path

import pytest

from otbr_fast.bench.judge import judge
from otbr_fast.bench.markers import check_markers, markdown, update_document
from otbr_fast.bench.plan import Grid, Plan
from otbr_fast.bench.plots import PICTURES, write_pictures
from otbr_fast.bench.results import Absent, Cell, Entry, Environment, Results
from otbr_fast.bench.summary import fastest_peer, ratio
from otbr_fast.bench.tables import long_tables, summary_tables, to_markdown, wide_tables
from otbr_fast.errors import OtbrFastError, OutputExistsError

DOCUMENT = """# Measured
<!-- bench:begin summary -->
old | numbers
<!-- bench:end -->
Words between.
<!-- bench:begin -->
<!-- bench:end -->
The end.
"""


def entry(solver: str, seconds: list[float], **facts: object) -> Entry:
    named = {"solver": solver, "label": solver.upper(), "seconds": seconds, "memory": 3 * 10**6}
    return Entry.model_validate({**named, "cpu_seconds": seconds, "value": 1.0, **facts})


def exact_cell(n: int, *entries: Entry, family: str = "I", calls: int = 1) -> Cell:
    cell = Cell(task="exact", family=family, n=n, m=n, dtype="float64", calls=calls)
    cell.entries = list(entries)
    judge(cell)
    return cell


@pytest.fixture
def results() -> Results:
    ours = entry("otbr_fast", [1.0, 2.0, 4.0])
    entropic = Cell(task="entropic", family="I", n=8, m=8, dtype="float64", reg=0.05)
    entropic.entries = [
        entry("otbr_fast", [1.0], error=1e-9),
        entry("pot-log", [20.0], error=1e-9),
        entry("geomloss", [], status="not_reached", reason="its error stayed at 1e-3"),
    ]
    return Results(
        environment=Environment.here(),
        plan=Plan(
            grids={
                "exact": Grid(families=("I", "small"), sizes=(8, 16)),
                "entropic": Grid(families=("I",), sizes=(8,)),
            },
            time_limit=60,
        ),
        complete=True,
        absent=[Absent(task="exact", solver="lapx", label="lapx", reason="pip install lapx")],
        cells=[
            exact_cell(
                8,
                ours,
                entry("pot", [10.0, 10.0, 80.0]),
                entry("pot-old", [0.01], value=2.0),
                entry("sparse-ot", [6.0, 6.0, 6.0]),
                entry("highs", [], status="not_applicable", reason="too large"),
            ),
            exact_cell(
                16,
                ours,
                entry("pot", [], status="time_limit", reason="more than 60 s"),
                entry("sparse-ot", [], status="failed", reason="it warned: a | b"),
            ),
            exact_cell(4, ours, entry("pot", [4.0, 4.0, 4.0]), family="small", calls=1000),
            entropic,
        ],
    )


def test_the_ratio_is_the_median_of_paired_ones(results: Results) -> None:
    cell = results.cells[0]
    pot, wrong, highs = (cell.entry(name) for name in ("pot", "pot-old", "highs"))
    assert pot is not None
    assert wrong is not None
    assert highs is not None
    assert ratio(cell, pot) == 10  # of 10, 5 and 20; of the medians it would be 5
    assert ratio(cell, wrong) is None
    assert ratio(cell, highs) is None


def test_the_fastest_peer_is_one_that_agrees(results: Results) -> None:
    peer = fastest_peer(results.cells[0])
    assert peer is not None
    assert peer.solver == "sparse-ot"
    assert fastest_peer(results.cells[1]) is None


def row(text: str, start: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return [part.strip() for part in line.strip("|").split(" | ")]


def test_times_show_what_happened_to_each(results: Results) -> None:
    text = to_markdown(wide_tables(results)[0])
    assert row(text, "| I | 8 ") == ["I", "8", "2", "10 (10)", "disagrees", "6 (3)", "–"]
    assert row(text, "| I | 16 ") == ["I", "16", "2", "> 60 s (> 30)", "–", "failed", "–"]
    assert row(text, "| small ") == ["small", "4", "500/s", "250/s (2)", "–", "–", "–"]
    assert "- POT-OLD, I 8: its result 2.0 is not that of the others" in text
    assert "- SPARSE-OT, I 16: it warned: a | b" in text


def test_memory_is_shown_in_matrices_too(results: Results) -> None:
    assert row(to_markdown(wide_tables(results)[1]), "| I | 8 ")[2] == "3 (5,859)"


def test_the_summary_compares_with_the_reference_and_the_fastest(results: Results) -> None:
    exact, entropic = map(to_markdown, summary_tables(results))
    assert row(exact, "| problem") == ["problem", "n = 4", "n = 8", "n = 16"]
    assert row(exact, "| I ") == ["I", "", "10 (SPARSE-OT: 3)", "> 30"]
    assert row(exact, "| small ") == ["small", "2", "", ""]
    assert row(entropic, "| I ") == ["I", "0.05", "20"]


def test_long_tables_have_a_row_for_each_that_ran(results: Results) -> None:
    rows = long_tables(results)[0].rows
    assert [line[2] for line in rows[:4]] == ["OTBR_FAST", "POT", "POT-OLD", "SPARSE-OT"]
    assert [line[0] for line in rows[:5]] == ["I", "", "", "", "I"]


def test_who_was_not_there_is_named(results: Results) -> None:
    assert "Not there: lapx (exact: pip install lapx)." in markdown(results)
    assert "Interrupted" not in markdown(results)
    assert "Interrupted" in markdown(results.model_copy(update={"complete": False}))


def test_without_our_times_nothing_is_compared(results: Results) -> None:
    cell = results.cells[0]
    ours = cell.entry("otbr_fast")
    assert ours is not None
    ours.agrees = False
    assert row(to_markdown(wide_tables(results)[0]), "| I | 8 ")[2:4] == ["disagrees", "10"]
    assert row(to_markdown(summary_tables(results)[0]), "| I ")[2] == "disagrees"


def test_results_survive_their_file(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(results.to_json())
    assert Results.load(path) == results


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[1]", "not json"])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(OtbrFastError, match="holds no results"):
        Results.load(path)


def test_documents_are_updated_between_the_markers_only(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text(DOCUMENT)
    update_document(path, results)
    text = path.read_text()
    assert "old | numbers" not in text
    parts = text.split("\n", 2)[2], markdown(results), markdown(results, summary=True)
    assert parts[0].index(parts[2]) < parts[0].index("Words between.") < parts[0].index(parts[1])
    assert text.startswith("# Measured\n<!-- bench:begin summary -->\n")
    assert text.endswith("<!-- bench:end -->\nThe end.\n")
    update_document(path, results)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "text", ["", "<!-- bench:begin -->\n", "<!-- bench:end -->\n<!-- bench:begin -->\n"]
)
def test_a_document_without_markers_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text(text)
    with pytest.raises(OtbrFastError, match="bench:begin"):
        check_markers(path)


def test_pictures_are_drawn(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_pictures(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(PICTURES)
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in tmp_path.iterdir())
    with pytest.raises(OutputExistsError):
        write_pictures(results, tmp_path)
    del results.cells[:-1]
    write_pictures(results, tmp_path / "entropic only")
    assert [path.name for path in (tmp_path / "entropic only").iterdir()] == ["entropic.png"]
