"""The settings of a repair, checked when they are made."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Mode = Literal["default", "paper"]

PUBLISHED_GAMMAS = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""The pruning fractions that the paper tries."""


class RepairConfig(BaseModel):
    """Settings of a repair; the defaults are the paper's, arXiv 2408.15861.

    Parameters
    ----------
    gamma : float
        The paper's γ, in (0, 1): the fraction of all neurons that is pruned. It has no default:
        the paper picks it on test data, and no way to choose it without data is known yet.
    mode : {"default", "paper"}
        "paper" reproduces the published implementation, defects included, so that numbers can be
        compared. "default" feeds the model inputs of its own range and normalisation, draws all
        classes, keeps the NWCs in full precision and never divides by zero.
    lambda_ : float
        The paper's λ, in [0, 1]: the share of the transported pruned network in the fusion.
    steps : int
        The paper's I: steps of random unlearning.
    lr, momentum : float
        Learning rate and momentum of the unlearning's SGD.
    batch_size : int
        Noise images in each unlearning step.
    seed : int
        Seed of the noise and its labels; the whole repair draws from this one generator.
    n_threads : int, optional
        Threads of the transport solver; ``None`` lets it choose. Results do not depend on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gamma: float = Field(gt=0, lt=1)
    mode: Mode = "default"
    lambda_: float = Field(default=0.5, ge=0, le=1)
    steps: int = Field(default=20, ge=1)
    lr: float = Field(default=1e-4, gt=0, le=1e3)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=256, ge=2, lt=2**63)  # batch statistics need two images
    seed: int = Field(default=0, ge=0, lt=2**63)
    n_threads: int | None = Field(default=None, ge=1)

    def but(self, **changes: object) -> RepairConfig:
        """Return these settings with some changed, checked again."""
        return RepairConfig.model_validate({**self.model_dump(), **changes})
