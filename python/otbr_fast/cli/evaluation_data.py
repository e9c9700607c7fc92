"""The evaluation data a command was given: images, a trigger and the attack's target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from otbr_fast.cli.output import Tell
from otbr_fast.cli.subject import Subject

if TYPE_CHECKING:
    from torch import nn

    from otbr_fast.evaluate import EvaluationSet, Metrics


@dataclass(frozen=True)
class DataOptions:
    """What the command line says about evaluation data; ``None`` is looked up beside the model."""

    data: Path | None = None
    trigger: Path | None = None
    target: int | None = None
    limit: int | None = None


def open_evaluation_set(subject: Subject, options: DataOptions) -> EvaluationSet | None:
    """Read the evaluation data; ``None`` if there is none: no ``--data`` and no record.

    The trigger and its target default to those that came with the model. Without a trigger only
    the accuracy on untouched images can be measured, and the target's recall if it is known.

    Raises
    ------
    EvaluationDataError
        A file is missing, malformed, or does not fit the model.
    typer.BadParameter
        A trigger is given, but not the class that it leads to.
    """
    from otbr_fast.evaluate import EvaluationSet, load_images, load_trigger

    if options.data is None and options.trigger is not None:
        raise typer.BadParameter("needs test images to be put on", param_hint="--trigger")
    clean = None if options.data is None else load_images(options.data, options.limit)
    record = subject.checkpoint.record
    if record is not None and options.trigger is None:
        return EvaluationSet.from_record(record, clean)
    if clean is None:
        return None
    target = _known_target(subject) if options.target is None else options.target
    trigger_path = options.trigger or subject.checkpoint.trigger_path
    if trigger_path is None:
        return EvaluationSet(clean=clean, target=target)
    if target is None:
        raise typer.BadParameter(
            f"the class that the trigger {trigger_path} leads to is not known; give it",
            param_hint="--target",
        )
    return EvaluationSet.from_trigger(clean, load_trigger(trigger_path), target)


def _known_target(subject: Subject) -> int | None:
    known = subject.checkpoint.description
    return known.attack.target if known and known.attack else None


def measure_with(
    subject: Subject, evaluation_set: EvaluationSet | None, device: str, tell: Tell
) -> Callable[[nn.Module], Metrics] | None:
    """Return what measures networks like the subject's on this data; ``None`` without data."""
    from otbr_fast.evaluate import evaluate

    if evaluation_set is None:
        return None
    return lambda model: evaluate(
        model, evaluation_set, subject.inputs, device=device, progress=partial(tell, "evaluate")
    )


def describe(evaluation_set: EvaluationSet | None) -> dict[str, object] | None:
    """Return what was measured on, ready for JSON."""
    if evaluation_set is None:
        return None
    return {
        "n_images": len(evaluation_set.clean or ()),
        "n_triggered": len(evaluation_set.poisoned or ()),
        "target": evaluation_set.target,
    }
