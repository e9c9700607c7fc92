"""``otbr-fast repair``: a mitigated network from a suspicious one, without data."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import choose_device, limit_threads
from otbr_fast.cli.config_file import config_text, resolved_config
from otbr_fast.cli.dry_run import show_estimate
from otbr_fast.cli.evaluation_data import (
    DataOptions,
    EvaluationData,
    measure_with,
    open_evaluation_data,
)
from otbr_fast.cli.method import make_config, number_or_auto
from otbr_fast.cli.output import StageClock, print_json, print_text, progress_bars
from otbr_fast.cli.shards import OPTION, require_safetensors, shard_bytes
from otbr_fast.cli.subject import ModelOptions, Subject, open_subject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from otbr_fast.evaluate import Metrics
    from otbr_fast.repair import Candidate, RepairResult


def command(
    ctx: typer.Context,
    model: common.Model,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.safetensors",
            help="The mitigated model, in the model's own types; OUT.json and OUT.config.yaml go "
            "beside it. For a record it may be left out: the result goes to RECORD/defense/otbr/.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="REPORT.html",
            help="A page that shows the verdict, the choice and what was done; its data go beside "
            "it as .json.",
            show_default="none",
        ),
    ] = None,
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
    gamma: common.Gamma = None,
    lambda_: common.Lambda = None,
    ranking: common.Ranking = None,
    suspect: common.Suspect = None,
    distil_steps: common.DistilSteps = None,
    mode: common.Mode = None,
    channels: common.Channels = None,
    steps: common.Steps = None,
    lr: common.LearningRate = None,
    momentum: common.Momentum = None,
    batch_size: common.BatchSize = None,
    seed: common.Seed = None,
    device: common.Device = "auto",
    threads: common.Threads = None,
    max_shard_size: common.MaxShardSize = None,
    overwrite: common.Overwrite = False,
    dry_run: common.DryRun = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Mitigate a network's backdoor: nothing but its weights is needed.

    Images are used only to measure, before and after, never to repair: those given, and where the
    result goes into a record, the record's poisoned ones, if they are there, for BackdoorBench's
    summary.
    """
    settings = make_config(
        gamma=number_or_auto(gamma, "--gamma"),
        lambda_=number_or_auto(lambda_, "--lambda"),
        ranking=ranking,
        suspect=suspect,
        distil_steps=distil_steps,
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

    from otbr_fast.io import read_channels

    graph = None if channels is None else read_channels(channels)
    if dry_run:
        gammas, lambdas = len(settings.gammas), len(settings.lambdas)
        show_estimate(subject, settings, graph, gammas, lambdas, json=json)
        return
    outputs = _Outputs.choose(subject, out, max_shard_size, report)
    outputs.check(overwrite)

    from otbr_fast.evaluate import Metrics
    from otbr_fast.repair import repair

    with progress_bars() as tell:
        evaluation = _evaluation(subject, outputs, DataOptions(data, trigger, target, limit))
        clock = StageClock(tell)
        measured = _Measured(measure_with(subject, evaluation, chosen_device, clock))
        measured.look("before", subject.model)
        result = repair(
            subject.model,
            subject.inputs,
            settings,
            channels=graph,
            device=chosen_device,
            progress=clock,
            watch=None if report is None else measured.watch,
        )
        weights = subject.checkpoint.keep_types(result.model)  # before it is measured
        measured.look("after", result.model)
        timings = clock.stop()
    used = {**subject.settings(), **settings.model_dump(), "device": chosen_device, "out": out}
    used |= {"report": report, **(asdict(evaluation.options) if evaluation else {})}
    document = {
        **subject.description().model_dump(mode="json", exclude_none=True),
        "repair": {"source_sha256": subject.checkpoint.sha256, **result.to_dict()},
    }
    summary = _summary(result, measured.of.get("after", Metrics()))
    outputs.write(subject, weights, summary, document, resolved_config(ctx, **used), overwrite)
    if report is not None:
        _write_report(report, model, subject, result, evaluation, measured, timings, overwrite)
    if json:
        figures = {name: asdict(metrics) for name, metrics in measured.of.items()}
        paths = [str(path) for path in outputs.paths]
        print_json({"written": paths, "measured": figures or None, **document})
    else:
        _show(result, measured, outputs)


class _Measured:
    """Metrics of the networks looked at: "before", "after", and the candidates in between.

    Parameters
    ----------
    measure : callable, optional
        Without it nothing is measured.
    """

    def __init__(self, measure: Callable[[nn.Module], Metrics] | None) -> None:
        self._measure = measure
        self.of: dict[str, Metrics] = {}
        self.candidates: list[Metrics] = []

    def look(self, name: str, network: nn.Module) -> None:
        if self._measure is not None:
            self.of[name] = self._measure(network)

    def watch(self, _: Candidate, network: nn.Module) -> None:
        if self._measure is not None:
            self.candidates.append(self._measure(network))


@dataclass(frozen=True)
class _Outputs:
    """Where the results go: to a file of weights, or into a BackdoorBench record."""

    weights: Path
    files: tuple[Path, ...]
    shard_bytes: int | None
    record_summary: Path | None
    report: Path | None
    former: Path  # the description of what is to be repaired

    @classmethod
    def choose(
        cls, subject: Subject, out: Path | None, max_shard_size: str | None, report: Path | None
    ) -> _Outputs:
        from otbr_fast.io import defense_paths, safetensors_paths

        checkpoint = subject.checkpoint
        if out is None:
            if checkpoint.record is None:
                raise typer.BadParameter("is needed, unless MODEL is a record", param_hint="--out")
            if max_shard_size is not None:
                raise typer.BadParameter("needs --out: records have one file", param_hint=OPTION)
            weights, summary = defense_paths(checkpoint.record.folder)
            return cls(weights, (weights,), None, summary, report, checkpoint.description_path)
        require_safetensors(out)
        size = shard_bytes(max_shard_size, checkpoint)
        files = safetensors_paths(checkpoint.state_dict, out, size)
        return cls(out, files, size, None, report, checkpoint.description_path)

    @property
    def description(self) -> Path:
        return self.weights.with_suffix(".json")

    @property
    def config(self) -> Path:
        return self.weights.with_suffix(".config.yaml")

    @property
    def paths(self) -> list[Path]:
        record = [] if self.record_summary is None else [self.record_summary]
        return [*self.files, *record, self.description, self.config, *self.report_files]

    @property
    def report_files(self) -> tuple[Path, ...]:
        from otbr_fast.report.html_page import report_paths

        return () if self.report is None else report_paths(self.report)

    def check(self, overwrite: bool) -> None:
        from otbr_fast.io import check_absent
        from otbr_fast.io.files import check_can_be_files
        from otbr_fast.io.shards import index_path
        from otbr_fast.report.html_page import require_jinja2

        if self.report is not None:
            require_jinja2()
            described = {path.resolve(): path for path in (self.description, self.former)}
            for path in self.report_files:
                if path.resolve() in described:
                    raise typer.BadParameter(
                        f"its data would go to {described[path.resolve()]}, which describes a "
                        "model; give the page another name",
                        param_hint="--report",
                    )
        check_can_be_files(self.paths)
        check_absent([self.weights, index_path(self.weights), *self.paths], overwrite)

    def write(
        self,
        subject: Subject,
        weights: dict[str, Tensor],
        summary: dict[str, object],
        document: dict[str, object],
        settings: dict[str, object],
        overwrite: bool,
    ) -> None:
        from otbr_fast.io import save_defense_result, save_safetensors
        from otbr_fast.report import json_text, write_texts

        texts = {self.description: json_text(document), self.config: config_text(settings)}
        record = subject.checkpoint.record
        if self.record_summary is None or record is None:
            save_safetensors(
                weights, self.weights, max_shard_bytes=self.shard_bytes, overwrite=overwrite
            )
        else:
            save_defense_result(
                record.folder,
                record.model_name,
                subject.num_classes,
                weights,
                summary,
                overwrite=overwrite,
            )
        write_texts(texts, overwrite=overwrite)


def _evaluation(subject: Subject, outputs: _Outputs, options: DataOptions) -> EvaluationData | None:
    """Read the images to measure on: those given, or a record's own for its summary.

    They are read at once: what is wrong with them is told before the work.
    """
    record = subject.checkpoint.record
    has_own = record is not None and any(image.path.is_file() for image in record.poisoned)
    if options != DataOptions() or (outputs.record_summary is not None and has_own):
        return open_evaluation_data(subject, options)
    return None


def _summary(result: RepairResult, metrics: Metrics) -> dict[str, object]:
    """Return the row of BackdoorBench's summary."""
    return {
        "test_acc": metrics.acc,
        "test_asr": metrics.asr,
        "test_ra": metrics.ra,
        **result.config.model_dump(mode="json", exclude={"n_threads"}),
    }


def _write_report(
    path: Path,
    model: Path,
    subject: Subject,
    result: RepairResult,
    evaluation: EvaluationData | None,
    measured: _Measured,
    timings: dict[str, float],
    overwrite: bool,
) -> None:
    from otbr_fast.report import repair_report as parts
    from otbr_fast.report.html_page import write_report
    from otbr_fast.report.repair_filling import Background, repair_report, triggered_examples

    known = subject.checkpoint.description
    told = "" if evaluation is None else evaluation.sentence()
    poisoned = None if evaluation is None else evaluation.images.poisoned
    background = Background(
        asked="Is there a backdoor in this network? If there is a sign of one, mitigate it "
        "without data.",
        subject=parts.Subject(
            name=model.name,
            architecture=subject.arch,
            num_classes=subject.num_classes,
            class_names=(known.class_names if known else None) or (),
            dataset=known.dataset if known else None,
            input_shape=subject.inputs.shape,
        ),
        command=shlex.join(["otbr-fast", *sys.argv[1:]]),
        hashes={model.name: subject.checkpoint.sha256},
        timings=timings,
        before=measured.of.get("before"),
        after=measured.of.get("after"),
        candidates=measured.candidates,
        evaluation=told,
        triggered=()
        if poisoned is None
        else triggered_examples(poisoned, subject.inputs, subject.model, result.model),
    )
    page = repair_report(subject.model, subject.inputs, result, background)
    write_report(page, path, overwrite=overwrite)


def _show(result: RepairResult, measured: _Measured, outputs: _Outputs) -> None:
    from rich.console import Console

    from otbr_fast.report import candidate_table, layer_table, measured_table

    console = Console()
    if result.evidence is not None:
        print_text(f"Verdict: {result.evidence.verdict}.")
    if not result.is_changed:
        print_text(
            "The weights were left as they are. No sign found is no proof that there is no "
            "backdoor; --gamma or --suspect repairs all the same."
        )
    else:
        if result.evidence is not None:
            by = " and ".join(
                f"{way.kind} probes (lead over other classes {way.lead:.2f})"
                for way in result.evidence.ways
            )
            print_text(f"Repaired against class {result.evidence.suspect}, by {by}.")
        console.print(layer_table(result.layers))
        if result.candidates:
            console.print(candidate_table(result))
        if measured.of:
            console.print(measured_table(measured.of["before"], measured.of["after"]))
        print_text(
            f"Mitigated: {result.n_pruned} of {result.n_neurons} neurons pruned and fused back, "
            f"transport cost {result.ot_cost:.6g}. This is no proof that the backdoor is gone; "
            "measure the result where you can (otbr-fast evaluate)."
        )
    for path in outputs.paths:
        typer.echo(f"wrote {path}")
