"""The network a command works on: from its file, its description and the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from torch import nn

    from otbr_fast.io import Checkpoint, ModelDescription
    from otbr_fast.models import InputSpec

Number = TypeVar("Number", int, float)
Made = TypeVar("Made")


@dataclass(frozen=True)
class ModelOptions:
    """What the command line says about the model; ``None`` leaves it to the description."""

    arch: str | None = None
    input_shape: str | None = None
    input_range: str | None = None
    mean: str | None = None
    std: str | None = None
    num_classes: int | None = None


@dataclass(frozen=True)
class Network:
    """A network from a file."""

    checkpoint: Checkpoint
    model: nn.Module
    arch: str
    num_classes: int


@dataclass(frozen=True)
class Subject(Network):
    """A network and what it is fed."""

    inputs: InputSpec

    def description(self) -> ModelDescription:
        """Return the description that a file of this network's weights needs."""
        from otbr_fast.io import ModelDescription

        known = self.checkpoint.description
        return ModelDescription(
            model_name=self.arch,
            num_classes=self.num_classes,
            class_names=known.class_names if known else None,
            dataset=known.dataset if known else None,
            input_shape=self.inputs.shape,
            input_range=(self.inputs.low, self.inputs.high),
            mean=self.inputs.mean,
            std=self.inputs.std,
            attack=known.attack if known else None,
        )

    def settings(self) -> dict[str, object]:
        """Return the options that describe this network, as typed on the command line."""
        inputs = self.inputs
        return {
            "arch": self.arch,
            "input_shape": join_numbers(inputs.shape),
            "input_range": join_numbers((inputs.low, inputs.high)),
            "mean": None if inputs.mean is None else join_numbers(inputs.mean),
            "std": None if inputs.std is None else join_numbers(inputs.std),
            "num_classes": self.num_classes,
        }


def open_subject(path: Path, options: ModelOptions) -> Subject:
    """Load a model that is to be fed, without running anything that is in its file.

    Raises
    ------
    CheckpointError
        The file is refused, damaged, or does not fit its architecture or number of classes.
    UnsupportedModelError
        The network does not take inputs of this shape.
    typer.BadParameter
        An option is malformed, or the shape of the input is not known.
    """
    network = open_network(path, options)
    if not isinstance(network, Subject):
        raise no_input_shape()
    return network


def open_network(path: Path, options: ModelOptions) -> Network:
    """Load a model as `open_subject` does: a `Subject`, unless nothing is told of its inputs."""
    from otbr_fast.errors import CheckpointError
    from otbr_fast.io import load_checkpoint
    from otbr_fast.models import check_inputs, num_classes

    checkpoint = load_checkpoint(path)
    inputs = inputs_of(checkpoint, options)
    model, arch = checkpoint.build(options.arch)
    found = num_classes(model)
    if options.num_classes not in (None, found):
        raise CheckpointError(
            f"{path} has {found} classes, not the {options.num_classes} of --num-classes: "
            "check that this is the right file, or leave the option out."
        )
    names = checkpoint.description.class_names if checkpoint.description else None
    if names is not None and len(names) != found:
        raise CheckpointError(
            f"{path} has {found} classes, but its description names {len(names)} (class_names): "
            "correct it, or leave the names out."
        )
    if inputs is None:
        return Network(checkpoint, model, arch, found)
    check_inputs(model, inputs, found)
    return Subject(checkpoint, model, arch, found, inputs)


def inputs_of(checkpoint: Checkpoint, options: ModelOptions) -> InputSpec | None:
    """Return what a network is fed, by the options and its description, if anything is told."""
    from otbr_fast.models import InputSpec

    known = checkpoint.description
    base = known.input_spec() if known else None
    given: dict[str, object] = {
        "shape": parse_numbers(options.input_shape, int, "--input-shape", 3),
        "mean": parse_numbers(options.mean, float, "--mean"),
        "std": parse_numbers(options.std, float, "--std"),
    }
    limits = parse_numbers(options.input_range, float, "--input-range", 2)
    if limits is not None:
        given["low"], given["high"] = limits
    merged = {
        **(base.model_dump() if base else {}),
        **{key: value for key, value in given.items() if value is not None},
    }
    if not merged:
        return None
    if "shape" not in merged:
        raise no_input_shape()
    return checked(lambda: InputSpec.model_validate(merged))


def no_input_shape() -> typer.BadParameter:
    """Return the error that the shape of a network's input is needed."""
    return typer.BadParameter(
        "the model comes without a description; tell what it is fed, such as 3,32,32 "
        "(and --mean and --std if its inputs are normalised)",
        param_hint="--input-shape",
    )


def checked(make: Callable[[], Made]) -> Made:
    """Make a pydantic model of options; what is wrong with them becomes a usage error."""
    from pydantic import ValidationError

    try:
        return make()
    except ValidationError as error:
        faults = (
            ": ".join([*(str(part).rstrip("_") for part in fault["loc"]), fault["msg"]])
            for fault in error.errors()
        )
        raise typer.BadParameter("; ".join(faults)) from None


def parse_numbers(
    text: str | None, kind: type[Number], option: str, count: int | None = None
) -> tuple[Number, ...] | None:
    """Read numbers with commas between them; a usage error names the option."""
    if text is None:
        return None
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    fits = len(numbers) == count if count else bool(numbers)
    if not fits or not all(map(math.isfinite, numbers)):
        what = f"{count} finite numbers" if count else "finite numbers"
        raise typer.BadParameter(
            f"{text!r} should be {what} with commas between", param_hint=option
        )
    return numbers


def join_numbers(numbers: tuple[float, ...]) -> str:
    """Write numbers as `parse_numbers` reads them."""
    return ",".join(f"{number:g}" if number == int(number) else repr(number) for number in numbers)
