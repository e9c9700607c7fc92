"""``otbr-fast evaluate``: how good a network is, and how much of an attack is left in it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import choose_device, limit_threads
from otbr_fast.cli.evaluation_data import DataOptions, measure_with, open_evaluation_data
from otbr_fast.cli.output import print_json, progress_bars
from otbr_fast.cli.subject import ModelOptions, open_subject

_MEANINGS = {
    "acc": "accuracy on images without the trigger",
    "asr": "attack success rate: triggered images taken for the target",
    "ra": "robust accuracy: triggered images taken for what they are",
    "tcr": "recall of the target class on images without the trigger",
}


def command(
    model: common.Model,
    data: common.Data = None,
    trigger: common.TriggerFile = None,
    target: common.Target = None,
    limit: common.Limit = None,
    arch: common.Arch = None,
    input_shape: common.InputShape = None,
    input_range: common.InputRange = None,
    mean: common.Mean = None,
    std: common.Std = None,
    num_classes: common.NumClasses = None,
    device: common.Device = "auto",
    threads: common.Threads = None,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Measure a network on test images, and on those with the attack's trigger."""
    chosen_device = choose_device(device)
    limit_threads(threads)
    subject = open_subject(
        model, ModelOptions(arch, input_shape, input_range, mean, std, num_classes)
    )
    evaluation = open_evaluation_data(subject, DataOptions(data, trigger, target, limit))
    with progress_bars() as tell:
        measure = measure_with(subject, evaluation, chosen_device, tell)
        if evaluation is None or measure is None:
            raise typer.BadParameter("is needed, unless MODEL is a record", param_hint="--data")
        metrics = asdict(measure(subject.model))
    if json:
        print_json({"model": str(model), "evaluation": evaluation.describe(), **metrics})
        return
    for name, meaning in _MEANINGS.items():
        value = metrics[name]
        shown = "     -" if value is None else f"{100 * value:6.2f}"
        typer.echo(f"{name.upper()}  {shown} %  {meaning}")
