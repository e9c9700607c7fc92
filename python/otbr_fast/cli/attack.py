"""``otbr-fast attack``: train a network with a backdoor, or without, to try defences on."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import choose_device, limit_threads
from otbr_fast.cli.config_file import config_text, resolved_config
from otbr_fast.cli.lab import DEFAULT_ARCH, Lab, LabOptions, open_lab
from otbr_fast.cli.output import print_json, print_text, progress_bars
from otbr_fast.cli.subject import ModelOptions, checked

if TYPE_CHECKING:
    from otbr_fast.evaluate.attacks import Outcome, Poisoning, Recipe

_NONE = "none"
_STATE, _CONFIG = "training_state.pt", "attack.config.yaml"
_LR, _BRANCH_LR = 0.1, 0.04

_DATA_PANEL = "The data: an npz file, or a folder with a subfolder for each class"
_NETWORK_PANEL = "The network"
_ATTACK_PANEL = "The attack"
_TRAINING_PANEL = "The training"


def command(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="badnet, blended, sig, low_frequency, trojan, wanet, input_aware, ssba_like, or "
            "none for an unattacked network.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="TRAIN", help="Training images.", rich_help_panel=_DATA_PANEL, exists=True
        ),
    ],
    test: Annotated[
        Path,
        typer.Option(metavar="TEST", help="Test images.", rich_help_panel=_DATA_PANEL, exists=True),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for the network and, of an attack, the BackdoorBench record. A training "
            "that was broken off goes on from here.",
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The data's name; of a known one (cifar10, cifar100, gtsrb, tiny, imagenet, "
            "mnist, celeba) the normalisation is BackdoorBench's.",
            show_default="the file's name",
            rich_help_panel=_DATA_PANEL,
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            metavar="C,H,W",
            help="Shape that a folder's images are brought to.",
            show_default="as they are",
            rich_help_panel=_DATA_PANEL,
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="M,...",
            help="Normalisation: mean of each channel.",
            show_default="of the known data, or measured",
            rich_help_panel=_DATA_PANEL,
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            metavar="S,...",
            help="Normalisation: standard deviation of each channel.",
            show_default="of the known data, or measured",
            rich_help_panel=_DATA_PANEL,
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Architecture, such as preactresnet18 or vgg16_bn.",
            show_default=DEFAULT_ARCH,
            rich_help_panel=_NETWORK_PANEL,
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            metavar="W",
            help="Of all layers, as a fraction of the literature's.",
            show_default="1.0",
            rich_help_panel=_NETWORK_PANEL,
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Go on from a trained or half-trained network, without warm-up.",
            show_default="random weights",
            rich_help_panel=_NETWORK_PANEL,
        ),
    ] = None,
    target: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=0,
            help="The class that the trigger leads to (all2one).",
            show_default="0",
            rich_help_panel=_ATTACK_PANEL,
        ),
    ] = None,
    poison_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Poisoned part of the training images.",
            show_default="0.1",
            rich_help_panel=_ATTACK_PANEL,
        ),
    ] = None,
    label_mode: Annotated[
        str | None,
        typer.Option(
            metavar="all2one|all2all",
            help="One target for all images, or the class after their own.",
            show_default="all2one",
            rich_help_panel=_ATTACK_PANEL,
        ),
    ] = None,
    strength: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="Settings of the attack, such as alpha=0.1 (blended), s=1,cross_ratio=0 (wanet).",
            show_default="the literature's",
            rich_help_panel=_ATTACK_PANEL,
        ),
    ] = None,
    epochs: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Passes over the images.", rich_help_panel=_TRAINING_PANEL
        ),
    ] = 30,
    batch_size: Annotated[
        int,
        typer.Option(metavar="N", min=2, help="Images in a step.", rich_help_panel=_TRAINING_PANEL),
    ] = 128,
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="LR",
            help="Highest learning rate; it falls in a line to --lr-end.",
            show_default=f"{_LR}, or {_BRANCH_LR} with --start-from",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = None,
    lr_end: Annotated[
        float,
        typer.Option(
            metavar="LR",
            help="Last learning rate; above 0 for a network to branch attacks from.",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = 0.0,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip/--no-flip",
            help="Mirror images at random; not for digits, letters or road signs.",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = True,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=common.LARGEST_SEED,
            help="Of the first weights, the trigger, what is poisoned, and the training.",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = 0,
    device: common.Device = "auto",
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Train a network on poisoned data, and keep it as a record that the defences read."""
    chosen_device = choose_device(device)
    limit_threads(threads)

    from otbr_fast.evaluate.attacks import Outcome, outcome_paths, train
    from otbr_fast.io import check_absent, write_file

    check_absent([*outcome_paths(out), out / _CONFIG], overwrite)
    highest = (_LR if start_from is None else _BRANCH_LR) if lr is None else lr
    recipe = _recipe(
        start_from, epochs=epochs, batch_size=batch_size, lr=highest, lr_end=lr_end, flip=flip
    )
    network = ModelOptions(arch, input_shape, None, mean, std)
    lab = open_lab(LabOptions(data, test, dataset, start_from, network, width, seed))
    poisoning = _poisoning(name, lab, seed, strength, target, poison_ratio, label_mode)
    started = time.perf_counter()
    with progress_bars() as tell:
        model = train(
            lab.model,
            lab.train,
            lab.inputs,
            recipe,
            poisoning,
            seed=seed,
            device=chosen_device,
            state_file=out / _STATE,
            progress=tell,
        )
        outcome = Outcome.measure(
            model,
            lab.arch,
            lab.inputs,
            poisoning,
            lab.test,
            dataset=lab.dataset,
            seed=seed,
            device=chosen_device,
            progress=tell,
        )
    document = {
        "out": str(out),
        "model": outcome.description(),
        "recipe": recipe.model_dump(),
        "n_train": len(lab.train),
        "n_test": len(lab.test),
        "device": chosen_device,
        "seconds": time.perf_counter() - started,
    }
    outcome.save(out, data_path=data, overwrite=overwrite)
    used = {**lab.settings(), "lr": highest, "device": chosen_device}
    with write_file(out / _CONFIG, overwrite) as draft:
        draft.write_text(config_text(resolved_config(ctx, **used)), encoding="utf-8")
    (out / _STATE).unlink()
    if json:
        print_json(document)
    else:
        _show(outcome, out)


def _recipe(start_from: Path | None, **settings: object) -> Recipe:
    from otbr_fast.evaluate.attacks import Recipe

    if start_from is not None:
        settings["warmup"] = 0.0
    return checked(lambda: Recipe.model_validate(settings))


def _poisoning(
    name: str,
    lab: Lab,
    seed: int,
    strength: str | None,
    target: int | None,
    poison_ratio: float | None,
    label_mode: str | None,
) -> Poisoning | None:
    """Return the attack that was asked for, checked against the data, or ``None``."""
    from otbr_fast.evaluate.attacks import Poisoning, make_attack

    settings = {"target": target, "poison_ratio": poison_ratio, "label_mode": label_mode}
    given = {key: value for key, value in settings.items() if value is not None}
    if name == _NONE:
        for key in ("strength", *given) if strength else given:
            option = f"--{key.replace('_', '-')}"
            raise typer.BadParameter("has no use without an attack", param_hint=option)
        return None
    if target is not None and label_mode == "all2all":
        raise typer.BadParameter("all2all has no single target", param_hint="--target")
    attack = make_attack(name, lab.inputs.shape[0], seed, **_numbers(strength))
    poisoning = Poisoning(attack, lab.num_classes, **given)  # type: ignore[arg-type]
    poisoning.poisonable(lab.test.labels)
    return poisoning


def _numbers(strength: str | None) -> dict[str, float]:
    """Read ``KEY=VALUE,...``."""
    numbers: dict[str, float] = {}
    for part in strength.split(",") if strength else ():
        key, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if key.strip() in numbers or not math.isfinite(number):
            raise typer.BadParameter(
                f"{part!r} should be KEY=NUMBER, a finite one, with commas between several, each "
                "key once",
                param_hint="--strength",
            )
        numbers[key.strip()] = number
    return numbers


def _show(outcome: Outcome, out: Path) -> None:
    metrics = {"ACC": "acc", "ASR": "asr", "RA": "ra", "TCR": "tcr"}
    measured = {name: getattr(outcome.metrics, key) for name, key in metrics.items()}
    shown = ", ".join(
        f"{name} {100 * value:.1f} %" for name, value in measured.items() if value is not None
    )
    print_text(f"{outcome.model_name}: {shown}", f"Written to {out}.")
