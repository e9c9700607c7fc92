"""What an attack is tried on: training and test images, and a network for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from otbr_fast.cli.subject import (
    ModelOptions,
    Network,
    Subject,
    checked,
    join_numbers,
    open_network,
    parse_numbers,
)

if TYPE_CHECKING:
    from torch import nn

    from otbr_fast.evaluate import LabeledImages
    from otbr_fast.models import InputSpec

DEFAULT_ARCH = "preactresnet18"


@dataclass(frozen=True)
class LabOptions:
    """What the command line says about the data and the network; ``None`` is found out."""

    data: Path
    test: Path
    dataset: str | None
    start_from: Path | None
    network: ModelOptions
    width: float | None
    seed: int


@dataclass(frozen=True)
class Lab:
    """Images to train and test on, and a network with its first weights."""

    train: LabeledImages
    test: LabeledImages
    dataset: str
    model: nn.Module
    arch: str
    num_classes: int
    inputs: InputSpec

    def settings(self) -> dict[str, object]:
        """Return what was found out, as typed on the command line."""
        mean, std = self.inputs.mean, self.inputs.std
        return {
            "dataset": self.dataset,
            "arch": self.arch,
            "input_shape": join_numbers(self.inputs.shape),
            "mean": None if mean is None else join_numbers(mean),
            "std": None if std is None else join_numbers(std),
        }


def open_lab(options: LabOptions) -> Lab:
    """Read the images, and read the network to start from or build a new one.

    Raises
    ------
    EvaluationDataError
        Images cannot be read, or those to test on do not fit those to train on.
    CheckpointError
        The network cannot be read, or there is no such architecture.
    UnsupportedModelError
        The images are too small for the architecture.
    typer.BadParameter
        An option is malformed, or is told by the network to start from.
    """
    from otbr_fast.models import check_inputs, new_model

    start = (
        None if options.start_from is None else open_network(options.start_from, options.network)
    )
    if start is not None and options.width is not None:
        raise typer.BadParameter("is told by the weights of --start-from", param_hint="--width")
    train, test = _read(options, start)
    dataset = options.dataset or options.data.stem
    inputs = start.inputs if isinstance(start, Subject) else _inputs(train, dataset, options)
    if start is not None:
        lab = Lab(train, test, dataset, start.model, start.arch, start.num_classes, inputs)
    else:
        arch, n_classes = options.network.arch or DEFAULT_ARCH, int(train.labels.max()) + 1
        width = 1.0 if options.width is None else options.width
        model = new_model(arch, inputs.shape[0], n_classes, width=width, seed=options.seed)
        check_inputs(model, inputs, n_classes)
        lab = Lab(train, test, dataset, model, arch, n_classes, inputs)
    _check_test(lab)
    return lab


def _read(options: LabOptions, start: Network | None) -> tuple[LabeledImages, LabeledImages]:
    from otbr_fast.errors import EvaluationDataError
    from otbr_fast.evaluate import load_images
    from otbr_fast.evaluate.folders import class_names

    if options.data.is_dir() and options.test.is_dir():
        names = [class_names(folder) for folder in (options.data, options.test)]
        if names[0] != names[1]:
            strange = sorted(set(names[0]) ^ set(names[1]))[:5]
            raise EvaluationDataError(
                f"{options.data} and {options.test} have other subfolders ({', '.join(strange)}), "
                "so their classes would not be the same ones: add empty folders where needed."
            )
    shape = (
        start.inputs.shape
        if isinstance(start, Subject)
        else parse_numbers(options.network.input_shape, int, "--input-shape", 3)
    )
    train = load_images(
        options.data, shape=None if shape is None else (shape[0], shape[1], shape[2])
    )
    _, channels, height, width = train.images.shape
    return train, load_images(options.test, shape=(channels, height, width))


def _inputs(train: LabeledImages, dataset: str, options: LabOptions) -> InputSpec:
    """Return what a network for these images is fed."""
    from otbr_fast.evaluate.attacks import measured_inputs
    from otbr_fast.io.datasets import NORMALIZATION
    from otbr_fast.models import InputSpec

    mean = parse_numbers(options.network.mean, float, "--mean")
    std = parse_numbers(options.network.std, float, "--std")
    if mean is None and std is None:
        if dataset not in NORMALIZATION:
            return measured_inputs(train)
        mean, std = NORMALIZATION[dataset] or (None, None)
    return checked(
        lambda: InputSpec(
            shape=tuple(train.images.shape[1:]),  # type: ignore[arg-type]
            mean=mean,
            std=std,
        )
    )


def _check_test(lab: Lab) -> None:
    from otbr_fast.errors import EvaluationDataError
    from otbr_fast.evaluate import EvaluationSet

    shape = tuple(lab.test.images.shape[1:])
    if shape != lab.inputs.shape:
        raise EvaluationDataError(
            f"the test images have shape {shape}, but the network is fed {lab.inputs.shape} "
            "(channels, height, width)."
        )
    EvaluationSet(lab.test).check_classes(lab.num_classes)
