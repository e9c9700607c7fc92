"""Fine-tuning on a few labelled images: what a defence can reach that has data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import EvaluationDataError, OtbrFastError, RepairError
from otbr_fast.evaluate.attacks.augment import crop_and_flip
from otbr_fast.evaluate.defences.base import Case, Method, Trial
from otbr_fast.evaluate.images import LabeledImages
from otbr_fast.models.copies import training_copy
from otbr_fast.models.seeding import torch_seeded

NAME = "fine-tuning"
_PAD = 4


@dataclass(frozen=True)
class FineTuning:
    """Trains all weights on images drawn from the training data, without the attack's.

    The usual recipe (BackdoorBench's ``ft``): SGD with momentum and weight decay, a learning rate
    that falls as a cosine, images shifted by up to 4 pixels. They are not mirrored: digits and
    traffic signs must not be.

    Parameters
    ----------
    share : float
        The part of the training images that is used.
    epochs : int
        Passes over them.
    lrs : tuple of float
        Learning rates to start from. The first is the usual one; others are tried in hindsight,
        so that the method shows what data can do at best.
    """

    share: float = 0.05
    epochs: int = 10
    lrs: tuple[float, ...] = (0.01, 0.05)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    seed: int = 0

    @property
    def methods(self) -> tuple[Method, ...]:
        """One trial for each learning rate."""
        shared = {name: value for name, value in vars(self).items() if name != "lrs"}
        used = f"{self.share:.0%} of the training data"
        trials = tuple(Trial(NAME, {**shared, "lr": lr}, f"{used}, lr {lr:g}") for lr in self.lrs)
        return (Method(NAME, trials, fixed=trials[0], uses_training_data=True),)

    def repaired(
        self, case: Case, wanted: Sequence[Trial]
    ) -> Iterator[tuple[Trial, nn.Module | OtbrFastError]]:
        """Train a copy with each wanted learning rate, on the same images."""
        if case.training_images is None:
            raise EvaluationDataError("fine-tuning needs labelled training images.")
        images = case.training_images()
        for trial in wanted:
            generator = torch.Generator().manual_seed(self.seed)
            drawn = self._draw(images, case, generator)
            try:
                yield trial, self._train(drawn, float(trial.settings["lr"] or 0), case, generator)
            except RepairError as error:
                yield trial, error

    def _draw(self, images: LabeledImages, case: Case, generator: torch.Generator) -> LabeledImages:
        n_used = round(self.share * len(images))
        if n_used < 2:  # batch statistics need two
            raise EvaluationDataError(
                f"{self.share:.0%} of {len(images)} training images are {n_used}; give more."
            )
        if tuple(images.images.shape[1:]) != case.inputs.shape:
            raise EvaluationDataError(
                f"the training images have shape {tuple(images.images.shape[1:])}, but the model "
                f"expects {case.inputs.shape} (channels, height, width)."
            )
        used = torch.randperm(len(images), generator=generator)[:n_used]
        if int(images.labels[used].max()) >= case.num_classes:
            raise EvaluationDataError(
                f"the training data has the label {int(images.labels[used].max())}, but the model "
                f"tells {case.num_classes} classes."
            )
        return LabeledImages(images.images[used], images.labels[used])

    def _train(
        self, data: LabeledImages, lr: float, case: Case, generator: torch.Generator
    ) -> nn.Module:
        model = training_copy(case.model, case.device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        for_layers = torch.Generator().manual_seed(self.seed)
        n_batches = max(1, len(data) // self.batch_size)  # a rest that is not full is left out
        total = self.epochs * n_batches
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        for epoch in range(self.epochs):
            order = torch.randperm(len(data), generator=generator)
            for i, batch in enumerate(torch.split(order, self.batch_size)[:n_batches]):
                x = crop_and_flip(data.images[batch], generator, pad=_PAD, flip=False)
                x = case.inputs.raw(x.to(case.device).float() / 255)
                optimizer.zero_grad()
                with torch.enable_grad(), torch_seeded(for_layers, case.device):
                    logits = model(case.inputs.normalize(x))
                    loss = F.cross_entropy(logits, data.labels[batch].to(case.device))
                    loss.backward()  # type: ignore[no-untyped-call]
                if not bool(torch.isfinite(loss)):
                    raise RepairError(f"fine-tuning diverged; use a lower lr than {lr}")
                optimizer.step()
                schedule.step()
                case.progress("fine-tuning", epoch * n_batches + i + 1, total)
        return model.cpu().eval()
