"""Defences to compare with: a new one is a file here and a line in `all_defences`."""

from otbr_fast.evaluate.defences.base import Case, Defence, Method, Setting, Trial
from otbr_fast.evaluate.defences.batch_norms import next_norms
from otbr_fast.evaluate.defences.blind import Blind
from otbr_fast.evaluate.defences.clp import ChannelLipschitzPruning
from otbr_fast.evaluate.defences.fine_tuning import FineTuning
from otbr_fast.evaluate.defences.sweeps import Sweep

__all__ = [
    "Blind",
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


_OUR_GAMMAS = (0.02, 0.05, 0.1, 0.2)


def all_defences(seed: int = 0) -> tuple[Defence, ...]:
    """Return all defences in the order of the table, ablations last.

    The seed is of those that draw numbers.
    """
    return (
        Sweep("paper", mode="paper", lambdas=(0.5,), pruned="nwc-pruning", seed=seed),
        Blind(seed=seed),
        Sweep("ours-hindsight", gammas=_OUR_GAMMAS, lambdas=(0.5, 0.75), seed=seed),
        ChannelLipschitzPruning(),
        ChannelLipschitzPruning("clp-published", next_norms),
        FineTuning(seed=seed),
        Blind("without-distillation", {"distil_steps": 0}, seed),
        Blind("without-refinement", {"distil_steps": 0, "recalibrate": False}, seed),
        Blind("ranked-by-nwc", {"ranking": "nwc"}, seed),
    )
