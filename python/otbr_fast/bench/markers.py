"""Tables in documents: what stands between two comments is replaced."""

from __future__ import annotations

import re
from pathlib import Path

from otbr_fast.bench.results import Results
from otbr_fast.bench.tables import environment_text, summary_tables, to_markdown, wide_tables
from otbr_fast.errors import OtbrFastError
from otbr_fast.io import write_file

_SECTION = re.compile(
    r"(<!-- bench:begin( summary)? -->\n).*?(^<!-- bench:end -->)", re.DOTALL | re.MULTILINE
)


def markdown(results: Results, *, summary: bool = False) -> str:
    """Return the tables, all or a summary, and where they come from."""
    tables = summary_tables(results) if summary else wide_tables(results)
    return "\n\n".join([*map(to_markdown, tables), environment_text(results)]) + "\n"


def check_markers(path: Path) -> None:
    """Raise an `OtbrFastError` if a document has no place for tables."""
    _read(path)


def update_document(path: Path, results: Results) -> None:
    """Put the tables between ``<!-- bench:begin -->`` and ``<!-- bench:end -->``.

    After ``<!-- bench:begin summary -->`` stand only the ratios. The rest of the document is left
    as it is.
    """

    def section(match: re.Match[str]) -> str:
        begin, summary, end = match.groups()
        return f"{begin}\n{markdown(results, summary=summary is not None)}\n{end}"

    text = _SECTION.sub(section, _read(path))
    with write_file(path, overwrite=True) as draft:
        draft.write_text(text, encoding="utf-8")


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OtbrFastError(f"{path} is not UTF-8 text: {error}.") from error
    if _SECTION.search(text) is None:
        raise OtbrFastError(
            f"{path} has no lines '<!-- bench:begin -->' and '<!-- bench:end -->' to put tables "
            "between; add them where the tables should stand."
        )
    return text
