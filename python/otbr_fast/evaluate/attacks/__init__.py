"""The attack lab: triggers of the literature, and networks trained with them."""

from otbr_fast.evaluate.attacks.additive import Blended, LowFrequency, Sig
from otbr_fast.evaluate.attacks.base import Attack, LearnedAttack, MaskedAttack
from otbr_fast.evaluate.attacks.input_aware import InputAware
from otbr_fast.evaluate.attacks.normalization import measured_inputs
from otbr_fast.evaluate.attacks.outcome import Outcome, outcome_paths
from otbr_fast.evaluate.attacks.patches import BadNet, Trojan
from otbr_fast.evaluate.attacks.poisoning import LabelMode, Poisoning
from otbr_fast.evaluate.attacks.recipe import Recipe
from otbr_fast.evaluate.attacks.registry import ATTACKS, make_attack
from otbr_fast.evaluate.attacks.ssba import SsbaLike
from otbr_fast.evaluate.attacks.training import train
from otbr_fast.evaluate.attacks.wanet import WaNet

__all__ = [
    "ATTACKS",
    "Attack",
    "BadNet",
    "Blended",
    "InputAware",
    "LabelMode",
    "LearnedAttack",
    "LowFrequency",
    "MaskedAttack",
    "Outcome",
    "Poisoning",
    "Recipe",
    "Sig",
    "SsbaLike",
    "Trojan",
    "WaNet",
    "make_attack",
    "measured_inputs",
    "outcome_paths",
    "train",
]
