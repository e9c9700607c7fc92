"""What a repair hands back: the model, the facts of each layer, and where they came from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from otbr_fast.repair.config import RepairConfig


@dataclass(frozen=True)
class LayerReport:
    """What was done to one layer.

    Parameters
    ----------
    name : str
        The convolution.
    n_neurons, n_pruned : int
        Its neurons, and how many of them were pruned.
    ot_cost : float or None
        Optimal transport cost from the pruned to the backdoored layer; ``None`` for a layer
        before the first that holds a pruned neuron, which is left as it was.
    duality_gap : float or None
        How far from optimal the plan can be at most.
    seconds : float
        Wall time of the layer's transport.
    """

    name: str
    n_neurons: int
    n_pruned: int
    ot_cost: float | None
    duality_gap: float | None
    seconds: float


@dataclass(frozen=True)
class RepairResult:
    """A mitigated network and how it was made.

    Parameters
    ----------
    model : nn.Module
        The fused network, on the CPU, in eval mode.
    pruned_model : nn.Module
        The network between the stages: pruned, not fused.
    layers : tuple of LayerReport
        One for each convolution of the chain, in order.
    config : RepairConfig
        The settings, with the seed.
    device : str
        Where the unlearning ran: a CPU's and a GPU's numbers differ in their last bits.
    versions : dict
        What `otbr_fast.show_versions` told: of this package and of those that numbers depend on,
        the SIMD path and the threads.
    input_hash, output_hash : str
        SHA-256 of the weights that came in and of those that went out (`state_dict_hash`).
    """

    model: nn.Module
    pruned_model: nn.Module
    layers: tuple[LayerReport, ...]
    config: RepairConfig
    device: str
    versions: dict[str, str | int | None]
    input_hash: str
    output_hash: str

    @property
    def seed(self) -> int:
        """The seed that all random numbers came from."""
        return self.config.seed

    @property
    def n_neurons(self) -> int:
        """Neurons of all layers together."""
        return sum(layer.n_neurons for layer in self.layers)

    @property
    def n_pruned(self) -> int:
        """Pruned neurons of all layers together."""
        return sum(layer.n_pruned for layer in self.layers)

    @property
    def ot_cost(self) -> float:
        """Transport cost of all layers together."""
        return sum(layer.ot_cost or 0.0 for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the networks, ready for JSON."""
        return {
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "n_neurons": self.n_neurons,
            "n_pruned": self.n_pruned,
            "ot_cost": self.ot_cost,
            "layers": [asdict(layer) for layer in self.layers],
            "device": self.device,
            "versions": dict(self.versions),
            "input_hash": self.input_hash,
            "output_hash": self.output_hash,
        }
