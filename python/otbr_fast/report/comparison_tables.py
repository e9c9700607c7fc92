"""A comparison as Markdown, CSV and JSON, and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from otbr_fast.bench.tables import Table, to_markdown
from otbr_fast.evaluate.comparison import BEFORE, Standing
from otbr_fast.report.comparison import (
    Average,
    Line,
    averages,
    comparison_lines,
    trial_rows,
)
from otbr_fast.report.documents import csv_text, json_text
from otbr_fast.report.html_words import percent

FILES = ("compare.json", "compare.md", "compare.csv", "averages.csv", "trials.csv")

LEGEND = (
    "In percent. ACC: accuracy without the trigger; ASR: triggered images taken for the attacker's "
    "class; RA: triggered images taken for what they are; TCR: recall of the attacker's class "
    "without the trigger (none where each class is a target); worst: the lowest recall of a class; "
    "DER, hDER: gain in ASR against loss in ACC (hDER: in ACC or TCR), 50 is no change. "
    "'fixed': settings that do not depend on test data. 'hindsight': the best of all settings "
    "tried, by a figure that takes test data and the trigger: nobody who has to defend a network "
    "can choose so. Seconds are of making the network, not of measuring it; in hindsight of all "
    "settings together. What 'paper' and 'nwc-pruning' share, the unlearning, counts once."
)

_HEADER = ("ACC", "ASR", "RA", "TCR", "worst", "DER", "hDER", "ACC loss", "TCR loss", "s")
_IN_TERMINALS = ("method", "settings chosen", "ACC", "ASR", "RA", "TCR", "DER", "hDER")


def comparison_document(
    standings: Sequence[Standing], facts: Mapping[str, object]
) -> dict[str, Any]:
    """Return everything that is known, ready for JSON.

    Parameters
    ----------
    standings : sequence of Standing
        Something must be known.
    facts : mapping
        ``environment`` and ``data``: where it was computed, and on what.
    """
    lines = comparison_lines(standings)
    return {
        **facts,
        "complete": all(len(s.outcomes) == len(s.method.trials) for s in standings),
        "legend": LEGEND,
        "lines": [line.to_dict() for line in lines],
        "averages": [average.to_dict() for average in averages(lines)],
        "trials": trial_rows(standings),
    }


def comparison_texts(document: Mapping[str, Any], lines: Sequence[Line]) -> dict[str, str]:
    """Return the text of each of `FILES`."""
    texts = (
        json_text(document),
        _markdown(lines, document),
        *(_csv(document[part]) for part in ("lines", "averages", "trials")),
    )
    return dict(zip(FILES, texts, strict=True))


def network_tables(lines: Sequence[Line]) -> list[Table]:
    """Return a table for each network."""
    tables = []
    for network, group in groupby(lines, key=lambda line: line.network):
        of_network = list(group)
        rows = tuple(
            (line.method, _choice(line.choice), line.settings, *_figures(line))
            for line in of_network
        )
        notes = tuple(
            dict.fromkeys(
                f"{line.method}, {line.choice}: {line.note}" for line in of_network if line.note
            )
        )
        header = ("method", "settings chosen", "which", *_HEADER)
        tables.append(Table(network, header, rows, 3, notes))
    return tables


def average_tables(lines: Sequence[Line]) -> list[Table]:
    """Return the means over attacked networks and those over networks without a known attack."""
    tables = []
    for attacked, group in groupby(averages(lines), key=lambda average: average.attacked):
        found = list(group)
        which = "with a known attack" if attacked else "without a known attack"
        rows = tuple(_average_row(average) for average in found)
        networks = "network" if found[0].n_networks == 1 else "networks"
        title = f"Mean over {found[0].n_networks} {networks} {which}"
        header = ("method", "settings chosen")
        shown = tuple(name for name in _HEADER if name != "worst")
        tables.append(Table(title, (*header, *shown), rows, 2))
    return tables


def narrow(table: Table) -> Table:
    """Return a table with the columns that a terminal has room for."""
    kept = [i for i, name in enumerate(table.header) if name in _IN_TERMINALS]

    def cut(row: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(row[i] for i in kept)

    return replace(table, header=cut(table.header), rows=tuple(map(cut, table.rows)), n_names=2)


def _average_row(average: Average) -> tuple[str, ...]:
    part = f" ({average.n} of {average.n_networks})" if average.n < average.n_networks else ""
    return (
        average.method + part,
        _choice(average.choice),
        *map(percent, average.means.values()),
        f"{average.seconds:.1f}",
    )


def _figures(line: Line) -> tuple[str, ...]:
    recalls = [recall for recall in line.metrics.recalls or () if recall is not None]
    return (
        *(percent(line.figure(name)) for name in ("acc", "asr", "ra", "tcr")),
        percent(min(recalls, default=None)),
        *(percent(line.figure(name)) for name in ("der", "hder", "acc_loss", "tcr_loss")),
        f"{line.seconds:.1f}",
    )


def _choice(choice: str) -> str:
    return "" if choice == BEFORE else choice


def _markdown(lines: Sequence[Line], document: Mapping[str, Any]) -> str:
    tables = [*average_tables(lines), *network_tables(lines)]
    told = LEGEND if document["complete"] else f"{LEGEND} **Not complete yet.**"
    facts = document["environment"]
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v is not None)
    machine = f"{facts['date']}; {facts['cpu']}, {facts['cores']} cores; device {facts['device']}"
    end = f"{machine}; {versions}. Command: `{facts['command']}`."
    return "\n\n".join(["# Comparison", told, *map(to_markdown, tables), end]) + "\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; recalls are joined by spaces."""
    return csv_text(
        [{**row, "recalls": _joined(row["recalls"])} if row.get("recalls") else row for row in rows]
    )


def _joined(recalls: Sequence[float | None]) -> str:
    return " ".join("-" if recall is None else f"{recall:g}" for recall in recalls)
