"""The settings of a repair, checked when they are made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Mode = Literal["default", "paper"]
Ranking = Literal["response", "nwc"]
Auto = Literal["auto"]

PUBLISHED_GAMMAS = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""The pruning fractions that the paper tries."""

PUBLISHED_LAMBDA = 0.5
"""The paper's share of the transported network."""

CANDIDATE_GAMMAS = (0.05, 0.1)
CANDIDATE_LAMBDAS = (0.5, 0.75)
"""What "auto" chooses from."""

_PUBLISHED_STAGES: dict[str, Any] = {
    "lambda_": PUBLISHED_LAMBDA,
    "ranking": "nwc",
    "suspect": None,
    "recalibrate": False,
    "distil_steps": 0,
}
"""What paper mode fixes, but for λ, which may be given."""

_OF_UNLEARNING = ("steps", "lr", "momentum", "batch_size")


class RepairConfig(BaseModel):
    """Settings of a repair. Those of the unlearning are the paper's, arXiv 2408.15861.

    Parameters
    ----------
    gamma : float or "auto"
        The paper's γ, in (0, 1): the fraction of all neurons that is pruned. "auto" chooses it
        without data, and leaves a network alone in which no sign of a backdoor is found.
    lambda_ : float or "auto"
        The paper's λ, in [0, 1]: the share of the transported pruned network in the fusion. "auto"
        chooses it without data; with ``ranking="nwc"`` it is the paper's 0.5.
    mode : {"default", "paper"}
        "paper" reproduces the published implementation, defects included, so that numbers can be
        compared; it needs a γ and has only the published stages: ``ranking="nwc"``, no
        recalibration, no distillation.
    ranking : {"response", "nwc"}
        What neurons are ranked by: how they respond to the perturbation that leads surrogate
        images to the suspected class, or the paper's neuron weight changes of random unlearning.
    suspect : int, optional
        The class that the backdoor leads to, where it is known; otherwise the most suspicious one.
    recalibrate : bool
        Whether batch statistics are moved to fit the fused network, by surrogate images; a third of
        the way once more for the distilled one.
    distil_steps : int
        Steps in which the fused network learns on surrogate images to answer as the original did
        without the perturbation; 0 leaves this out.
    n_surrogates : int
        Surrogate images, made from the weights alone.
    steps : int
        The paper's I: steps of random unlearning. It and the three below are for ``ranking="nwc"``
        and refused if they are changed without it.
    lr, momentum : float
        Learning rate and momentum of the unlearning's SGD.
    batch_size : int
        Noise images in each unlearning step.
    seed : int
        Seed of all random numbers.
    n_threads : int, optional
        Threads of the transport solver; ``None`` lets it choose. Results do not depend on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gamma: Annotated[float, Field(gt=0, lt=1)] | Auto = "auto"
    lambda_: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    mode: Mode = "default"
    ranking: Ranking = "response"
    suspect: int | None = Field(default=None, ge=0)
    recalibrate: bool = True
    distil_steps: int = Field(default=80, ge=0)
    n_surrogates: int = Field(default=256, ge=2)
    steps: int = Field(default=20, ge=1)
    lr: float = Field(default=1e-4, gt=0, le=1e3)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=256, ge=2, lt=2**63)  # batch statistics need two images
    seed: int = Field(default=0, ge=0, lt=2**63)
    n_threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _keep_to_the_paper(self) -> RepairConfig:
        if self.mode != "paper":
            return self
        if self.gamma == "auto":
            raise ValueError(
                'mode="paper" needs a gamma: the published method scores all on test data '
                f"and chooses none; it tries {', '.join(map(str, PUBLISHED_GAMMAS))}"
            )
        for name, published in _PUBLISHED_STAGES.items():
            if name not in self.model_fields_set:
                self.__dict__[name] = published  # not told of as set: `but` may change the mode
            elif name != "lambda_" and getattr(self, name) != published:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not in the published method; leave it out "
                    'or use mode="default"'
                )
        if self.lambda_ == "auto":
            raise ValueError('mode="paper" chooses nothing: give lambda, or leave it out for 0.5')
        return self

    @model_validator(mode="after")
    def _unlearn_only_if_ranked_by_it(self) -> RepairConfig:
        if self.ranking == "nwc":
            return self
        for name in _OF_UNLEARNING:
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name}={value} is of the random unlearning, which ranking='response' does "
                    "without; leave it out or use ranking='nwc'"
                )
        return self

    @property
    def gammas(self) -> tuple[float, ...]:
        """The γ that come into question."""
        return CANDIDATE_GAMMAS if self.gamma == "auto" else (self.gamma,)

    @property
    def lambdas(self) -> tuple[float, ...]:
        """The λ that come into question."""
        if self.lambda_ != "auto":
            return (self.lambda_,)
        return (PUBLISHED_LAMBDA,) if self.ranking == "nwc" else CANDIDATE_LAMBDAS

    @property
    def needs_evidence(self) -> bool:
        """Whether a stage uses surrogate images or probes."""
        stages = self.ranking == "response" or self.recalibrate or self.distil_steps > 0
        return stages or self.gamma == "auto"

    @property
    def is_asked_for(self) -> bool:
        """Whether to repair even a network without a sign."""
        return self.gamma != "auto" or self.suspect is not None

    def but(self, **changes: object) -> RepairConfig:
        """Return these settings with some changed, checked again."""
        return self.model_validate({**self.model_dump(exclude_unset=True), **changes})
