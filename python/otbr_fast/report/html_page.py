"""One self-contained HTML page from a report: it loads nothing and runs nothing."""

from __future__ import annotations

import importlib.util
import os
from importlib import resources
from pathlib import Path

from otbr_fast.errors import OtbrFastError
from otbr_fast.io import check_absent, write_file
from otbr_fast.report.repair_report import RepairReport


def require_jinja2() -> None:
    """Raise an `OtbrFastError` that tells the remedy if jinja2 is not installed."""
    if importlib.util.find_spec("jinja2") is None:
        raise OtbrFastError("an HTML report needs jinja2: pip install 'otbr-fast[report]'")


def report_paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return the files that `write_report` makes: the HTML, and the JSON beside it.

    Raises
    ------
    OtbrFastError
        The path does not end in ``.html``.
    """
    page = Path(path)
    if page.suffix.lower() not in (".html", ".htm"):
        raise OtbrFastError(f"the report {page} must end in .html, as in {page.stem}.html")
    return page, page.with_suffix(".json")


def write_report(
    report: RepairReport, path: str | os.PathLike[str], overwrite: bool = False
) -> tuple[Path, Path]:
    """Write the page, and the JSON behind it beside it; each whole or not at all.

    Parameters
    ----------
    report : RepairReport
        What to tell.
    path : path
        Of the page, ending in ``.html``.
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    (Path, Path)
        The page and the JSON.

    Raises
    ------
    OutputExistsError
        One of the two exists and `overwrite` is false; nothing is written then.
    OtbrFastError
        jinja2 is not installed, or the path does not end in ``.html``.
    """
    paths = report_paths(path)
    check_absent(paths, overwrite)
    page, data = render_html(report).encode(), report.to_json().encode()
    with write_file(paths[0], overwrite) as html, write_file(paths[1], overwrite) as json:
        html.write_bytes(page)
        json.write_bytes(data)
    return paths


def render_html(report: RepairReport) -> str:
    """Return the page as text.

    Its size is bounded whatever the network's: of many classes, layers, candidates or images the
    telling ones are shown, and what is left out is said.

    Raises
    ------
    OtbrFastError
        jinja2 is not installed.
    """
    require_jinja2()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from otbr_fast.report import html_choice, html_layers, html_sections
    from otbr_fast.report.html_words import action_sentence, unknowns, verdict_sentence

    makers = (
        html_sections.verdict_section,
        html_sections.effects_section,
        html_choice.choice_section,
        html_layers.layers_section,
        html_layers.plan_section,
        html_sections.images_section,
        html_sections.repeat_section,
        html_sections.glossary_section,
    )
    environment = Environment(
        loader=PackageLoader("otbr_fast.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("otbr_fast.report").joinpath("templates/report.css")
    return environment.get_template("report.html").render(
        report=report,
        style=style.read_text(encoding="utf-8"),
        verdict=verdict_sentence(report.verdict, report.subject),
        action=action_sentence(report),
        is_alarming=report.verdict is not None and report.verdict.found,
        unknowns=unknowns(report),
        sections=[section for make in makers if (section := make(report)) is not None],
    )
