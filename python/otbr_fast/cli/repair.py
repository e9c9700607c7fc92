"""``otbr-fast repair``: a mitigated network from a suspicious one, without data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import choose_device, limit_threads
from otbr_fast.cli.config_file import config_text, resolved_config
from otbr_fast.cli.method import make_config
from otbr_fast.cli.output import print_json, print_text, progress_bars
from otbr_fast.cli.subject import ModelOptions, Subject, open_subject

if TYPE_CHECKING:
    from torch import nn

    from otbr_fast.evaluate import Metrics
    from otbr_fast.repair import Progress, RepairResult


def command(
    ctx: typer.Context,
    model: common.Model,
    gamma: Annotated[
        float,
        typer.Option(
            metavar="G",
            help="Fraction of all neurons to prune, in (0, 1). Nobody knows yet how to choose it "
            "without data; the paper tries 0.01 to 0.3.",
            rich_help_panel="The method",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.safetensors",
            help="The mitigated model; OUT.json and OUT.config.yaml go beside it. For a record it "
            "may be left out: the result goes to RECORD/defense/otbr/.",
        ),
    ] = None,
    arch: common.Arch = None,
    input_shape: common.InputShape = None,
    input_range: common.InputRange = None,
    mean: common.Mean = None,
    std: common.Std = None,
    num_classes: common.NumClasses = None,
    lambda_: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            metavar="L",
            help="Share of the transported pruned network in the fusion, in [0, 1].",
            show_default="0.5",
            rich_help_panel="The method",
        ),
    ] = None,
    mode: common.Mode = None,
    steps: common.Steps = None,
    lr: common.LearningRate = None,
    momentum: common.Momentum = None,
    batch_size: common.BatchSize = None,
    seed: common.Seed = None,
    device: common.Device = "auto",
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Mitigate a network's backdoor: nothing but its weights is needed.

    Where the result goes into a record, the record's poisoned images, if they are there, are used
    afterwards to fill BackdoorBench's summary, never to repair.
    """
    settings = make_config(
        gamma=gamma,
        lambda_=lambda_,
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
    outputs = _Outputs.choose(subject, out)
    outputs.check(overwrite)

    from otbr_fast.repair import repair

    with progress_bars() as tell:
        measure = _measure(subject, outputs, chosen_device, tell)
        result = repair(
            subject.model, subject.inputs, settings, device=chosen_device, progress=tell
        )
        summary = _summary(result, measure)
    used = {**subject.settings(), **settings.model_dump(), "device": chosen_device, "out": out}
    document = {
        **subject.description().model_dump(mode="json", exclude_none=True),
        "repair": {"source_sha256": subject.checkpoint.sha256, **result.to_dict()},
    }
    outputs.write(subject, result, summary, document, resolved_config(ctx, **used), overwrite)
    if json:
        print_json({"written": [str(path) for path in outputs.paths], **document})
    else:
        _show(result, outputs)


@dataclass(frozen=True)
class _Outputs:
    """Where the results go: to a file of weights, or into a BackdoorBench record."""

    weights: Path
    record_summary: Path | None

    @classmethod
    def choose(cls, subject: Subject, out: Path | None) -> _Outputs:
        from otbr_fast.io import defense_paths

        record = subject.checkpoint.record
        if out is None:
            if record is None:
                raise typer.BadParameter("is needed, unless MODEL is a record", param_hint="--out")
            return cls(*defense_paths(record.folder))
        if out.suffix != ".safetensors":
            raise typer.BadParameter(f"{out} must end in .safetensors", param_hint="--out")
        return cls(out, None)

    @property
    def description(self) -> Path:
        return self.weights.with_suffix(".json")

    @property
    def config(self) -> Path:
        return self.weights.with_suffix(".config.yaml")

    @property
    def paths(self) -> list[Path]:
        record = [] if self.record_summary is None else [self.record_summary]
        return [self.weights, *record, self.description, self.config]

    def check(self, overwrite: bool) -> None:
        from otbr_fast.io import check_absent

        check_absent(self.paths, overwrite)

    def write(
        self,
        subject: Subject,
        result: RepairResult,
        summary: dict[str, object],
        document: dict[str, object],
        settings: dict[str, object],
        overwrite: bool,
    ) -> None:
        from otbr_fast.io import save_defense_result, save_safetensors
        from otbr_fast.report import json_text, write_texts

        texts = {self.description: json_text(document), self.config: config_text(settings)}
        state_dict = result.model.state_dict()
        record = subject.checkpoint.record
        if self.record_summary is None or record is None:
            save_safetensors(state_dict, self.weights, overwrite=overwrite)
        else:
            save_defense_result(
                record.folder,
                record.model_name,
                subject.num_classes,
                state_dict,
                summary,
                overwrite=overwrite,
            )
        write_texts(texts, overwrite=overwrite)


def _measure(
    subject: Subject, outputs: _Outputs, device: str, tell: Progress
) -> Callable[[nn.Module], Metrics] | None:
    """Return what measures for a record's summary; ``None`` without one, or without images.

    The images are read at once: what is wrong with them is told before the work.
    """
    from otbr_fast.cli.evaluation_data import DataOptions, measure_with, open_evaluation_data

    record = subject.checkpoint.record
    if outputs.record_summary is None or record is None:
        return None
    if not any(image.path.is_file() for image in record.poisoned):
        return None
    return measure_with(subject, open_evaluation_data(subject, DataOptions()), device, tell)


def _summary(
    result: RepairResult, measure: Callable[[nn.Module], Metrics] | None
) -> dict[str, object]:
    """Return the row of BackdoorBench's summary."""
    from otbr_fast.evaluate import Metrics

    metrics = Metrics() if measure is None else measure(result.model)
    return {
        "test_acc": metrics.acc,
        "test_asr": metrics.asr,
        "test_ra": metrics.ra,
        **result.config.model_dump(mode="json", exclude={"n_threads"}),
    }


def _show(result: RepairResult, outputs: _Outputs) -> None:
    from rich.console import Console

    from otbr_fast.report import layer_table

    Console().print(layer_table(result.layers))
    print_text(
        f"Mitigated: {result.n_pruned} of {result.n_neurons} neurons pruned and fused back, "
        f"transport cost {result.ot_cost:.6g}. This is no proof that the backdoor is gone; "
        "measure the result where you can (otbr-fast evaluate)."
    )
    for path in outputs.paths:
        typer.echo(f"wrote {path}")
