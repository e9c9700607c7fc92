"""Choosing γ and λ without data: what repaired networks do on surrogates and under probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import answers, working_copy
from otbr_fast.repair.evidence import Evidence
from otbr_fast.repair.surrogates import images_at_once, mixtures

_ENOUGH = 0.05  # of the surrogates: some images of others are near the class without a backdoor too


@dataclass(frozen=True)
class Proxies:
    """Stand-ins, without data, for what evaluation measures; fractions in [0, 1].

    Parameters
    ----------
    agreement : float
        Mixtures of surrogates that the network answers as the original did; for ACC.
    target_agreement : float
        The same among those that the original took for the suspect; for TCR.
    probe_success : float
        Surrogates of other classes that held-out probes lead to the suspect; for ASR.
    """

    agreement: float
    target_agreement: float
    probe_success: float

    @property
    def is_enough(self) -> bool:
        """Whether probes lead hardly any image to the suspect."""
        return self.probe_success <= _ENOUGH

    def score(self, before: Proxies) -> float:
        """Return hDER with the proxies in place of what they stand for."""
        gain = max(0.0, before.probe_success - self.probe_success)
        return (gain - max(1 - self.agreement, 1 - self.target_agreement) + 1) / 2


@dataclass(frozen=True)
class Candidate:
    """A network that could be chosen, or was, and what speaks for it.

    Parameters
    ----------
    gamma, lambda_ : float
        The paper's γ and λ.
    n_pruned : int
        Neurons pruned in all layers together.
    proxies : Proxies
        What it does on surrogates and under probes.
    score : float
        hDER by its proxies, see `Proxies.score`.
    """

    gamma: float
    lambda_: float
    n_pruned: int
    proxies: Proxies
    score: float

    def to_dict(self) -> dict[str, float]:
        """Return a flat dictionary."""
        own = {"gamma": self.gamma, "lambda": self.lambda_, "n_pruned": self.n_pruned}
        return {**own, "score": self.score, **asdict(self.proxies)}


Watch = Callable[[Candidate, nn.Module], None]
"""Called with each candidate and its network, in eval mode on the CPU, not to be changed."""


class ProxyJudge:
    """Measures proxies on the same images for all networks.

    Parameters
    ----------
    original : nn.Module
        What others are compared with.
    inputs : InputSpec
        Shape, range and normalisation of the input.
    evidence : Evidence
        Of the original.
    seed : int
        Decides the mixtures.
    device : torch.device or str
        Where to compute.
    """

    def __init__(
        self,
        original: nn.Module,
        inputs: InputSpec,
        evidence: Evidence,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._inputs, self._evidence, self._device = inputs, evidence, device
        generator = torch.Generator().manual_seed(seed)
        self._mixtures = mixtures(evidence.surrogates, generator)
        self._answers = self._classes(working_copy(original, device), self._mixtures)
        self.before = self.look(original)

    def look(self, model: nn.Module) -> Proxies:
        """Measure a network."""
        net = working_copy(model, self._device)
        suspect = self._evidence.suspect
        same = self._classes(net, self._mixtures) == self._answers
        of_target = same[self._answers == suspect]
        others = self._evidence.surrogates.of_others(suspect)
        led = [
            self._classes(net, probe.apply(others, self._inputs)) == suspect
            for probe in self._evidence.held_out
        ]
        return Proxies(
            agreement=float(same.double().mean()),
            target_agreement=float(of_target.double().mean()) if len(of_target) else 1.0,
            probe_success=float(torch.cat(led).double().mean()),
        )

    def candidate(self, model: nn.Module, gamma: float, lambda_: float, n_pruned: int) -> Candidate:
        """Measure and score a network that was repaired with these settings."""
        proxies = self.look(model)
        return Candidate(gamma, lambda_, n_pruned, proxies, proxies.score(self.before))

    def _classes(self, net: nn.Module, images: torch.Tensor) -> torch.Tensor:
        logits = answers(net, self._inputs, images, images_at_once(self._inputs))
        if not bool(torch.isfinite(logits).all()):
            raise RepairError(
                "a repaired network's answers are not finite on surrogates: use a smaller gamma or "
                "lambda, or leave stages out (recalibrate=False, distil_steps=0)"
            )
        return logits.argmax(dim=1)
