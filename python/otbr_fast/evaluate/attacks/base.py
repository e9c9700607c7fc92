"""What an attack is: a way to put a trigger on images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from otbr_fast.evaluate.triggers import Trigger


class Attack(ABC):
    """A way to put a trigger on images; the same for the same image, whenever it is asked."""

    name: ClassVar[str]
    """As BackdoorBench names it, where it has it."""

    draws_anew: ClassVar[bool] = False
    """Whether the attacker holds the training too, and poisons other images in each epoch."""

    @property
    def decoy_ratio(self) -> float:
        """Decoys shown in training for each poisoned image."""
        return 0.0

    @abstractmethod
    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Put the trigger on images in [0, 1], float, shape (N, C, H, W); the same shape out."""

    def decoy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Put on images what is no trigger but is like one; they keep their labels."""
        raise NotImplementedError(f"{self.name} has no decoys")


class MaskedAttack(Attack):
    """An attack that lays one fixed pattern over all images."""

    @abstractmethod
    def trigger(self, shape: tuple[int, int, int]) -> Trigger:
        """Return mask and pattern for images of so many channels, rows and columns."""

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Lay the pattern over images in [0, 1], float, shape (N, C, H, W)."""
        return self.trigger(image_shape(images)).apply(images)


class LearnedAttack(Attack):
    """An attack whose trigger is made by networks that are trained along with the classifier."""

    networks: nn.Module
    """What is trained: by `prepare`, then by the gradients of `apply`, `decoy` and `penalty`."""

    @abstractmethod
    def prepare(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Train what has to be there before the classifier's training starts.

        Parameters
        ----------
        images : Tensor
            Training images, uint8, shape (N, C, H, W).
        """

    @abstractmethod
    def penalty(self, images: torch.Tensor) -> torch.Tensor:
        """Return what is added to the classifier's loss for these images in [0, 1]."""


def image_shape(images: torch.Tensor) -> tuple[int, int, int]:
    """Return channels, rows and columns of images of shape (N, C, H, W)."""
    _, channels, height, width = images.shape
    return channels, height, width
