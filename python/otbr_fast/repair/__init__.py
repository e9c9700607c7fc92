"""Repair of backdoored networks without data: random unlearning, pruning, transport, fusion."""

from otbr_fast.repair.channels import ConvChain, ConvLayer, conv_chain
from otbr_fast.repair.config import PUBLISHED_GAMMAS, Mode, RepairConfig
from otbr_fast.repair.fuse import fuse, fuse_transported, layer_reports, transport_layers
from otbr_fast.repair.nwc import NeuronValues, mass, neuron_weight_changes, round_as_published
from otbr_fast.repair.pipeline import repair, sweep
from otbr_fast.repair.progress import Progress
from otbr_fast.repair.prune import PrunedMasks, RepairWarning, prune, select_pruned
from otbr_fast.repair.result import LayerReport, RepairResult
from otbr_fast.repair.transport import LayerTransport, transport_layer
from otbr_fast.repair.unlearn import random_unlearn

__all__ = [
    "PUBLISHED_GAMMAS",
    "ConvChain",
    "ConvLayer",
    "LayerReport",
    "LayerTransport",
    "Mode",
    "NeuronValues",
    "Progress",
    "PrunedMasks",
    "RepairConfig",
    "RepairResult",
    "RepairWarning",
    "conv_chain",
    "fuse",
    "fuse_transported",
    "layer_reports",
    "mass",
    "neuron_weight_changes",
    "prune",
    "random_unlearn",
    "repair",
    "round_as_published",
    "select_pruned",
    "sweep",
    "transport_layer",
    "transport_layers",
]
