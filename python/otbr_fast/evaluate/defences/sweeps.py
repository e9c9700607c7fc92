"""OTBR with many γ and λ, and the pruning that is its first stage: the paper's, and ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from otbr_fast.errors import OtbrFastError, RepairError
from otbr_fast.evaluate.defences.base import Case, Method, Setting, Trial
from otbr_fast.repair import PUBLISHED_GAMMAS, Mode, RepairConfig, sweep


@dataclass(frozen=True)
class Sweep:
    """One ranking, then each γ pruned and, for each λ, fused; no γ is chosen without data.

    Parameters
    ----------
    fused : str
        Name of the method that goes through both stages.
    lambdas : tuple of float
        The λ to try with each γ.
    mode : {"default", "paper"}
        Of the repair.
    gammas : tuple of float
        The γ to try.
    pruned : str, optional
        Name of the method that stops after pruning, if it is compared too.
    seed : int
        Of the unlearning.
    """

    fused: str
    lambdas: tuple[float, ...]
    mode: Mode = "default"
    gammas: tuple[float, ...] = PUBLISHED_GAMMAS
    pruned: str | None = None
    seed: int = 0

    @property
    def methods(self) -> tuple[Method, ...]:
        """The method that fuses and, if it has a name, the one that only prunes."""
        fused = [self._trial(self.fused, g, x) for g in self.gammas for x in self.lambdas]
        if self.pruned is None:
            return (Method(self.fused, tuple(fused)),)
        pruned = [self._trial(self.pruned, gamma) for gamma in self.gammas]
        return Method(self.fused, tuple(fused)), Method(self.pruned, tuple(pruned))

    def repaired(
        self, case: Case, wanted: Sequence[Trial]
    ) -> Iterator[tuple[Trial, nn.Module | OtbrFastError]]:
        """Sweep over the wanted γ; where one of them is refused, sweep over each alone."""
        left = list(wanted)
        try:
            for trial, model in self._swept(case, wanted):
                left.remove(trial)
                yield trial, model
        except RepairError as error:
            gammas = {trial.settings["gamma"]: None for trial in wanted}
            for gamma in gammas:
                alone = [trial for trial in left if trial.settings["gamma"] == gamma]
                if len(gammas) > 1 and alone:
                    yield from self.repaired(case, alone)
                else:
                    yield from ((trial, error) for trial in alone)

    def _swept(self, case: Case, wanted: Sequence[Trial]) -> Iterator[tuple[Trial, nn.Module]]:
        gammas = sorted({float(trial.settings["gamma"] or 0) for trial in wanted})
        results = sweep(
            case.model,
            case.inputs,
            self._config(gammas[0]).but(n_threads=case.n_threads),
            gammas,
            self.lambdas,
            num_classes=case.num_classes,
            device=case.device,
            progress=case.progress,
        )
        for result in results:
            gamma, lambda_ = result.gamma, result.lambda_
            for trial in wanted:
                if trial.settings["gamma"] != gamma:
                    continue
                if trial.method == self.fused and trial.settings["lambda_"] == lambda_:
                    yield trial, result.model
                if trial.method == self.pruned and lambda_ == self.lambdas[0]:
                    yield trial, result.pruned_model

    def _trial(self, method: str, gamma: float, lambda_: float | None = None) -> Trial:
        used: dict[str, Setting] = self._config(gamma).model_dump(exclude={"n_threads", "lambda_"})
        if lambda_ is None:
            return Trial(method, used, f"γ {gamma:g}")
        return Trial(method, {**used, "lambda_": lambda_}, f"γ {gamma:g}, λ {lambda_:g}")

    def _config(self, gamma: float) -> RepairConfig:
        return RepairConfig(gamma=gamma, mode=self.mode, seed=self.seed)
