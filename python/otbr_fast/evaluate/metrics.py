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
        answers with the target class; its TCR is low too. ``None`` where there is no single one.
    recalls : tuple of float, optional
        Recall of each class on clean images; ``None`` in place of a class that has none.
    """

    acc: float | None = None
    asr: float | None = None
    ra: float | None = None
    tcr: float | None = None
    recalls: tuple[float | None, ...] | None = None


def evaluate(
    model: nn.Module,
    evaluation_set: EvaluationSet,
    inputs: InputSpec,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 128,
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
        model=_laid_out(model, device),
        inputs=inputs,
        evaluation_set=evaluation_set,
        batch_size=batch_size,
        progress=progress or (lambda stage, done, total: None),
        total=len(clean or ()) + len(poisoned or ()),
    )
    acc = asr = ra = tcr = recalls = None
    if clean is not None:
        answers = runner.answers(clean.images)
        hits = answers == clean.labels
        acc = _rate(hits)
        recalls = tuple(_rate(hits[clean.labels == k]) for k in range(runner.n_classes))
        tcr = None if target is None else recalls[target]
    if poisoned is not None:
        answers = runner.answers(poisoned.images)
        asr = _rate(answers == poisoned.target_labels)
        ra = _rate(answers == poisoned.original_labels)
    return Metrics(acc, asr, ra, tcr, recalls)


def der(before: Metrics, after: Metrics) -> float | None:
    """Return the defence effectiveness rate, (max(0, dASR) - max(0, dACC) + 1) / 2, in [0, 1].

    dX is X before minus X after. ``None`` if a part is unknown. Source: BackdoorBench.
    """
    return _effectiveness(_drop(before.asr, after.asr), _drop(before.acc, after.acc))


def hder(before: Metrics, after: Metrics) -> float | None:
    """Return the honest rate, (max(0, dASR) - max(0, dACC, dTCR) + 1) / 2, in [0, 1].

    Unlike `der`, it does not reward a model that has forgotten the target class.

    An all-to-all attack has no single target and no TCR: each class is a target. In place of
    max(0, dTCR) stands the mean over all classes of max(0, d recall), ``None`` if a class has no
    images. With one target this mean over the targets is max(0, dTCR) itself. It weighs the harm
    as the ASR weighs the gain, over all targets alike: giving up one of C classes lowers the ASR
    by about 1 / C, and the mean recall too. The largest drop of a class would weigh it C times as
    much, and is there by mere chance: of ten classes whose drops are 0 on average and uncertain
    by s, as few images make them, the largest is 1.5 s, the mean of max(0, d recall) 0.4 s.
    """
    harms = _drop(before.acc, after.acc), _target_drop(before, after)
    return _effectiveness(_drop(before.asr, after.asr), *harms)


def _effectiveness(gain: float | None, *harms: float | None) -> float | None:
    known = [harm for harm in harms if harm is not None]
    return None if gain is None or len(known) < len(harms) else (gain - max(known) + 1) / 2


def _target_drop(before: Metrics, after: Metrics) -> float | None:
    """Return what the targets' recall lost; on average over all classes if any is a target."""
    if before.tcr is not None or before.recalls is None or after.recalls is None:
        return _drop(before.tcr, after.tcr)
    drops = [_drop(was, now) for was, now in zip(before.recalls, after.recalls, strict=True)]
    known = [drop for drop in drops if drop is not None]
    return sum(known) / len(known) if drops and len(known) == len(drops) else None


def _drop(was: float | None, now: float | None) -> float | None:
    return None if was is None or now is None else max(0.0, was - now)


def _laid_out(model: nn.Module, device: str | torch.device) -> nn.Module:
    """Copy a model for measuring, in float32; channels last make convolutions faster by half."""
    copied = copy.deepcopy(model).to(device).float()
    return copied.to(memory_format=torch.channels_last).eval()


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
    n_classes: int = 0

    @torch.inference_mode()
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
        x = batch.to(device, memory_format=torch.channels_last)
        x = x.float() if x.is_floating_point() else x.float() / 255
        logits: torch.Tensor = self.model(self.inputs.normalize(self.inputs.raw(x))).cpu()
        if not bool(torch.isfinite(logits).all()):
            raise EvaluationDataError(
                "the model's outputs are NaN or infinite on these images, so no metric would mean "
                "anything: check its weights and its input range and normalisation."
            )
        if self.done == 0:
            self.n_classes = logits.shape[1]
            self.evaluation_set.check_classes(self.n_classes)
        self.done += len(batch)
        self.progress("evaluate", self.done, self.total)
        return logits


def _rate(hits: torch.Tensor) -> float | None:
    return float(hits.double().mean()) if len(hits) else None
