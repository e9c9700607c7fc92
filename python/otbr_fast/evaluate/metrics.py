"""How good a model is on clean images, and how much of an attack is left in it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate.evaluation_set import EvaluationSet
from otbr_fast.models import InputSpec

if TYPE_CHECKING:
    from otbr_fast.repair import Progress


@dataclass(frozen=True)
class Metrics:
    """Fractions in [0, 1]; ``None`` where the images to tell it were not given.

    Parameters
    ----------
    acc : float, optional
        Accuracy on clean images.
    asr : float, optional
        Attack success rate: poisoned images taken for the attacker's class.
    ra : float, optional
        Robust accuracy: poisoned images taken for what they are.
    tcr : float, optional
        Recall of the target class on clean images. A low ASR is cheap for a model that never
        answers with the target class; its TCR is low too.
    """

    acc: float | None = None
    asr: float | None = None
    ra: float | None = None
    tcr: float | None = None


def evaluate(
    model: nn.Module,
    evaluation_set: EvaluationSet,
    inputs: InputSpec,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Metrics:
    """Measure a model.

    Parameters
    ----------
    model : nn.Module
        Left as it is, in its mode and on its device.
    inputs : InputSpec
        Images in [0, 1] are brought into its range, then normalised.
    progress : callable, optional
        Called with ``("evaluate", images done, images in all)``.

    Raises
    ------
    EvaluationDataError
        Images, labels or the target do not fit the model, or its outputs are not finite.
    """
    clean, poisoned, target = evaluation_set.clean, evaluation_set.poisoned, evaluation_set.target
    runner = _Runner(
        model=copy.deepcopy(model).to(device).eval(),
        inputs=inputs,
        evaluation_set=evaluation_set,
        batch_size=batch_size,
        progress=progress or (lambda stage, done, total: None),
        total=len(clean or ()) + len(poisoned or ()),
    )
    acc = asr = ra = tcr = None
    if clean is not None:
        answers = runner.answers(clean.images)
        acc = _rate(answers == clean.labels)
        if target is not None:
            tcr = _rate(answers[clean.labels == target] == target)
    if poisoned is not None:
        answers = runner.answers(poisoned.images)
        asr = _rate(answers == poisoned.target_labels)
        ra = _rate(answers == poisoned.original_labels)
    return Metrics(acc, asr, ra, tcr)


def der(before: Metrics, after: Metrics) -> float | None:
    """Return the defence effectiveness rate, (max(0, dASR) - max(0, dACC) + 1) / 2, in [0, 1].

    dX is X before minus X after. ``None`` if a part is unknown. Source: BackdoorBench.
    """
    return _effectiveness(before, after, harms=("acc",))


def hder(before: Metrics, after: Metrics) -> float | None:
    """Return the honest rate, (max(0, dASR) - max(0, dACC, dTCR) + 1) / 2, in [0, 1].

    Unlike `der`, it does not reward a model that has forgotten the target class.
    """
    return _effectiveness(before, after, harms=("acc", "tcr"))


def _effectiveness(before: Metrics, after: Metrics, harms: tuple[str, ...]) -> float | None:
    drops = {}
    for name in ("asr", *harms):
        was, now = getattr(before, name), getattr(after, name)
        if was is None or now is None:
            return None
        drops[name] = max(0.0, was - now)
    return float(drops["asr"] - max(drops[name] for name in harms) + 1) / 2


@dataclass
class _Runner:
    """Feeds images to a model batch by batch, and counts them."""

    model: nn.Module
    inputs: InputSpec
    evaluation_set: EvaluationSet
    batch_size: int
    progress: Progress
    total: int
    done: int = 0

    @torch.no_grad()
    def answers(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class that the model gives each image; int64, shape (N,), on the CPU."""
        if tuple(images.shape[1:]) != self.inputs.shape:
            raise EvaluationDataError(
                f"the images have shape {tuple(images.shape[1:])}, but the model expects "
                f"{self.inputs.shape} (channels, height, width)."
            )
        starts = range(0, len(images), self.batch_size)
        logits = torch.cat([self._logits(images[i : i + self.batch_size]) for i in starts])
        return logits.argmax(dim=1)

    def _logits(self, batch: torch.Tensor) -> torch.Tensor:
        device = next(self.model.parameters()).device
        x = batch.to(device)
        x = x.float() if x.is_floating_point() else x.float() / 255
        x = self.inputs.low + (self.inputs.high - self.inputs.low) * x
        logits: torch.Tensor = self.model(self.inputs.normalize(x)).cpu()
        if not bool(torch.isfinite(logits).all()):
            raise EvaluationDataError(
                "the model's outputs are NaN or infinite on these images, so no metric would mean "
                "anything: check its weights and its input range and normalisation."
            )
        if self.done == 0:
            self.evaluation_set.check_classes(logits.shape[1])
        self.done += len(batch)
        self.progress("evaluate", self.done, self.total)
        return logits


def _rate(hits: torch.Tensor) -> float | None:
    return float(hits.double().mean()) if len(hits) else None
