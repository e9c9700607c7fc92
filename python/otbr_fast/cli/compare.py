"""``otbr-fast compare``: networks through defences, in one table; what is known is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import choose_device, limit_threads
from otbr_fast.cli.config_file import config_text, read_config, resolved_config
from otbr_fast.cli.evaluation_data import DataOptions, open_evaluation_data
from otbr_fast.cli.output import print_json, print_text, progress_bars
from otbr_fast.cli.subject import ModelOptions, Subject, checked, open_subject

if TYPE_CHECKING:
    from otbr_fast.evaluate import EvaluationSet
    from otbr_fast.evaluate.comparison import Comparison
    from otbr_fast.evaluate.comparison_inputs import Contender, TrainingData
    from otbr_fast.evaluate.defences import Method

_OUTCOMES, _CONFIG = "outcomes", "compare.config.yaml"


def command(
    ctx: typer.Context,
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="BackdoorBench record folders, or model files with a description beside and, if "
            "they are attacked, MODEL_trigger.npz.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for the tables and for each outcome, as soon as it is known; the same "
            "command goes on where an interrupted one ended. Another one needs --overwrite, and "
            "uses what outcomes it can.",
            show_default=False,
        ),
    ],
    data: common.Data = None,
    train_data: Annotated[
        Path | None,
        typer.Option(
            metavar="TRAIN.npz",
            help="Labelled training images, for the methods that use data.",
            show_default="those methods are left out",
            rich_help_panel="Evaluation data",
        ),
    ] = None,
    limit: common.Limit = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="M,...",
            help="Of paper, nwc-pruning, ours, ours-hindsight, clp, clp-published, fine-tuning; "
            "and, ours with a stage left out, without-distillation, without-refinement, "
            "ranked-by-nwc.",
            show_default="the first seven",
            rich_help_panel="The method",
        ),
    ] = None,
    seed: common.Seed = None,
    device: common.Device = "auto",
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Compare defences on attacked networks: before, after, and on average."""
    chosen_device = choose_device(device)
    limit_threads(threads)
    if data is None:
        raise typer.BadParameter("labelled test images are needed", param_hint="--data")

    from otbr_fast.bench.results import Environment
    from otbr_fast.evaluate.comparison import Comparison
    from otbr_fast.evaluate.comparison_store import Store
    from otbr_fast.evaluate.defences import all_defences
    from otbr_fast.io import check_absent
    from otbr_fast.report.comparison_tables import FILES
    from otbr_fast.report.documents import write_texts

    defences = checked(lambda: all_defences(seed or 0))
    known = [method for defence in defences for method in defence.methods]
    chosen = _chosen(methods, known, has_training_data=train_data is not None)
    settings = resolved_config(ctx, models=models, device=chosen_device)
    if not (out / _OUTCOMES).is_dir() or not _is_of(settings, out / _CONFIG):
        check_absent([out / name for name in (*FILES, _CONFIG)], overwrite)
    comparison = Comparison(
        [_contender(path, DataOptions(data=data, limit=limit)) for path in models],
        defences,
        Store(out / _OUTCOMES),
        methods=chosen,
        training=None if train_data is None else _training(train_data),
        device=chosen_device,
        n_threads=threads,
    )
    write_texts({out / _CONFIG: config_text(settings)}, overwrite=True)
    facts = {
        "environment": {**Environment.here().model_dump(mode="json"), "device": chosen_device},
        "data": {
            "test": data.name,
            "limit": limit,
            "training": None if train_data is None else train_data.name,
        },
    }
    with progress_bars() as tell:
        comparison.run(progress=tell, keep=lambda: _write(comparison, out, facts))
    document = _write(comparison, out, facts)
    if json:
        print_json(document)
    else:
        _show(comparison)


def _is_of(settings: dict[str, object], path: Path) -> bool:
    """Whether a comparison's settings are these, but for how it is run."""
    if not path.is_file():
        return False
    free = {"device", "threads", "out"}
    former, wanted = (
        {key: value for key, value in each.items() if key not in free}
        for each in (read_config(path), settings)
    )
    return former == wanted


def _chosen(
    names: str | None, known: Sequence[Method], *, has_training_data: bool
) -> tuple[str, ...]:
    """Return the methods asked for, checked."""
    if names is None:
        return tuple(
            method.name
            for method in known
            if not method.is_ablation and (has_training_data or not method.uses_training_data)
        )
    by_name = {method.name: method for method in known}
    chosen = tuple(name.strip() for name in names.split(","))
    for name in chosen:
        if name not in by_name:
            raise typer.BadParameter(
                f"{name!r} should be one of {', '.join(by_name)}", param_hint="--methods"
            )
        if by_name[name].uses_training_data and not has_training_data:
            raise typer.BadParameter(
                f"{name} needs labelled training images", param_hint="--train-data"
            )
    return chosen


def _contender(path: Path, options: DataOptions) -> Contender:
    """Open a network; its images are looked at once, so that what does not fit is told early."""
    from otbr_fast.evaluate.comparison_inputs import Contender, evaluation_hash

    subject = open_subject(path, ModelOptions())
    record = subject.checkpoint.record
    return Contender(
        name=path.stem if record is None else record.folder.resolve().name,
        model=subject.model,
        inputs=subject.inputs,
        num_classes=subject.num_classes,
        test_hash=evaluation_hash(_read_test(subject, options)),
        read_test=lambda: _read_test(subject, options),
    )


def _read_test(subject: Subject, options: DataOptions) -> EvaluationSet:
    evaluation = open_evaluation_data(subject, options)
    assert evaluation is not None  # there is --data
    return evaluation.images


def _training(path: Path) -> TrainingData:
    from otbr_fast.evaluate import load_images
    from otbr_fast.evaluate.comparison_inputs import TrainingData
    from otbr_fast.io.files import file_sha256

    return TrainingData(file_sha256(path), lambda: load_images(path))


def _write(comparison: Comparison, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write what is known, and return it."""
    from otbr_fast.report.comparison import comparison_lines
    from otbr_fast.report.comparison_tables import comparison_document, comparison_texts
    from otbr_fast.report.documents import write_texts

    document = comparison_document(comparison.standings(), facts)
    texts = comparison_texts(document, comparison_lines(comparison.standings()))
    write_texts({out / name: text for name, text in texts.items()}, overwrite=True)
    return document


def _show(comparison: Comparison) -> None:
    from rich.console import Console

    from otbr_fast.bench.tables import to_rich
    from otbr_fast.report.comparison import comparison_lines
    from otbr_fast.report.comparison_tables import LEGEND, average_tables, narrow, network_tables

    lines = comparison_lines(comparison.standings())
    console = Console()
    for table in (*network_tables(lines), *average_tables(lines)):
        console.print(to_rich(narrow(table)))
    print_text(LEGEND)
