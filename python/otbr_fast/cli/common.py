"""The options that several commands share, as typer annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otbr_fast.cli.config_file import load_config

_MODEL_PANEL = "What the model is (its description, if it has one, need not be repeated)"
_METHOD_PANEL = "The method"
_DATA_PANEL = "Evaluation data"
_RUN_PANEL = "How to run"

Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A .safetensors, .pt or .pth file, the index or folder of one in shards, or a "
        "BackdoorBench record folder.",
        show_default=False,
    ),
]

Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME",
        help="Architecture, such as preactresnet18 or vgg16_bn.",
        show_default="from the weights",
        rich_help_panel=_MODEL_PANEL,
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        metavar="C,H,W",
        help="Channels, height and width of an input, such as 3,32,32.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
InputRange = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="Range of a raw input, before normalisation.",
        show_default="0,1",
        rich_help_panel=_MODEL_PANEL,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="M,...",
        help="Normalisation: mean of each channel.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="S,...",
        help="Normalisation: standard deviation of each channel.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Number of classes; a model of another number is refused.",
        show_default="from the weights",
        rich_help_panel=_MODEL_PANEL,
    ),
]

Mode = Annotated[
    str | None,
    typer.Option(
        metavar="default|paper",
        help="'paper' reproduces the published implementation, defects included.",
        show_default="default",
        rich_help_panel=_METHOD_PANEL,
    ),
]
Gamma = Annotated[
    str | None,
    typer.Option(
        metavar="G|auto",
        help="Fraction of all neurons to prune, in (0, 1). 'auto' chooses it without data, and "
        "leaves a network alone in which no sign of a backdoor is found.",
        show_default="auto",
        rich_help_panel=_METHOD_PANEL,
    ),
]
Lambda = Annotated[
    str | None,
    typer.Option(
        "--lambda",
        metavar="L|auto",
        help="Share of the transported pruned network in the fusion, in [0, 1].",
        show_default="auto (0.5 in paper mode and with --ranking nwc)",
        rich_help_panel=_METHOD_PANEL,
    ),
]
Ranking = Annotated[
    str | None,
    typer.Option(
        metavar="response|nwc",
        help="What neurons are ranked by: their response to the perturbation that leads to the "
        "suspected class, or the paper's weight changes.",
        show_default="response",
        rich_help_panel=_METHOD_PANEL,
    ),
]
Suspect = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        min=0,
        help="The class that the backdoor is known to lead to.",
        show_default="the most suspicious one",
        rich_help_panel=_METHOD_PANEL,
    ),
]
Channels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.yaml",
        help="The network's channels, as `inspect --yaml` writes them, corrected by hand.",
        show_default="found by following them through the network",
        rich_help_panel=_METHOD_PANEL,
    ),
]
DistilSteps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Steps of learning back, on surrogate images, what the original knew; 0 for none.",
        show_default="80",
        rich_help_panel=_METHOD_PANEL,
    ),
]

Steps = Annotated[
    int | None,
    typer.Option(
        metavar="I",
        help="Steps of random unlearning, which is for paper mode and --ranking nwc.",
        show_default="20",
        rich_help_panel=_METHOD_PANEL,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        metavar="LR",
        help="Learning rate of unlearning.",
        show_default="0.0001",
        rich_help_panel=_METHOD_PANEL,
    ),
]
Momentum = Annotated[
    float | None,
    typer.Option(
        metavar="M",
        help="Momentum of unlearning.",
        show_default="0.9",
        rich_help_panel=_METHOD_PANEL,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Noise images in a step of unlearning.",
        show_default="256",
        rich_help_panel=_METHOD_PANEL,
    ),
]
LARGEST_SEED = 2**63 - 1
Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=LARGEST_SEED,
        help="Seed of all random numbers.",
        show_default="0",
        rich_help_panel=_METHOD_PANEL,
    ),
]

Data = Annotated[
    Path | None,
    typer.Option(
        metavar="TEST.npz",
        help="Labelled test images ('images' and 'labels', or 'jpeg', 'offset' and 'label').",
        rich_help_panel=_DATA_PANEL,
    ),
]
TriggerFile = Annotated[
    Path | None,
    typer.Option(
        "--trigger",
        metavar="T.npz",
        help="The attack's trigger ('mask' and 'pattern').",
        show_default="MODEL_trigger.npz beside the model",
        rich_help_panel=_DATA_PANEL,
    ),
]
Target = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        min=0,
        max=2**31 - 1,
        help="The attack's target class.",
        show_default="from the description",
        rich_help_panel=_DATA_PANEL,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Use the first N test images only.",
        show_default="all",
        rich_help_panel=_DATA_PANEL,
    ),
]

Device = Annotated[
    str,
    typer.Option(metavar="auto|cpu|cuda:N", help="Where to compute.", rich_help_panel=_RUN_PANEL),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=4096,
        help="CPU threads; the transport's results do not depend on it.",
        show_default="all",
        rich_help_panel=_RUN_PANEL,
    ),
]
MaxShardSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Write weights that are larger into several files with an index; such as 2GB.",
        show_default="files as large as the model's; one if it is one",
        rich_help_panel=_RUN_PANEL,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace files that already exist.", rich_help_panel=_RUN_PANEL
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only tell what pruning and fusing would take in time and memory.",
        rich_help_panel=_RUN_PANEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel=_RUN_PANEL),
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.yaml",
        help="Settings under the options' names; the command line wins.",
        is_eager=True,
        callback=load_config,
        rich_help_panel=_RUN_PANEL,
    ),
]
