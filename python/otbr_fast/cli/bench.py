"""``otbr-fast bench``: transport solvers compared on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otbr_fast.cli import common
from otbr_fast.cli.config_file import config_text, resolved_config
from otbr_fast.cli.output import print_json, print_text, progress_bars
from otbr_fast.cli.subject import checked, parse_numbers

if TYPE_CHECKING:
    from otbr_fast.bench.plan import Plan
    from otbr_fast.bench.results import Results

_RESULTS, _TABLE, _CONFIG = "results.json", "table.md", "bench.config.yaml"
_WHAT, _WHO = "What is solved", "Who solves it"


def command(
    ctx: typer.Context,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="quick|readme|full",
            help="A plan, which the other options change: minutes, hours, a day.",
            show_default="quick",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="T,...", help="Of exact, entropic, distances.", rich_help_panel=_WHAT),
    ] = None,
    families: Annotated[
        str | None,
        typer.Option(
            metavar="F,...",
            help="Of I, P, L, assignment, random, ties, rectangular, images, small, layers.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(metavar="N,...", help="Of all tasks.", rich_help_panel=_WHAT)
    ] = None,
    dtypes: Annotated[
        str | None,
        typer.Option(metavar="D,...", help="Of float64, float32.", rich_help_panel=_WHAT),
    ] = None,
    regs: Annotated[
        str | None,
        typer.Option(
            metavar="R,...",
            help="Entropic: regularisations, relative to the largest cost.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            metavar="E",
            help="Entropic: the L1 error of the marginals to reach.",
            show_default="1e-06",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="A network whose layers are the family 'layers'.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    arch: common.Arch = None,
    share: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Share of a layer's neurons that is pruned.",
            show_default="0.1",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of the problems.", show_default="0", rich_help_panel=_WHAT),
    ] = None,
    solvers: Annotated[
        str | None,
        typer.Option(
            metavar="S,...",
            help="Peers to compare with, such as pot,lapx.",
            show_default="all",
            rich_help_panel=_WHO,
        ),
    ] = None,
    pot_old: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Another POT: a virtual environment, or a folder it was installed into.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(metavar="N", help="Timed runs, at least.", rich_help_panel=_WHO),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="CPU threads of each; all is run with each number.",
            show_default="1",
            rich_help_panel=_WHO,
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Seconds of one run; who exceeds it is not asked for larger problems.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar=_RESULTS, help="Run nothing: show these results.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Folder for {_RESULTS}, {_TABLE}, pictures and {_CONFIG}.",
            show_default="nothing is written",
        ),
    ] = None,
    update: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.md",
            help="Put the tables between this document's '<!-- bench:begin -->' and "
            "'<!-- bench:end -->'; after 'bench:begin summary' the ratios only. May be repeated.",
            show_default=False,
        ),
    ] = None,
    overwrite: common.Overwrite = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Compare transport solvers: times, memory and results, on problems of several kinds."""
    changes = {
        "dtypes": _words(dtypes),
        "regs": parse_numbers(regs, float, "--regs"),
        "target": target,
        "checkpoint": checkpoint,
        "arch": arch,
        "share": share,
        "seed": seed,
        "solvers": _words(solvers),
        "pot_old": None if pot_old is None else _folder_of_pot(pot_old),
        "repeats": repeats,
        "threads": parse_numbers(threads, int, "--threads"),
        "time_limit": time_limit,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    grids = (_words(tasks), _words(families), parse_numbers(sizes, int, "--sizes"))
    documents = update or []

    from otbr_fast.bench.markers import check_markers, markdown, update_document
    from otbr_fast.bench.results import Results

    for document in documents:
        check_markers(document)
    if from_ is not None:
        if given or preset or any(grids):
            raise typer.BadParameter("what was run cannot be changed", param_hint="--from")
        results = Results.load(from_)
    else:
        preset = preset or "quick"
        plan = _plan(preset, *grids, given)
        settings = resolved_config(ctx, preset=preset, update=None)
        results = _run(plan, out, config_text(settings), overwrite)
    if out is not None:
        texts = {out / _TABLE: markdown(results)}
        if from_ is None or from_.resolve() != (out / _RESULTS).resolve():
            texts[out / _RESULTS] = results.to_json()
        _write(results, texts, out, overwrite or from_ is None)
    if json:
        print_json(results.model_dump(mode="json"))
    else:
        _show(results)
    if from_ is None and not results.complete:
        raise KeyboardInterrupt
    for document in documents:
        update_document(document, results)


def _plan(
    preset: str,
    tasks: tuple[str, ...] | None,
    families: tuple[str, ...] | None,
    sizes: tuple[int, ...] | None,
    given: Mapping[str, object],
) -> Plan:
    from otbr_fast.bench.plan import LAYERS, Plan
    from otbr_fast.bench.presets import PRESETS
    from otbr_fast.bench.solvers import SOLVERS

    if preset not in PRESETS:
        raise typer.BadParameter(
            f"{preset!r} should be one of {', '.join(PRESETS)}", param_hint="--preset"
        )
    _refuse_unknown(given.get("solvers"), {solver.name for solver in SOLVERS}, "--solvers")
    settings = PRESETS[preset].model_dump()
    _refuse_unknown(tasks, settings["grids"], "--tasks")
    settings["grids"] = {t: g for t, g in settings["grids"].items() if tasks is None or t in tasks}
    for grid in settings["grids"].values():
        grid["families"] = families or grid["families"]
        grid["sizes"] = sizes or grid["sizes"]
    if given.get("checkpoint") and families is None and "exact" in settings["grids"]:
        settings["grids"]["exact"]["families"] += (LAYERS,)
    return checked(lambda: Plan.model_validate({**settings, **given}))


def _run(plan: Plan, out: Path | None, settings: str, overwrite: bool) -> Results:
    """Run a plan; the results so far are kept in the folder, if there is one."""
    from otbr_fast.bench.plots import PICTURES
    from otbr_fast.bench.runner import run_plan
    from otbr_fast.io import check_absent
    from otbr_fast.report.documents import write_texts

    if out is not None:
        check_absent([out / name for name in (_RESULTS, _TABLE, _CONFIG, *PICTURES)], overwrite)
        write_texts({out / _CONFIG: settings}, overwrite=overwrite)

    def keep(results: Results) -> None:
        if out is not None:
            write_texts({out / _RESULTS: results.to_json()}, overwrite=True)

    with progress_bars() as tell:
        return run_plan(plan, keep=keep, tell=tell)


def _write(results: Results, texts: dict[Path, str], out: Path, overwrite: bool) -> None:
    """Write what is ready, and draw the pictures."""
    from otbr_fast.bench.plots import PICTURES, write_pictures
    from otbr_fast.io import check_absent
    from otbr_fast.report.documents import write_texts
    from otbr_fast.report.pictures import can_draw

    check_absent([*texts, *(out / name for name in PICTURES)], overwrite)
    write_texts(texts, overwrite=overwrite)
    if can_draw():
        write_pictures(results, out, overwrite=overwrite)
    else:
        typer.echo("no pictures: they need pip install 'otbr-fast[bench]'", err=True)


def _show(results: Results) -> None:
    from rich.console import Console

    from otbr_fast.bench.tables import environment_text, long_tables, summary_tables, to_rich

    console = Console()
    for table in (*long_tables(results), *summary_tables(results)):
        console.print(to_rich(table))
    print_text(environment_text(results))


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _refuse_unknown(words: object, known: object, option: str) -> None:
    assert isinstance(known, (set, dict))
    for word in words if isinstance(words, tuple) else ():
        if word not in known:
            raise typer.BadParameter(
                f"{word!r} should be one of {', '.join(sorted(known))}", param_hint=option
            )


def _folder_of_pot(path: Path) -> Path:
    """Return the folder that holds the package ``ot``, in a virtual environment or as given."""
    for folder in (path, *sorted(path.glob("lib/python*/site-packages"))):
        if (folder / "ot" / "__init__.py").is_file():
            return folder.absolute()
    raise typer.BadParameter(
        f"{path} holds no POT; make it by: pip install --no-deps --target {path} POT==VERSION",
        param_hint="--pot-old",
    )
