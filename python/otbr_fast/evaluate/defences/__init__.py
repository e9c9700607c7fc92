"""Defences to compare with: a new one is a file here and a line in `all_defences`."""

from otbr_fast.evaluate.defences.base import Case, Defence, Method, Setting, Trial
from otbr_fast.evaluate.defences.batch_norms import next_norms
from otbr_fast.evaluate.defences.clp import ChannelLipschitzPruning
from otbr_fast.evaluate.defences.fine_tuning import FineTuning
from otbr_fast.evaluate.defences.sweeps import Sweep

__all__ = [
    "Case",
    "ChannelLipschitzPruning",
    "Defence",
    "FineTuning",
    "Method",
    "Setting",
    "Sweep",
    "Trial",
    "all_defences",
]


def all_defences(seed: int = 0) -> tuple[Defence, ...]:
    """Return all defences, in the order of the table; the seed is of those that draw numbers."""
    return (
        Sweep("paper", mode="paper", lambdas=(0.5,), pruned="nwc-pruning", seed=seed),
        Sweep("ours-hindsight", mode="default", lambdas=(0.5, 0.75, 1.0), seed=seed),
        ChannelLipschitzPruning(),
        ChannelLipschitzPruning("clp-published", next_norms),
        FineTuning(seed=seed),
    )
