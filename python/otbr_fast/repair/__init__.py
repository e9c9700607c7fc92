"""Repair of backdoored networks without data: evidence, ranking, pruning, transport, choice."""

from otbr_fast.repair.channels import ConvChain, ConvLayer, conv_chain
from otbr_fast.repair.choice import Candidate, Proxies, ProxyJudge, Watch
from otbr_fast.repair.config import PUBLISHED_GAMMAS, Mode, Ranking, RepairConfig
from otbr_fast.repair.costs import NeuronCosts, neuron_costs
from otbr_fast.repair.distil import distil
from otbr_fast.repair.evidence import Evidence, FirstLook, gather_evidence, gather_verdict
from otbr_fast.repair.fuse import (
    fuse,
    fuse_transported,
    layer_reports,
    transport_layers,
    transport_selections,
)
from otbr_fast.repair.kinds import Way
from otbr_fast.repair.nwc import NeuronValues, mass, neuron_weight_changes, round_as_published
from otbr_fast.repair.patch import patch_perturbation
from otbr_fast.repair.pipeline import repair, sweep
from otbr_fast.repair.probe import Probe, universal_perturbation
from otbr_fast.repair.progress import Progress
from otbr_fast.repair.prune import PrunedMasks, RepairWarning, prune, select_pruned
from otbr_fast.repair.recalibrate import recalibrate
from otbr_fast.repair.response import probe_response
from otbr_fast.repair.result import LayerReport, RepairResult
from otbr_fast.repair.space_fusion import (
    SpaceTransport,
    fuse_states,
    fused_tensors,
    space_changes,
    transport_space,
    transported_spaces,
    without_channels,
)
from otbr_fast.repair.space_matching import fuse_networks, match_spaces
from otbr_fast.repair.stages import ChainStages, SpaceStages, Stages, stages_of
from otbr_fast.repair.surrogates import Surrogates, renewed, synthesize
from otbr_fast.repair.transport import (
    LayerTransport,
    transport_layer,
    transport_neurons,
)
from otbr_fast.repair.unlearn import random_unlearn
from otbr_fast.repair.verdict import ClassEvidence, Verdict, judge, probe_classes
from otbr_fast.repair.warp import warp_perturbation
from otbr_fast.repair.waves import LeadingWaves, TriedWaves, leading_waves, try_waves
from otbr_fast.repair.ways import easiest_ways

__all__ = [
    "PUBLISHED_GAMMAS",
    "Candidate",
    "ChainStages",
    "ClassEvidence",
    "ConvChain",
    "ConvLayer",
    "Evidence",
    "FirstLook",
    "LayerReport",
    "LayerTransport",
    "LeadingWaves",
    "Mode",
    "NeuronCosts",
    "NeuronValues",
    "Probe",
    "Progress",
    "Proxies",
    "ProxyJudge",
    "PrunedMasks",
    "Ranking",
    "RepairConfig",
    "RepairResult",
    "RepairWarning",
    "SpaceStages",
    "SpaceTransport",
    "Stages",
    "Surrogates",
    "TriedWaves",
    "Verdict",
    "Watch",
    "Way",
    "conv_chain",
    "distil",
    "easiest_ways",
    "fuse",
    "fuse_networks",
    "fuse_states",
    "fuse_transported",
    "fused_tensors",
    "gather_evidence",
    "gather_verdict",
    "judge",
    "layer_reports",
    "leading_waves",
    "mass",
    "match_spaces",
    "neuron_costs",
    "neuron_weight_changes",
    "patch_perturbation",
    "probe_classes",
    "probe_response",
    "prune",
    "random_unlearn",
    "recalibrate",
    "renewed",
    "repair",
    "round_as_published",
    "select_pruned",
    "space_changes",
    "stages_of",
    "sweep",
    "synthesize",
    "transport_layer",
    "transport_layers",
    "transport_neurons",
    "transport_selections",
    "transport_space",
    "transported_spaces",
    "try_waves",
    "universal_perturbation",
    "warp_perturbation",
    "without_channels",
]
