"""``otbr-fast demo``: train a backdoored network, mitigate it without data, and show it all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import limit_threads
from otbr_fast.cli.config_file import config_text, resolved_config
from otbr_fast.cli.output import print_json, print_text, progress_bars

if TYPE_CHECKING:
    from torch import nn

    from otbr_fast.evaluate.demo_task import DemoTask
    from otbr_fast.repair import Progress
    from otbr_fast.report import SweepReport

_NUMBERS, _PICTURE, _CONFIG = "numbers.json", "picture.png", "demo.config.yaml"
_N_EXAMPLES = 8

_INTRODUCTION = (
    "A small PreAct-ResNet18 learns scikit-learn's digits, 10 % of them poisoned: a white patch in "
    "the corner makes any digit a 0 (BadNets). Then the backdoor is mitigated from the weights "
    "alone; the test images are used to measure, never to repair."
)


def command(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the picture, the numbers and the model.")
    ] = Path("demo-output"),
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=common.LARGEST_SEED,
            help="Seed of the training and of the repair.",
        ),
    ] = 0,
    threads: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="CPU threads; so small a network gains nothing from more."
        ),
    ] = 1,
    overwrite: common.Overwrite = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Watch a backdoor being trained into a small network, and mitigated (about a minute)."""
    from otbr_fast.evaluate.demo_task import load_demo_task, train_backdoored
    from otbr_fast.io import check_absent
    from otbr_fast.report.demo_files import DEMO_FILES, write_demo_files
    from otbr_fast.report.documents import json_text, write_texts
    from otbr_fast.report.pictures import require_matplotlib

    require_matplotlib()
    check_absent([out / name for name in (*DEMO_FILES, _NUMBERS, _PICTURE, _CONFIG)], overwrite)
    limit_threads(threads)
    task = load_demo_task(seed)
    if not json:
        print_text(_INTRODUCTION)
    started = time.perf_counter()
    with progress_bars() as tell:
        model = train_backdoored(task, seed, progress=tell)
        report = _sweep(model, task, seed, threads, tell)
    document = {
        "task": _INTRODUCTION,
        "seed": seed,
        "seconds": time.perf_counter() - started,
        **report.to_dict(),
    }
    write_demo_files(out, model, task, overwrite=overwrite)
    _draw(out / _PICTURE, model, task, report, overwrite)
    texts = {_NUMBERS: json_text(document), _CONFIG: config_text(resolved_config(ctx))}
    write_texts({out / name: text for name, text in texts.items()}, overwrite=overwrite)
    if json:
        print_json(document)
    else:
        _show(report, out)


def _sweep(
    model: nn.Module, task: DemoTask, seed: int, threads: int, tell: Progress
) -> SweepReport:
    from otbr_fast.evaluate import EvaluationSet, Metrics, evaluate
    from otbr_fast.evaluate.demo_task import INPUTS, TARGET
    from otbr_fast.repair import PUBLISHED_GAMMAS, RepairConfig, sweep
    from otbr_fast.report import SweepReport

    evaluation_set = EvaluationSet.from_trigger(task.test, task.trigger, TARGET)

    def measure(network: nn.Module) -> Metrics:
        return evaluate(network, evaluation_set, INPUTS)

    settings = RepairConfig(gamma=PUBLISHED_GAMMAS[0], seed=seed, n_threads=threads)
    repairs = sweep(model, INPUTS, settings, PUBLISHED_GAMMAS, progress=tell)
    return SweepReport.collect(model, repairs, measure)


def _draw(
    path: Path, model: nn.Module, task: DemoTask, report: SweepReport, overwrite: bool
) -> None:
    import torch

    from otbr_fast.evaluate.demo_task import INPUTS, TARGET
    from otbr_fast.report.pictures import write_demo_picture

    others = task.test.labels != TARGET
    images = task.test.images[others][:_N_EXAMPLES].float() / 255
    triggered = task.trigger.apply(images)
    with torch.no_grad():
        plain, fooled = (model(INPUTS.normalize(x)).argmax(1).tolist() for x in (images, triggered))
    captions = [f"{a} → {b}" for a, b in zip(plain, fooled, strict=True)]
    write_demo_picture(report.rows, images, triggered, captions, path, overwrite=overwrite)


def _show(report: SweepReport, out: Path) -> None:
    from rich.console import Console

    from otbr_fast.report import GLOSSARY, NO_HINDSIGHT, metric_table
    from otbr_fast.report.demo_files import MODEL, TEST_IMAGES

    Console().print(metric_table(report.rows))
    print_text(GLOSSARY, NO_HINDSIGHT)
    typer.echo(f"\nPicture: {out / _PICTURE}   numbers: {out / _NUMBERS}")
    typer.echo("The network and its test images are kept, to go on with:")
    typer.echo(f"  otbr-fast sweep {out / MODEL} --data {out / TEST_IMAGES} --mode paper")
