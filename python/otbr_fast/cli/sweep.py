"""``otbr-fast sweep``: one ranking, many γ and λ, in one table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import choose_device, limit_threads
from otbr_fast.cli.config_file import config_text, resolved_config
from otbr_fast.cli.dry_run import show_estimate
from otbr_fast.cli.evaluation_data import DataOptions, measure_with, open_evaluation_data
from otbr_fast.cli.method import make_config
from otbr_fast.cli.output import print_json, print_text, progress_bars
from otbr_fast.cli.subject import ModelOptions, join_numbers, open_subject, parse_numbers

if TYPE_CHECKING:
    from otbr_fast.repair import RepairConfig
    from otbr_fast.report import SweepReport

_FILES = ("sweep.json", "sweep.csv", "layers.csv", "sweep.config.yaml")
_PICTURE = "sweep.png"


def command(
    ctx: typer.Context,
    model: common.Model,
    gammas: Annotated[
        str | None,
        typer.Option(
            metavar="G,...",
            help="Fractions of neurons to prune.",
            show_default="the paper's: 0.01,0.05,0.1,0.15,0.2,0.25,0.3",
            rich_help_panel="The method",
        ),
    ] = None,
    lambdas: Annotated[
        str | None,
        typer.Option(
            metavar="L,...",
            help="Shares of the transported network in the fusion; they cost next to nothing.",
            show_default="0.5,0.75 (0.5 in paper mode and with --ranking nwc)",
            rich_help_panel="The method",
        ),
    ] = None,
    data: common.Data = None,
    trigger: common.TriggerFile = None,
    target: common.Target = None,
    limit: common.Limit = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Folder for {', '.join(_FILES)} and, with evaluation data, {_PICTURE}.",
            show_default="nothing is written",
        ),
    ] = None,
    arch: common.Arch = None,
    input_shape: common.InputShape = None,
    input_range: common.InputRange = None,
    mean: common.Mean = None,
    std: common.Std = None,
    num_classes: common.NumClasses = None,
    ranking: common.Ranking = None,
    mode: common.Mode = None,
    channels: common.Channels = None,
    steps: common.Steps = None,
    lr: common.LearningRate = None,
    momentum: common.Momentum = None,
    batch_size: common.BatchSize = None,
    seed: common.Seed = None,
    device: common.Device = "auto",
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    dry_run: common.DryRun = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Repair with several γ (and λ) and show all of them, measured if there is data."""
    many_gammas, many_lambdas, settings = _settings(
        gammas,
        lambdas,
        ranking=ranking,
        mode=mode,
        steps=steps,
        lr=lr,
        momentum=momentum,
        batch_size=batch_size,
        seed=seed,
        n_threads=threads,
    )
    chosen_device = choose_device(device)
    limit_threads(threads)
    subject = open_subject(
        model, ModelOptions(arch, input_shape, input_range, mean, std, num_classes)
    )

    from otbr_fast.io import check_absent, read_channels

    graph = None if channels is None else read_channels(channels)
    if dry_run:
        show_estimate(subject, settings, graph, len(many_gammas), len(many_lambdas), json=json)
        return
    evaluation = open_evaluation_data(subject, DataOptions(data, trigger, target, limit))

    from otbr_fast.repair import sweep
    from otbr_fast.report import SweepReport

    if out is not None:
        check_absent([out / name for name in (*_FILES, _PICTURE)], overwrite)
    with progress_bars() as tell:
        repairs = sweep(
            subject.model,
            subject.inputs,
            settings,
            many_gammas,
            many_lambdas,
            channels=graph,
            device=chosen_device,
            progress=tell,
        )
        measure = measure_with(subject, evaluation, chosen_device, tell)
        report = SweepReport.collect(subject.model, repairs, measure)

    document = {
        "model": subject.description().model_dump(mode="json", exclude_none=True),
        "source": str(model),
        "source_sha256": subject.checkpoint.sha256,
        "evaluation": evaluation and evaluation.describe(),
        **report.to_dict(),
    }
    if out is not None:
        used = {
            **subject.settings(),
            **settings.model_dump(),
            **(asdict(evaluation.options) if evaluation else {}),
            "gammas": join_numbers(many_gammas),
            "lambdas": join_numbers(many_lambdas),
            "device": chosen_device,
        }
        _write(out, report, document, resolved_config(ctx, **used), overwrite)
    if json:
        print_json(document)
    else:
        _show(report)


def _settings(
    gammas: str | None, lambdas: str | None, **method: object
) -> tuple[tuple[float, ...], tuple[float, ...], RepairConfig]:
    """Return γs, λs and what all repairs share, everything checked before the work starts."""
    from otbr_fast.repair import PUBLISHED_GAMMAS

    many_gammas = parse_numbers(gammas, float, "--gammas") or PUBLISHED_GAMMAS
    settings = make_config(gamma=many_gammas[0], **method)
    many_lambdas = parse_numbers(lambdas, float, "--lambdas") or settings.lambdas
    _refuse_repeated(many_gammas, "--gammas")
    _refuse_repeated(many_lambdas, "--lambdas")
    for gamma in many_gammas:
        make_config(gamma=gamma)
    for lambda_ in many_lambdas:
        make_config(gamma=many_gammas[0], lambda_=lambda_)
    return many_gammas, many_lambdas, settings


def _refuse_repeated(numbers: tuple[float, ...], option: str) -> None:
    for number, count in Counter(numbers).items():
        if count > 1:
            raise typer.BadParameter(f"{number:g} is given more than once", param_hint=option)


def _write(
    out: Path,
    report: SweepReport,
    document: dict[str, object],
    settings: dict[str, object],
    overwrite: bool,
) -> None:
    from otbr_fast.report import csv_text, json_text, write_texts
    from otbr_fast.report.pictures import can_draw, write_sweep_picture

    texts = (
        json_text(document),
        csv_text([row.to_dict() for row in report.rows]),
        csv_text(report.layer_rows()),
        config_text(settings),
    )
    write_texts(dict(zip((out / name for name in _FILES), texts, strict=True)), overwrite=overwrite)
    if overwrite:  # never the picture of another sweep
        (out / _PICTURE).unlink(missing_ok=True)
    if not can_draw():
        typer.echo(f"no {_PICTURE}: it needs pip install 'otbr-fast[demo]'", err=True)
    elif report.is_measured:
        write_sweep_picture(report.rows, out / _PICTURE, overwrite=overwrite)


def _show(report: SweepReport) -> None:
    from rich.console import Console

    from otbr_fast.report import GLOSSARY, NO_HINDSIGHT, metric_table, pruned_table

    console = Console()
    if report.is_measured:
        console.print(metric_table(report.rows))
        print_text(GLOSSARY, NO_HINDSIGHT)
        return
    console.print(pruned_table(report.layers))
    typer.echo("No evaluation data was given (--data), so nothing was measured.")
