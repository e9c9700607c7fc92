"""The evaluation data a command was given: images, a trigger and the attack's target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from otbr_fast.cli.subject import Subject

if TYPE_CHECKING:
    from torch import nn

    from otbr_fast.evaluate import EvaluationSet, Metrics
    from otbr_fast.io import Record
    from otbr_fast.repair import Progress


@dataclass(frozen=True)
class DataOptions:
    """What the command line says about evaluation data; ``None`` is looked up beside the model."""

    data: Path | None = None
    trigger: Path | None = None
    target: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class EvaluationData:
    """What a command measures on, and the options that name it."""

    images: EvaluationSet
    options: DataOptions

    def describe(self) -> dict[str, object]:
        """Return the facts, ready for JSON."""
        return {
            "n_images": len(self.images.clean or ()),
            "n_triggered": len(self.images.poisoned or ()),
            "target": self.images.target,
        }

    def sentence(self) -> str:
        """Return the facts in words."""
        facts = self.describe()
        return f"{facts['n_images']} test images, {facts['n_triggered']} with the trigger on"


def open_evaluation_data(subject: Subject, options: DataOptions) -> EvaluationData | None:
    """Read the evaluation data; ``None`` if there is none: no ``--data`` and no record.

    The trigger and its target default to those that came with the model. Without a trigger only
    the accuracy on untouched images can be measured, and the target's recall if it is known.

    Raises
    ------
    EvaluationDataError
        A file is missing, malformed, or does not fit the model.
    typer.BadParameter
        An option is given without images to use it on; a trigger, but not the class that it leads
        to; or another class than a record's.
    """
    from otbr_fast.evaluate import EvaluationSet, load_images, load_trigger

    record = subject.checkpoint.record
    _refuse_without_images(options, has_record=record is not None)
    clean = None
    if options.data is not None:
        clean = load_images(options.data, options.limit, subject.inputs.shape)
    if record is not None and options.trigger is None:
        _check_target(record, options.target)
        images = EvaluationSet.from_record(record, clean, options.limit)
        used = replace(options, target=record.target)
    elif clean is None:
        return None
    else:
        used = _complete(subject, options)
        images = EvaluationSet(clean=clean, target=used.target)
        if used.trigger is not None and used.target is not None:
            images = EvaluationSet.from_trigger(clean, load_trigger(used.trigger), used.target)
    images.check_classes(subject.num_classes)
    return EvaluationData(images, used)


def _refuse_without_images(options: DataOptions, *, has_record: bool) -> None:
    """Refuse options that would change nothing, since there are no images to use them on."""
    if options.data is not None:
        return
    given: dict[str, object] = {"--trigger": options.trigger}
    if not has_record:
        given |= {"--target": options.target, "--limit": options.limit}
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter("needs test images: give --data too", param_hint=name)


def _check_target(record: Record, target: int | None) -> None:
    """Refuse another target than the one that a record tells for each of its images."""
    if target is not None and target != record.target:
        targets = "several classes" if record.target is None else f"class {record.target}"
        raise typer.BadParameter(
            f"the record's poisoned images lead to {targets}, each as the record tells, not to "
            f"{target}; leave it out, or give --data and --trigger instead",
            param_hint="--target",
        )


def _complete(subject: Subject, options: DataOptions) -> DataOptions:
    """Add the trigger and the target that came with the model, where none are given."""
    known = subject.checkpoint.description
    target = options.target
    if target is None and known is not None and known.attack is not None:
        target = known.attack.target
    trigger = options.trigger or subject.checkpoint.trigger_path
    if trigger is not None and target is None:
        raise typer.BadParameter(
            f"the class that the trigger {trigger} leads to is not known; give it",
            param_hint="--target",
        )
    return replace(options, trigger=trigger, target=target)


def measure_with(
    subject: Subject, data: EvaluationData | None, device: str, tell: Progress
) -> Callable[[nn.Module], Metrics] | None:
    """Return what measures networks like the subject's on this data; ``None`` without data."""
    from otbr_fast.evaluate import evaluate

    if data is None:
        return None
    return lambda model: evaluate(model, data.images, subject.inputs, device=device, progress=tell)
