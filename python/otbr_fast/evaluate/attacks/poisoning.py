"""Which images an attack poisons, and what they are labelled then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from otbr_fast.errors import AttackError
from otbr_fast.evaluate.attacks.base import Attack
from otbr_fast.evaluate.evaluation_set import PoisonedImages
from otbr_fast.evaluate.images import LabeledImages

LabelMode = Literal["all2one", "all2all"]

BENIGN, POISONED, DECOY = 0, 1, 2
"""What part an image has in training."""

_BATCH = 512


@dataclass(frozen=True)
class Poisoning:
    """An attack on the data that a network is trained on.

    Parameters
    ----------
    attack : Attack
        Puts on the trigger.
    num_classes : int
        Of the data.
    target : int
        The attacker's class, in 0 ... num_classes - 1; not used in ``all2all``.
    poison_ratio : float
        Poisoned part of the training images, in (0, 1].
    label_mode : {"all2one", "all2all"}
        A poisoned image is labelled ``target``, or with the class after its own.

    Raises
    ------
    AttackError
        A setting is out of its range.
    """

    attack: Attack
    num_classes: int
    target: int = 0
    poison_ratio: float = 0.1
    label_mode: LabelMode = "all2one"

    def __post_init__(self) -> None:
        if self.label_mode not in get_args(LabelMode):
            raise AttackError(f"label_mode={self.label_mode!r} is none of {get_args(LabelMode)}.")
        if not 0 <= self.target < self.num_classes:
            raise AttackError(
                f"target={self.target} is no class of data with {self.num_classes} classes: "
                f"give 0 to {self.num_classes - 1}."
            )
        if not 0 < self.poison_ratio <= 1:
            raise AttackError(f"poison_ratio={self.poison_ratio} is not in (0, 1].")
        if self.poison_ratio * (1 + self.attack.decoy_ratio) > 1:
            raise AttackError(
                f"poison_ratio={self.poison_ratio} leaves no room for the attack's decoys, "
                f"{self.attack.decoy_ratio:g} for each poisoned image: lower it."
            )

    def new_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the attacker's label for images of these classes, int64, shape (N,)."""
        if self.label_mode == "all2one":
            return torch.full_like(labels, self.target)
        return (labels + 1) % self.num_classes

    def roles(self, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw each training image's part: `BENIGN`, `POISONED` or `DECOY`, int64, shape (N,).

        Images that have the attacker's label already are not poisoned, but may be decoys.

        Raises
        ------
        AttackError
            There are too few images.
        """
        wanted = int(self.poison_ratio * len(labels))
        candidates = self.poisonable(labels)
        if not 1 <= wanted <= len(candidates):
            raise AttackError(
                f"poison_ratio={self.poison_ratio} of {len(labels)} training images is {wanted}, "
                f"and {len(candidates)} have another label than the attacker's: at least one can "
                "be poisoned, and no more than those. Give more images, or another ratio."
            )
        roles = torch.full_like(labels, BENIGN)
        roles[_draw(candidates, wanted, generator)] = POISONED
        others = (roles == BENIGN).nonzero().flatten()
        roles[_draw(others, round(self.attack.decoy_ratio * wanted), generator)] = DECOY
        return roles

    def poisonable(self, labels: torch.Tensor) -> torch.Tensor:
        """Return which images of these classes do not have the attacker's label already.

        Raises
        ------
        AttackError
            All are of the target class.
        """
        indices = (labels != self.new_labels(labels)).nonzero().flatten()
        if not len(indices):
            raise AttackError(
                f"all {len(labels)} images are of the target class {self.target}, so no attack "
                "can be seen; give images of other classes too."
            )
        return indices

    @torch.no_grad()
    def poison(self, images: LabeledImages) -> tuple[PoisonedImages, torch.Tensor]:
        """Put the trigger on all images that do not have the attacker's label already.

        Returns
        -------
        poisoned : PoisonedImages
            uint8, as an image file keeps them.
        indices : Tensor
            Of the originals, int64, shape (P,).

        Raises
        ------
        AttackError
            All images are of the target class.
        """
        indices = self.poisonable(images.labels)
        labels = images.labels[indices]
        made = torch.cat(
            [
                to_bytes(self.attack.apply(images.images[part].float() / 255))
                for part in torch.split(indices, _BATCH)
            ]
        )
        return PoisonedImages(made, labels, self.new_labels(labels)), indices


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """Round images in [0, 1] to uint8."""
    return (images * 255).round().to(torch.uint8)


def _draw(numbers: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return numbers[torch.randperm(len(numbers), generator=generator)[:count]]
