"""What a model is judged on: clean images, and the same attack's poisoned ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate.images import LabeledImages, read_image_files
from otbr_fast.evaluate.triggers import Trigger
from otbr_fast.io import Record


@dataclass(frozen=True)
class PoisonedImages:
    """Images with a trigger.

    Parameters
    ----------
    images : Tensor
        uint8, or float in [0, 1]; shape (P, C, H, W).
    original_labels, target_labels : Tensor
        True classes and the attacker's, int64, shape (P,).
    """

    images: torch.Tensor
    original_labels: torch.Tensor
    target_labels: torch.Tensor

    def __post_init__(self) -> None:
        sizes = {len(self.images), len(self.original_labels), len(self.target_labels)}
        if len(sizes) > 1 or 0 in sizes:
            raise EvaluationDataError(
                f"{len(self.images)} poisoned images have {len(self.original_labels)} original "
                f"and {len(self.target_labels)} target labels; one of each is needed, and at "
                "least one image."
            )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class EvaluationSet:
    """Clean and poisoned images; without one of them, its metrics are unknown.

    Parameters
    ----------
    clean : LabeledImages, optional
        For ACC and TCR.
    poisoned : PoisonedImages, optional
        For ASR and RA.
    target : int, optional
        The attack's target class, if there is a single one; for TCR.
    """

    clean: LabeledImages | None = None
    poisoned: PoisonedImages | None = None
    target: int | None = None

    def check_classes(self, n_classes: int) -> None:
        """Raise an `EvaluationDataError` for a label or target that is not in 0 ... n_classes - 1.

        A class that the model cannot answer with would make an attack look defeated.
        """
        told: list[tuple[str, torch.Tensor]] = []
        if self.target is not None:
            told.append(("target class", torch.tensor([self.target])))
        if self.clean is not None:
            told.append(("label", self.clean.labels))
        if self.poisoned is not None:
            told.append(("target class", self.poisoned.target_labels))
            told.append(("original label", self.poisoned.original_labels))
        for what, labels in told:
            unknown = labels[(labels < 0) | (labels >= n_classes)]
            if len(unknown):
                raise EvaluationDataError(
                    f"there is the {what} {int(unknown[0])}, but the model tells {n_classes} "
                    f"classes, 0 to {n_classes - 1}: give the data and target of this model."
                )

    @classmethod
    def from_trigger(cls, clean: LabeledImages, trigger: Trigger, target: int) -> EvaluationSet:
        """Lay a trigger over all clean images that are not of the target class already.

        The poisoned images are kept as float32: four times the memory of the clean ones.

        Raises
        ------
        EvaluationDataError
            All images are of the target class, or the trigger does not fit them.
        """
        others = clean.labels != target
        if not bool(others.any()):
            raise EvaluationDataError(
                f"all {len(clean)} images are of the target class {target}, so no attack can be "
                "seen; give images of other classes too."
            )
        labels = clean.labels[others]
        images = trigger.apply(clean.images[others].float() / 255)
        return cls(clean, PoisonedImages(images, labels, torch.full_like(labels, target)), target)

    @classmethod
    def from_record(
        cls, record: Record, clean: LabeledImages | None = None, limit: int | None = None
    ) -> EvaluationSet:
        """Read the poisoned test images of a BackdoorBench record, which has no clean ones.

        Parameters
        ----------
        limit : int, optional
            Read only so many, from the start.

        Raises
        ------
        EvaluationDataError
            The record has no poisoned images, or one is missing, damaged or of another size.
        """
        if not record.poisoned:
            raise EvaluationDataError(f"the record {record.folder} lists no poisoned test images.")
        listed = record.poisoned[:limit]
        height, width, channels = record.img_size
        poisoned = PoisonedImages(
            read_image_files([p.path for p in listed], (channels, height, width)),
            torch.tensor([p.original_label for p in listed]),
            torch.tensor([p.target_label for p in listed]),
        )
        return cls(clean, poisoned, record.target)
