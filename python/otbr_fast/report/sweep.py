"""The table of a sweep: the network as it came, then each γ after pruning and after fusion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from otbr_fast.evaluate import Metrics, der, hder
from otbr_fast.repair import LayerReport, RepairResult

Measure = Callable[[nn.Module], Metrics]
Stage = Literal["before", "pruned", "fused"]

NO_HINDSIGHT = (
    "Every gamma tried is shown and none is picked: which is best shows only on test data like "
    "these, which somebody without data does not have."
)
GLOSSARY = (
    "In percent. ACC: accuracy without the trigger; ASR: triggered images taken for the attacker's "
    "class; RA: triggered images taken for what they are; TCR: recall of the attacker's class "
    "without the trigger; DER, hDER: gain in ASR against loss in ACC (hDER: in ACC or TCR), "
    "50 is no change."
)


@dataclass(frozen=True)
class Row:
    """One network of a sweep.

    Parameters
    ----------
    stage : {"before", "pruned", "fused"}
        The network as it came, between the method's stages, or at the end.
    gamma, lambda_ : float, optional
        The paper's γ and λ, where they matter at this stage.
    n_pruned : int
        Neurons pruned in all layers together.
    ot_cost : float, optional
        Transport cost of all layers together, for a fused network.
    metrics : Metrics
        As measured; without evaluation data all are ``None``.
    der, hder : float, optional
        Against the row "before"; ``None`` there and where a metric is missing.
    """

    stage: Stage
    gamma: float | None
    lambda_: float | None
    n_pruned: int
    ot_cost: float | None
    metrics: Metrics
    der: float | None
    hder: float | None

    def to_dict(self) -> dict[str, object]:
        """Return a flat dictionary for JSON and CSV, with fractions in [0, 1]."""
        return {
            "stage": self.stage,
            "gamma": self.gamma,
            "lambda": self.lambda_,
            "n_pruned": self.n_pruned,
            "ot_cost": self.ot_cost,
            "acc": self.metrics.acc,
            "asr": self.metrics.asr,
            "ra": self.metrics.ra,
            "tcr": self.metrics.tcr,
            "der": self.der,
            "hder": self.hder,
        }


@dataclass(frozen=True)
class SweepReport:
    """All that a sweep found, without the networks.

    Parameters
    ----------
    rows : tuple of Row
        The network as it came, then each γ after pruning and, for each λ, after fusion.
    layers : dict of float to tuple of LayerReport
        What each γ did to each layer.
    repairs : tuple of dict
        Each result's `RepairResult.to_dict`.
    """

    rows: tuple[Row, ...]
    layers: dict[float, tuple[LayerReport, ...]]
    repairs: tuple[dict[str, Any], ...]

    @classmethod
    def collect(
        cls, model: nn.Module, results: Iterable[RepairResult], measure: Measure | None = None
    ) -> SweepReport:
        """Measure a network and its repairs, one after the other.

        Parameters
        ----------
        model : nn.Module
            The network as it came.
        results : iterable of RepairResult
            From `otbr_fast.repair.sweep`: for each γ, for each λ.
        measure : callable, optional
            Returns a network's metrics. Without it the rows hold none.
        """
        look = measure or (lambda _: Metrics())
        before = look(model)
        rows = [Row("before", None, None, 0, None, before, None, None)]
        layers: dict[float, tuple[LayerReport, ...]] = {}
        repairs = []
        for result in results:
            gamma = result.config.gammas[0]
            if gamma not in layers:
                rows.append(_row("pruned", result, before, look(result.pruned_model)))
            rows.append(_row("fused", result, before, look(result.model)))
            layers[gamma] = result.layers
            repairs.append(result.to_dict())
        return cls(tuple(rows), layers, tuple(repairs))

    @property
    def is_measured(self) -> bool:
        """Whether there was anything to measure with."""
        return self.rows[0].metrics != Metrics()

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "note": NO_HINDSIGHT,
            "rows": [row.to_dict() for row in self.rows],
            "repairs": list(self.repairs),
        }

    def layer_rows(self) -> list[dict[str, object]]:
        """Return one flat dictionary for each γ and layer."""
        return [
            {"gamma": gamma, **asdict(layer)}
            for gamma, layers in self.layers.items()
            for layer in layers
        ]


def _row(stage: Stage, result: RepairResult, before: Metrics, after: Metrics) -> Row:
    is_fused = stage == "fused"
    return Row(
        stage=stage,
        gamma=result.gamma,
        lambda_=result.lambda_ if is_fused else None,
        n_pruned=result.n_pruned,
        ot_cost=result.ot_cost if is_fused else None,
        metrics=after,
        der=der(before, after),
        hder=hder(before, after),
    )
