"""``otbr-fast verdict``: is there a sign of a backdoor? Nothing is changed or written."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import choose_device, limit_threads
from otbr_fast.cli.method import make_config
from otbr_fast.cli.output import print_json, print_text, progress_bars
from otbr_fast.cli.subject import ModelOptions, open_subject

if TYPE_CHECKING:
    from otbr_fast.repair import Verdict

SIGN_FOUND, CANNOT_TELL = 3, 4
"""Exit statuses where there is a sign of a backdoor, and where classes are too few; 0: no sign."""


def command(
    model: common.Model,
    arch: common.Arch = None,
    input_shape: common.InputShape = None,
    input_range: common.InputRange = None,
    mean: common.Mean = None,
    std: common.Std = None,
    num_classes: common.NumClasses = None,
    seed: common.Seed = None,
    device: common.Device = "auto",
    threads: common.Threads = None,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Look for a sign of a backdoor, without data: exit status 3 if there is one, 0 if not.

    With fewer than four classes none can stand out: exit status 4.
    """
    settings = make_config(seed=seed)
    chosen_device = choose_device(device)
    limit_threads(threads)
    subject = open_subject(
        model, ModelOptions(arch, input_shape, input_range, mean, std, num_classes)
    )

    from otbr_fast.repair import gather_verdict

    with progress_bars() as tell:
        verdict = gather_verdict(
            subject.model,
            subject.inputs,
            subject.num_classes,
            settings,
            device=chosen_device,
            progress=tell,
        ).verdict
    if json:
        told = {"suspect": verdict.suspect, **asdict(verdict), "summary": str(verdict)}
        print_json({"model": str(model), "sha256": subject.checkpoint.sha256, **told})
    else:
        _show(verdict)
    if verdict.p_value is None:
        raise typer.Exit(CANNOT_TELL)
    if verdict.suspect is not None:
        raise typer.Exit(SIGN_FOUND)


def _show(verdict: Verdict) -> None:
    from rich.console import Console

    from otbr_fast.report import verdict_table

    Console().print(verdict_table(verdict))
    print_text(f"Verdict: {verdict}.", "A sign is no proof, and neither is its absence.")
