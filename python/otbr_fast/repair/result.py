"""What a repair hands back: the model, the facts of each layer, and where they came from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.hashing import state_dict_hash
from otbr_fast.repair.choice import Candidate, Proxies
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.evidence import Evidence
from otbr_fast.repair.nwc import NeuronValues
from otbr_fast.repair.prune import PrunedMasks
from otbr_fast.repair.space_fusion import SpaceTransport
from otbr_fast.repair.transport import LayerTransport

if TYPE_CHECKING:
    from otbr_fast.repair.stages import Stages

Transport = LayerTransport | SpaceTransport
"""Of one layer of the chain in paper mode, of one space of channels in default mode."""


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


def require_unchanged(original: nn.Module, input_hash: str) -> None:
    """Raise a `RepairError` if a network's weights are not those that came in."""
    if state_dict_hash(original.state_dict()) != input_hash:
        raise RepairError(
            "the network that was handed in has been changed, but what is asked for is made from "
            "it: ask before it is changed, or hand in a copy (copy.deepcopy)"
        )


@dataclass(frozen=True)
class RepairResult:
    """A mitigated network and how it was made.

    Parameters
    ----------
    model : nn.Module
        The fused network, on the CPU, in eval mode.
    original : nn.Module
        The network that came in, on the CPU, in eval mode; its weights are not copies if they were
        on the CPU.
    layers : tuple of LayerReport
        One for each space of channels, in order; in paper mode, for each convolution of the chain.
    config : RepairConfig
        The settings, with the seed.
    device : str
        Where networks were run: a CPU's and a GPU's numbers differ in their last bits.
    versions : dict
        What `otbr_fast.show_versions` told: of this package and of those that numbers depend on,
        the SIMD path and the threads.
    input_hash : str
        SHA-256 of the weights that came in (`state_dict_hash`).
    ranking : dict of str to ndarray, shape (n_out,)
        What each layer's neurons were ranked by.
    pruned : dict of str to ndarray of bool, shape (n_out,)
        Which were pruned.
    transports : tuple of LayerTransport or SpaceTransport
        The layers' optimal transports.
    evidence : Evidence, optional
        What the weights told before any was changed; ``None`` if no stage needed it.
    stages : Stages
        What was worked on: the chain of convolutions, or the spaces of channels.
    candidates : tuple of Candidate
        The fused networks, before distillation, if there was a choice: the first is taken that is
        enough when it is distilled.
    proxies_before : Proxies, optional
        The proxies of the network that came in, if there was a choice.
    mitigated : Candidate, optional
        The chosen one after distillation, if there was a choice.
    """

    model: nn.Module
    original: nn.Module
    layers: tuple[LayerReport, ...]
    config: RepairConfig
    device: str
    versions: dict[str, str | int | None]
    input_hash: str
    ranking: NeuronValues
    pruned: PrunedMasks
    transports: tuple[Transport, ...]
    evidence: Evidence | None
    stages: Stages
    candidates: tuple[Candidate, ...] = ()
    proxies_before: Proxies | None = None
    mitigated: Candidate | None = None

    @property
    def pruned_model(self) -> nn.Module:
        """The network between the stages, pruned and not fused: made when it is asked for.

        Raises
        ------
        RepairError
            The network that came in has been changed since.
        """
        require_unchanged(self.original, self.input_hash)
        return self.stages.pruned(self.original, self.pruned)

    @property
    def output_hash(self) -> str:
        """SHA-256 of the weights that went out."""
        return state_dict_hash(self.model.state_dict())

    @property
    def gamma(self) -> float | None:
        """The γ that was used; ``None`` if the network was left as it came."""
        return None if self.config.gamma == "auto" else self.config.gamma

    @property
    def lambda_(self) -> float | None:
        """The λ that was used; ``None`` if the network was left as it came."""
        if not self.is_changed or self.config.lambda_ == "auto":
            return None
        return self.config.lambda_

    @property
    def is_changed(self) -> bool:
        """Whether the network was touched: it is not where "auto" found no sign of a backdoor."""
        return self.gamma is not None

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
            "verdict": self.evidence and asdict(self.evidence.verdict),
            "suspect": self.evidence and self.evidence.suspect,
            "probes": self.evidence
            and [{"kind": way.kind, "lead": way.lead} for way in self.evidence.ways],
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "proxies_before": self.proxies_before and asdict(self.proxies_before),
            "mitigated": self.mitigated and self.mitigated.to_dict(),
            "device": self.device,
            "versions": dict(self.versions),
            "input_hash": self.input_hash,
            "output_hash": self.output_hash,
        }
